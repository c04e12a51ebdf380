// The guest of components/delta: compares vectors with the ones published last.
// delta.wit beside it is its interface; the exports follow that interface's
// canonical ABI.
//
// Every loop handles as many values as it can per turn: the host charges fuel
// for each turn.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wasm_simd128.h>

#define EXPORT(name) __attribute__((export_name(name)))
#define CHECKER	     "nexus:delta/checker@1.0.0#"

enum {
	KEYS_MAX = 256,
	VECTOR_BYTES_MAX = 2 << 20,
	DIMENSIONS_MAX = 2048,
	CAPACITY_MAX = 1 << 20,
	WAYS = 8,
	PAGE = 64 << 10
};
enum precision {
	FLOAT32,
	INT8,
	PRECISIONS
};
enum error {
	ALREADY_CONFIGURED,
	OUT_OF_RANGE,
	NO_MEMORY
};
enum decision {
	SKIP,
	CHANGED,
	UNKNOWN,
	INVALID
};

struct key {
	uint64_t high, low;
};

struct verdict {
	float distance;
	uint8_t decision, padding[3];
};
_Static_assert(sizeof(struct verdict) == 8, "canonical ABI of verdict");

struct verdicts {
	struct verdict *first;
	uint32_t count;
};

struct outcome {
	uint8_t is_error, error;
};

// entry is a key's published vector; its row is at the same place in rows.
struct entry {
	struct key key;
	float square;  // squared length of what the row holds
	uint32_t used; // when it was checked last; 0: free
};
_Static_assert(sizeof(struct entry) == 24, "entry");

static struct {
	uint32_t dimensions, row_len, sets, clock;
	enum precision precision;
	struct entry *entries;
	uint8_t *rows;
} cache;

static struct verdict verdicts[KEYS_MAX];
static struct verdicts result;
static struct outcome configured;
// What the host passes in; empty again after each call.
static _Alignas(16) uint8_t input[VECTOR_BYTES_MAX + KEYS_MAX * sizeof(struct key) + 64];
static uint32_t input_used;
// The vector in hand, padded with zeros to the length of a row.
static _Alignas(16) float floats[DIMENSIONS_MAX + 16];
static _Alignas(16) int8_t codes[DIMENSIONS_MAX + 16];

extern uint8_t __heap_base;

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

static struct outcome *fail(enum error error)
{
	configured = (struct outcome){1, error};
	return &configured;
}

EXPORT(CHECKER "configure")
struct outcome *configure(uint32_t dimensions, uint32_t capacity, uint32_t precision)
{
	if (cache.sets != 0)
		return fail(ALREADY_CONFIGURED);
	if (dimensions == 0 || dimensions > DIMENSIONS_MAX || capacity == 0 ||
	    capacity > CAPACITY_MAX || precision >= PRECISIONS)
		return fail(OUT_OF_RANGE);
	uint32_t sets = 1;
	while (sets * WAYS < capacity)
		sets *= 2;
	uint32_t padded = (dimensions + 15) & ~15u;
	uint32_t row_len = precision == INT8 ? padded : padded * sizeof(float);
	uint64_t entries_at = ((uintptr_t)&__heap_base + 15) & ~(uintptr_t)15;
	uint64_t rows_at = entries_at + (uint64_t)sets * WAYS * sizeof(struct entry);
	uint64_t end = rows_at + (uint64_t)sets * WAYS * row_len;
	uint64_t have = (uint64_t)__builtin_wasm_memory_size(0) * PAGE;
	if (end > UINT32_MAX)
		return fail(NO_MEMORY);
	if (end > have &&
	    __builtin_wasm_memory_grow(0, (end - have + PAGE - 1) / PAGE) == (size_t)-1)
		return fail(NO_MEMORY);
	cache.dimensions = dimensions;
	cache.row_len = row_len;
	cache.sets = sets;
	cache.precision = precision;
	cache.entries = (struct entry *)(uintptr_t)entries_at;
	cache.rows = (uint8_t *)(uintptr_t)rows_at;
	configured = (struct outcome){0, 0};
	return &configured;
}

static inline float add_lanes_f32(v128_t v)
{
	v = wasm_f32x4_add(v, wasm_i32x4_shuffle(v, v, 2, 3, 0, 1));
	v = wasm_f32x4_add(v, wasm_i32x4_shuffle(v, v, 1, 0, 3, 2));
	return wasm_f32x4_extract_lane(v, 0);
}

