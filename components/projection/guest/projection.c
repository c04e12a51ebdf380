// The guest of components/projection: folds one tenant's events and encodes the
// result. projection.wit beside it is its interface; the exports follow that
// interface's canonical ABI.
//
// The state is bounded: exact totals, the newest orders in a ring, and the best
// selling products by the Space-Saving algorithm (Metwally et al. 2005): a
// product without a slot takes the slot that sold least and inherits its count,
// which stays on record as `over`. Both lists are searched with SIMD.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wasm_simd128.h>

#define EXPORT(name) __attribute__((export_name(name)))
#define FOLD	     "nexus:projection/fold@1.0.0#"

enum {
	SLOTS = 128, // of products and of orders
	EVENTS_MAX = 4096,
	ENCODED_MAX = 4096,
	STATE_FORMAT = 1
};
enum kind {
	PLACED = 1,
	PAID,
	SHIPPED,
	CANCELLED,
	PRICED
};
static const uint32_t STATE_MAGIC = 0x5350584e; // "NXPS"

struct event {
	uint64_t time;
	uint32_t order, product, amount;
	uint16_t quantity;
	uint8_t kind, padding;
};
_Static_assert(sizeof(struct event) == 24, "canonical ABI of event");

struct counts {
	uint64_t time, units, refunded;
	uint32_t placed, paid, shipped, cancelled, priced, refused;
};
_Static_assert(sizeof(struct counts) == 48, "counts as in the FlatBuffer");

struct order {
	uint64_t time;
	uint32_t order, product, amount;
	uint8_t status, padding[3];
};
_Static_assert(sizeof(struct order) == 24, "order as in the FlatBuffer");

struct product {
	uint32_t product, units, over, price;
};

static struct {
	uint32_t magic, format;
	uint64_t seq, revenue;
	struct counts counts;
	uint32_t products, orders, newest, zero; // slots in use; ring position of the newest order
	_Alignas(16) uint32_t product[SLOTS];
	_Alignas(16) uint32_t units[SLOTS];
	uint32_t over[SLOTS], price[SLOTS];
	_Alignas(16) uint32_t order[SLOTS];
	struct order recent[SLOTS];
} state;
_Static_assert(sizeof state == 5728, "state as components/projection states it");

static struct list {
	const void *data;
	uint32_t len;
} result;

// What the host passes in; empty again after each call.
static _Alignas(16) uint8_t input[EVENTS_MAX * sizeof(struct event)];
static uint32_t input_used;
static _Alignas(16) uint8_t encoded[ENCODED_MAX];

// cabi_realloc is how the host asks for room for arguments. It never grows or
// moves anything; without room it traps, as the canonical ABI says.
EXPORT("cabi_realloc")
void *cabi_realloc(void *old, uint32_t old_size, uint32_t align, uint32_t size)
{
	if (old != NULL || old_size != 0 || align == 0 || (align & (align - 1)) != 0 || align > 16)
		__builtin_trap();
	uint32_t start = (input_used + align - 1) & ~(align - 1);
	if (start > sizeof input || size > sizeof input - start)
		__builtin_trap();
	input_used = start + size;
	return input + start;
}

// find returns the index of key among the first used keys, or SLOTS. Keys behind
// used may hold anything.
static uint32_t find(const uint32_t *keys, uint32_t used, uint32_t key)
{
	v128_t wanted = wasm_u32x4_splat(key);
	for (uint32_t i = 0; i < used; i += 16) {
		v128_t a = wasm_i32x4_eq(wasm_v128_load(keys + i), wanted);
		v128_t b = wasm_i32x4_eq(wasm_v128_load(keys + i + 4), wanted);
		v128_t c = wasm_i32x4_eq(wasm_v128_load(keys + i + 8), wanted);
		v128_t d = wasm_i32x4_eq(wasm_v128_load(keys + i + 12), wanted);
		uint32_t hits = wasm_i8x16_bitmask(wasm_i8x16_narrow_i16x8(
			wasm_i16x8_narrow_i32x4(a, b), wasm_i16x8_narrow_i32x4(c, d)));
		if (hits != 0) {
			uint32_t at = i + __builtin_ctz(hits);
			return at < used ? at : SLOTS;
		}
	}
	return SLOTS;
}

