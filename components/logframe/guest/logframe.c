// The guest of components/logframe: validates and frames the records of one
// tenant inside its linear memory. logframe.wit beside it is its interface; the
// exports follow that interface's canonical ABI.
//
// Every loop handles as many bytes as it can per turn: the host charges fuel
// for each turn.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wasm_simd128.h>

#define EXPORT(name) __attribute__((export_name(name)))
#define FRAMER	     "nexus:logframe/framer@1.0.0#"

enum {
	RECORDS_MAX = 256,
	BYTES_MAX = 256 << 10,
	HEADER_LEN = 24
};
enum {
	EVENT_HEADER_LEN = 12,
	KIND_MAX = 4
};
enum encoding {
	BINARY,
	TEXT,
	ENCODINGS
};
enum schema {
	NONE,
	EVENT,
	SCHEMAS
};
enum refusal {
	FRAMED,
	TOO_SHORT,
	TOO_LONG,
	NOT_TEXT,
	BAD_HEADER,
	TIME_WENT_BACK
};

// The framed record. crc is CRC32C of all that follows it, payload included.
struct header {
	uint32_t crc, len;
	uint64_t sequence;
	uint32_t tenant, zero;
};
_Static_assert(sizeof(struct header) == HEADER_LEN, "framed header");

struct verdict {
	uint64_t sequence, timestamp;
	uint32_t framed_len;
	uint8_t refusal, padding[3];
};
_Static_assert(sizeof(struct verdict) == 24, "canonical ABI of verdict");

struct outcome {
	struct verdict *verdicts;
	uint32_t verdict_count;
	uint8_t *framed;
	uint32_t framed_len;
};
_Static_assert(sizeof(struct outcome) == 16, "canonical ABI of outcome");

static struct {
	uint64_t next_sequence, last_timestamp;
	uint32_t tenant, len_min, len_max;
	enum encoding encoding;
	enum schema schema;
	bool configured;
} state;

static struct verdict verdicts[RECORDS_MAX];
static struct outcome outcome;
static uint32_t crc_tables[16][256];
// What the host passes in; empty again after each call.
static _Alignas(16) uint8_t input[BYTES_MAX + 4 * RECORDS_MAX + 64];
static uint32_t input_used;
static _Alignas(16) uint8_t framed[BYTES_MAX + HEADER_LEN * RECORDS_MAX];

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

EXPORT("_initialize")
void initialize(void)
{
	for (uint32_t byte = 0; byte < 256; byte++) {
		uint32_t crc = byte;
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
		crc_tables[0][byte] = crc;
	}
	for (int slice = 1; slice < 16; slice++)
		for (int byte = 0; byte < 256; byte++) {
			uint32_t crc = crc_tables[slice - 1][byte];
			crc_tables[slice][byte] = crc >> 8 ^ crc_tables[0][crc & 0xff];
		}
}

static inline uint32_t load32(const uint8_t *p)
{
	uint32_t v;
	__builtin_memcpy(&v, p, sizeof v);
	return v;
}

static inline uint64_t load64(const uint8_t *p)
{
	uint64_t v;
	__builtin_memcpy(&v, p, sizeof v);
	return v;
}

// lookup4 pushes the four bytes of word through tables top, top-1, ...
static inline uint32_t lookup4(uint32_t word, int top)
{
	return crc_tables[top][word & 0xff] ^ crc_tables[top - 1][word >> 8 & 0xff] ^
	       crc_tables[top - 2][word >> 16 & 0xff] ^ crc_tables[top - 3][word >> 24];
}

static inline uint32_t crc16(uint32_t crc, const uint8_t *p)
{
	return lookup4(load32(p) ^ crc, 15) ^ lookup4(load32(p + 4), 11) ^
	       lookup4(load32(p + 8), 7) ^ lookup4(load32(p + 12), 3);
}

// crc32c is slicing-by-16, four slices a turn: Wasm has no CRC instruction.
static uint32_t crc32c(const uint8_t *p, uint32_t len)
{
	uint32_t crc = ~0u;
	for (; len >= 64; p += 64, len -= 64) {
		crc = crc16(crc, p);
		crc = crc16(crc, p + 16);
		crc = crc16(crc, p + 32);
		crc = crc16(crc, p + 48);
	}
	for (; len >= 16; p += 16, len -= 16)
		crc = crc16(crc, p);
	for (; len > 0; p++, len--)
		crc = crc >> 8 ^ crc_tables[0][(crc ^ *p) & 0xff];
	return ~crc;
}