// dot_f32 multiplies 16 values a turn; n is a multiple of 16.
static float dot_f32(const float *a, const float *b, uint32_t n)
{
	v128_t s0 = wasm_f32x4_splat(0), s1 = s0, s2 = s0, s3 = s0;
	for (uint32_t i = 0; i < n; i += 16) {
		s0 = wasm_f32x4_add(s0,
				    wasm_f32x4_mul(wasm_v128_load(a + i), wasm_v128_load(b + i)));
		s1 = wasm_f32x4_add(
			s1, wasm_f32x4_mul(wasm_v128_load(a + i + 4), wasm_v128_load(b + i + 4)));
		s2 = wasm_f32x4_add(
			s2, wasm_f32x4_mul(wasm_v128_load(a + i + 8), wasm_v128_load(b + i + 8)));
		s3 = wasm_f32x4_add(
			s3, wasm_f32x4_mul(wasm_v128_load(a + i + 12), wasm_v128_load(b + i + 12)));
	}
	return add_lanes_f32(wasm_f32x4_add(wasm_f32x4_add(s0, s1), wasm_f32x4_add(s2, s3)));
}

static int32_t dot_i8(const int8_t *a, const int8_t *b, uint32_t n)
{
	v128_t sum = wasm_i32x4_splat(0);
	for (uint32_t i = 0; i < n; i += 16) {
		v128_t x = wasm_v128_load(a + i), y = wasm_v128_load(b + i);
		sum = wasm_i32x4_add(sum, wasm_i32x4_dot_i16x8(wasm_i16x8_extend_low_i8x16(x),
							       wasm_i16x8_extend_low_i8x16(y)));
		sum = wasm_i32x4_add(sum, wasm_i32x4_dot_i16x8(wasm_i16x8_extend_high_i8x16(x),
							       wasm_i16x8_extend_high_i8x16(y)));
	}
	sum = wasm_i32x4_add(sum, wasm_i32x4_shuffle(sum, sum, 2, 3, 0, 1));
	sum = wasm_i32x4_add(sum, wasm_i32x4_shuffle(sum, sum, 1, 0, 3, 2));
	return wasm_i32x4_extract_lane(sum, 0);
}

// quantize maps the largest absolute value to 127. The step is left out: a
// cosine doesn't depend on it.
static void quantize(uint32_t n)
{
	v128_t largest = wasm_f32x4_splat(0);
	for (uint32_t i = 0; i < n; i += 8) {
		largest = wasm_f32x4_max(largest, wasm_f32x4_abs(wasm_v128_load(floats + i)));
		largest = wasm_f32x4_max(largest, wasm_f32x4_abs(wasm_v128_load(floats + i + 4)));
	}
	largest = wasm_f32x4_max(largest, wasm_i32x4_shuffle(largest, largest, 2, 3, 0, 1));
	largest = wasm_f32x4_max(largest, wasm_i32x4_shuffle(largest, largest, 1, 0, 3, 2));
	float most = wasm_f32x4_extract_lane(largest, 0);
	// Below the normal numbers 127 / most overflows: such a vector counts as zero.
	v128_t scale = wasm_f32x4_splat(most < 0x1p-126f ? 0 : 127 / most);
	for (uint32_t i = 0; i < n; i += 16) {
		v128_t part[4];
#pragma clang loop unroll(full)
		for (int j = 0; j < 4; j++)
			part[j] = wasm_i32x4_trunc_sat_f32x4(wasm_f32x4_nearest(
				wasm_f32x4_mul(wasm_v128_load(floats + i + 4 * j), scale)));
		wasm_v128_store(codes + i,
				wasm_i8x16_narrow_i16x8(wasm_i16x8_narrow_i32x4(part[0], part[1]),
							wasm_i16x8_narrow_i32x4(part[2], part[3])));
	}
}

static inline bool same(struct key a, struct key b)
{
	return a.high == b.high && a.low == b.low;
}

static struct entry *set_of(struct key key)
{
	return cache.entries + (key.low & (cache.sets - 1)) * WAYS;
}

static struct entry *find(struct key key)
{
	struct entry *set = set_of(key);
	for (int way = 0; way < WAYS; way++)
		if (set[way].used != 0 && same(set[way].key, key))
			return set + way;
	return NULL;
}