// least returns the first of the slots that sold the fewest units; all are in use.
static uint32_t least(void)
{
	v128_t min = wasm_u32x4_splat(~0u);
	for (uint32_t i = 0; i < SLOTS; i += 16) {
		v128_t ab = wasm_u32x4_min(wasm_v128_load(state.units + i),
					   wasm_v128_load(state.units + i + 4));
		v128_t cd = wasm_u32x4_min(wasm_v128_load(state.units + i + 8),
					   wasm_v128_load(state.units + i + 12));
		min = wasm_u32x4_min(min, wasm_u32x4_min(ab, cd));
	}
	min = wasm_u32x4_min(min, wasm_i32x4_shuffle(min, min, 2, 3, 0, 1));
	min = wasm_u32x4_min(min, wasm_i32x4_shuffle(min, min, 1, 0, 3, 2));
	return find(state.units, SLOTS, wasm_u32x4_extract_lane(min, 0));
}

static void sell(uint32_t product, uint32_t quantity)
{
	uint32_t slot = find(state.product, state.products, product);
	if (slot == SLOTS) {
		if (state.products < SLOTS) {
			slot = state.products++;
			state.units[slot] = 0;
		} else {
			slot = least();
		}
		state.product[slot] = product;
		state.over[slot] = state.units[slot];
		state.price[slot] = 0;
	}
	uint32_t sum = state.units[slot] + quantity;
	state.units[slot] = sum < quantity ? ~0u : sum;
}

static void place(const struct event *e)
{
	state.counts.placed++;
	state.counts.units += e->quantity;
	sell(e->product, e->quantity);
	if (state.orders < SLOTS)
		state.newest = state.orders++;
	else
		state.newest = (state.newest + 1) % SLOTS;
	state.order[state.newest] = e->order;
	state.recent[state.newest] = (struct order){
		.time = e->time,
		.order = e->order,
		.product = e->product,
		.amount = e->amount,
		.status = PLACED,
	};
}

// mark sets the status of an order that is still among the newest.
static void mark(uint32_t order, enum kind status)
{
	uint32_t slot = find(state.order, state.orders, order);
	if (slot != SLOTS)
		state.recent[slot].status = status;
}

static void fold(const struct event *e)
{
	switch (e->kind) {
	case PLACED:
		place(e);
		break;
	case PAID:
		state.counts.paid++;
		state.revenue += e->amount;
		mark(e->order, PAID);
		break;
	case SHIPPED:
		state.counts.shipped++;
		mark(e->order, SHIPPED);
		break;
	case CANCELLED:
		state.counts.cancelled++;
		state.counts.refunded += e->amount;
		mark(e->order, CANCELLED);
		break;
	case PRICED: {
		state.counts.priced++;
		uint32_t slot = find(state.product, state.products, e->product);
		if (slot != SLOTS)
			state.price[slot] = e->amount;
		break;
	}
	default:
		state.counts.refused++;
		return;
	}
	state.counts.time = e->time;
}

EXPORT(FOLD "apply")
uint64_t apply(const struct event *events, uint32_t count)
{
	input_used = 0;
	if (count > EVENTS_MAX)
		__builtin_trap();
	for (uint32_t i = 0; i < count; i++)
		fold(&events[i]);
	return state.seq += count;
}

EXPORT(FOLD "restore")
bool restore(const uint8_t *saved, uint32_t len)
{
	input_used = 0;
	if (len != sizeof state)
		return false;
	__typeof__(state) *s = (void *)saved;
	if (s->magic != STATE_MAGIC || s->format != STATE_FORMAT || s->products > SLOTS ||
	    s->orders > SLOTS || s->newest >= SLOTS)
		return false;
	state = *s;
	return true;
}