// multibyte returns the length of the well-formed UTF-8 sequence of more than
// one byte at p, or 0 (Unicode 15, table 3-7: no overlong forms, no surrogates,
// nothing above U+10FFFF).
static uint32_t multibyte(const uint8_t *p, uint32_t left)
{
	uint8_t lead = p[0], low = 0x80, high = 0xbf;
	uint32_t len = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
	if (lead < 0xc2 || lead > 0xf4 || left < len)
		return 0;
	switch (lead) {
	case 0xe0:
		low = 0xa0;
		break;
	case 0xed:
		high = 0x9f;
		break;
	case 0xf0:
		low = 0x90;
		break;
	case 0xf4:
		high = 0x8f;
		break;
	}
	if (p[1] < low || p[1] > high)
		return 0;
	if (len > 2 && (p[2] & 0xc0) != 0x80)
		return 0;
	if (len > 3 && (p[3] & 0xc0) != 0x80)
		return 0;
	return len;
}

static bool is_text(const uint8_t *p, uint32_t len)
{
	while (len > 0) {
		// Runs of ASCII, 64 and then 16 bytes a turn.
		for (; len >= 64; p += 64, len -= 64) {
			v128_t any = wasm_v128_or(
				wasm_v128_or(wasm_v128_load(p), wasm_v128_load(p + 16)),
				wasm_v128_or(wasm_v128_load(p + 32), wasm_v128_load(p + 48)));
			if (wasm_i8x16_bitmask(any) != 0)
				break;
		}
		for (; len >= 16; p += 16, len -= 16)
			if (wasm_i8x16_bitmask(wasm_v128_load(p)) != 0)
				break;
		// Then one character at a time up to the next run's chance.
		for (int turn = 0; turn < 16 && len > 0; turn++) {
			uint32_t took = p[0] < 0x80 ? 1 : multibyte(p, len);
			if (took == 0)
				return false;
			p += took;
			len -= took;
		}
	}
	return true;
}

static enum refusal validate(const uint8_t *record, uint32_t len, uint64_t *timestamp)
{
	if (len < state.len_min)
		return TOO_SHORT;
	if (len > state.len_max)
		return TOO_LONG;
	if (state.schema == EVENT) {
		if (len < EVENT_HEADER_LEN || record[0] != 'N' || record[1] != 'X' ||
		    record[2] == 0 || record[2] > KIND_MAX || record[3] != 0)
			return BAD_HEADER;
		*timestamp = load64(record + 4);
		if (*timestamp < state.last_timestamp)
			return TIME_WENT_BACK;
		record += EVENT_HEADER_LEN;
		len -= EVENT_HEADER_LEN;
	}
	if (state.encoding == TEXT && !is_text(record, len))
		return NOT_TEXT;
	return FRAMED;
}

// frame_one appends the framed record at out and returns its length.
static uint32_t frame_one(uint8_t *out, const uint8_t *record, uint32_t len)
{
	struct header header = {
		.len = len,
		.sequence = state.next_sequence++,
		.tenant = state.tenant,
	};
	__builtin_memcpy(out, &header, HEADER_LEN);
	__builtin_memcpy(out + HEADER_LEN, record, len);
	uint32_t crc = crc32c(out + sizeof crc, HEADER_LEN - sizeof crc + len);
	__builtin_memcpy(out, &crc, sizeof crc);
	return HEADER_LEN + len;
}

EXPORT(FRAMER "configure")
void configure(uint32_t tenant, uint64_t next_sequence, uint64_t last_timestamp, uint32_t len_min,
	       uint32_t len_max, uint32_t encoding, uint32_t schema)
{
	if (len_max > BYTES_MAX || encoding >= ENCODINGS || schema >= SCHEMAS)
		__builtin_trap();
	state.tenant = tenant;
	state.next_sequence = next_sequence;
	state.last_timestamp = last_timestamp;
	state.len_min = len_min;
	state.len_max = len_max;
	state.encoding = encoding;
	state.schema = schema;
	state.configured = true;
}

EXPORT(FRAMER "rewind")
void rewind(uint64_t next_sequence, uint64_t last_timestamp)
{
	state.next_sequence = next_sequence;
	state.last_timestamp = last_timestamp;
}

EXPORT(FRAMER "frame")
struct outcome *frame(const uint8_t *records, uint32_t records_len, const uint32_t *lens,
		      uint32_t count)
{
	if (!state.configured || count > RECORDS_MAX || records_len > BYTES_MAX)
		__builtin_trap();
	uint8_t *out = framed;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t len = lens[i];
		if (len > records_len)
			__builtin_trap();
		uint64_t timestamp = state.last_timestamp;
		struct verdict *verdict = &verdicts[i];
		verdict->refusal = validate(records, len, &timestamp);
		verdict->sequence = verdict->framed_len = 0;
		if (verdict->refusal == FRAMED) {
			verdict->sequence = state.next_sequence;
			verdict->framed_len = frame_one(out, records, len);
			out += verdict->framed_len;
			state.last_timestamp = timestamp;
		}
		verdict->timestamp = state.last_timestamp;
		records += len;
		records_len -= len;
	}
	if (records_len != 0)
		__builtin_trap();
	outcome = (struct outcome){verdicts, count, framed, out - framed};
	return &outcome;
}

EXPORT("cabi_post_" FRAMER "frame")
void post_frame(struct outcome *result)
{
	(void)result;
	input_used = 0;
}