// victim is a free entry of the key's set, or the least recently used one.
static struct entry *victim(struct key key)
{
	struct entry *set = set_of(key), *oldest = set;
	for (int way = 1; way < WAYS; way++)
		if (set[way].used < oldest->used)
			oldest = set + way;
	return oldest;
}

// tick is the time of a check. When the clock is used up all times are made
// equal and start anew.
static uint32_t tick(void)
{
	if (cache.clock == UINT32_MAX) {
		for (uint32_t i = 0; i < cache.sets * WAYS; i++)
			cache.entries[i].used = cache.entries[i].used != 0;
		cache.clock = 1;
	}
	return ++cache.clock;
}

static void publish(struct entry *e, struct key key, float square)
{
	const void *from = cache.precision == INT8 ? (const void *)codes : floats;
	__builtin_memcpy(cache.rows + (uint32_t)(e - cache.entries) * cache.row_len, from,
			 cache.row_len);
	e->key = key;
	e->square = square;
	e->used = tick();
}

// take copies a vector to where it is padded and returns its squared length.
static float take(const float *vector, uint32_t padded)
{
	__builtin_memcpy(floats, vector, cache.dimensions * sizeof(float));
	if (cache.precision == FLOAT32)
		return dot_f32(floats, floats, padded);
	quantize(padded);
	return dot_i8(codes, codes, padded);
}

static bool finite(const float *v, uint32_t padded)
{
	v128_t bad = wasm_i32x4_splat(0), zero = bad;
	for (uint32_t i = 0; i < padded; i += 8) {
		v128_t x = wasm_v128_load(v + i), y = wasm_v128_load(v + i + 4);
		// x - x is zero, unless x is infinite or no number.
		bad = wasm_v128_or(bad, wasm_f32x4_ne(wasm_f32x4_sub(x, x), zero));
		bad = wasm_v128_or(bad, wasm_f32x4_ne(wasm_f32x4_sub(y, y), zero));
	}
	return !wasm_v128_any_true(bad);
}

static float distance(const struct entry *e, float square, uint32_t padded)
{
	if (square == 0 || e->square == 0)
		return square == e->square ? 0 : 1;
	const uint8_t *row = cache.rows + (uint32_t)(e - cache.entries) * cache.row_len;
	float dot = cache.precision == INT8 ? (float)dot_i8(codes, (const int8_t *)row, padded)
					    : dot_f32(floats, (const float *)row, padded);
	return 1 - dot / (__builtin_sqrtf(square) * __builtin_sqrtf(e->square));
}

static struct verdict judge(struct key key, const float *vector, float threshold)
{
	uint32_t padded = (cache.dimensions + 15) & ~15u;
	float square = take(vector, padded);
	if (!finite(floats, padded) || square - square != 0)
		return (struct verdict){.decision = INVALID};
	struct entry *e = find(key);
	if (e == NULL) {
		publish(victim(key), key, square);
		return (struct verdict){.decision = UNKNOWN};
	}
	float far = distance(e, square, padded);
	e->used = tick();
	if (far <= threshold)
		return (struct verdict){far, SKIP, {0}};
	publish(e, key, square);
	return (struct verdict){far, CHANGED, {0}};
}

EXPORT(CHECKER "check")
struct verdicts *check(const struct key *keys, uint32_t count, const float *vectors,
		       uint32_t values, float threshold)
{
	if (cache.sets == 0 || count > KEYS_MAX || values != count * cache.dimensions ||
	    values > VECTOR_BYTES_MAX / sizeof(float))
		__builtin_trap();
	for (uint32_t i = 0; i < count; i++)
		verdicts[i] = judge(keys[i], vectors + i * cache.dimensions, threshold);
	result = (struct verdicts){verdicts, count};
	return &result;
}

EXPORT("cabi_post_" CHECKER "check")
void post_check(struct verdicts *returned)
{
	(void)returned;
	input_used = 0;
}

EXPORT(CHECKER "forget")
void forget(const struct key *keys, uint32_t count)
{
	if (cache.sets == 0 || count > KEYS_MAX)
		__builtin_trap();
	for (uint32_t i = 0; i < count; i++) {
		struct entry *e = find(keys[i]);
		if (e != NULL)
			e->used = 0;
	}
	input_used = 0;
}