EXPORT(FOLD "save")
struct list *save(void)
{
	state.magic = STATE_MAGIC;
	state.format = STATE_FORMAT;
	result = (struct list){&state, sizeof state};
	return &result;
}

static uint8_t *put(uint8_t *at, const void *data, uint32_t len)
{
	__builtin_memcpy(at, data, len);
	return at + len;
}

static uint8_t *put32(uint8_t *at, uint32_t v)
{
	return put(at, &v, sizeof v);
}

// best fills ranked with the n best selling slots, by insertion.
static void best(uint8_t *ranked, uint32_t n)
{
	uint32_t have = 0;
	for (uint32_t slot = 0; slot < state.products; slot++) {
		uint32_t units = state.units[slot], product = state.product[slot];
		uint32_t at = have;
		for (; at > 0; at--) {
			uint32_t other = ranked[at - 1];
			if (state.units[other] > units ||
			    (state.units[other] == units && state.product[other] < product))
				break;
			if (at < n)
				ranked[at] = other;
		}
		if (at < n)
			ranked[at] = slot;
		if (have < n)
			have++;
	}
}

static uint8_t *put_top(uint8_t *at, uint32_t n)
{
	uint8_t ranked[SLOTS];
	best(ranked, n);
	at = put32(at, n);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t slot = ranked[i];
		struct product p = {state.product[slot], state.units[slot], state.over[slot],
				    state.price[slot]};
		at = put(at, &p, sizeof p);
	}
	return at;
}

static uint8_t *put_recent(uint8_t *at, uint32_t n)
{
	at = put32(at, n);
	for (uint32_t i = 0; i < n; i++)
		at = put(at, &state.recent[(state.newest + SLOTS - i) % SLOTS],
			 sizeof(struct order));
	return at;
}

// encode lays the FlatBuffer out from front to back: the root's offset and the
// identifier, the vtable, the table, then its vectors. Everything is aligned to
// its size from the start of the buffer.
EXPORT(FOLD "encode")
struct list *encode(uint64_t version, uint32_t counts, uint32_t top, uint32_t recent)
{
	enum {
		VTABLE = 8,
		TABLE = 24,
		COUNTS = 40, // offsets in the table
		VECTOR_TOP = 4,
		VECTOR_RECENT = 8,
		TABLE_LEN = 40
	};
	if (top > state.products)
		top = state.products;
	if (recent > state.orders)
		recent = state.orders;
	uint32_t table_len = TABLE_LEN + (counts ? sizeof(struct counts) : 0);
	if (TABLE + table_len + 4 + top * sizeof(struct product) + 8 +
		    recent * sizeof(struct order) >
	    ENCODED_MAX)
		__builtin_trap();
	const uint16_t vtable[8] = {
		sizeof vtable,
		table_len,
		16,
		24,
		32,
		counts ? COUNTS : 0,
		top ? VECTOR_TOP : 0,
		recent ? VECTOR_RECENT : 0,
	};
	put(put32(encoded, TABLE), "NXPJ", 4);
	put(encoded + VTABLE, vtable, sizeof vtable);
	uint8_t *table = encoded + TABLE, *end = table + table_len;
	__builtin_memset(table, 0, TABLE_LEN);
	put32(table, TABLE - VTABLE);
	put(put(put(table + 16, &version, 8), &state.seq, 8), &state.revenue, 8);
	if (counts)
		put(table + COUNTS, &state.counts, sizeof state.counts);
	if (top) {
		put32(table + VECTOR_TOP, end - (table + VECTOR_TOP));
		end = put_top(end, top);
	}
	if (recent) {
		// The orders behind the length are aligned to 8 bytes.
		if (((end - encoded) & 7) != 4)
			end = put32(end, 0);
		put32(table + VECTOR_RECENT, end - (table + VECTOR_RECENT));
		end = put_recent(end, recent);
	}
	if (((end - encoded) & 7) != 0)
		end = put32(end, 0);
	result = (struct list){encoded, end - encoded};
	return &result;
}
