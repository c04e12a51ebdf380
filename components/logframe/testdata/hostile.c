// A guest with logframe.wit's interface that does what the first byte of a
// record says. It refuses harmless records as too short, since it frames none.

#include <stdbool.h>
#include <stdint.h>

#define EXPORT(name) __attribute__((export_name(name)))
#define FRAMER	     "nexus:logframe/framer@1.0.0#"

struct verdict {
	uint64_t sequence, timestamp;
	uint32_t framed_len;
	uint8_t refusal, padding[3];
};
struct outcome {
	struct verdict *verdicts;
	uint32_t verdict_count;
	uint8_t *framed;
	uint32_t framed_len;
};

static uint8_t input[512 << 10];
static uint32_t input_used;
static struct verdict verdicts[256];
static struct outcome outcome;
static volatile uint32_t sink;

EXPORT("cabi_realloc")
void *cabi_realloc(void *old, uint32_t old_size, uint32_t align, uint32_t size)
{
	(void)old, (void)old_size;
	input_used = (input_used + align - 1) & ~(align - 1);
	void *at = input + input_used;
	input_used += size;
	return at;
}

EXPORT(FRAMER "configure")
void configure(uint32_t tenant, uint64_t next, uint64_t last, uint32_t min, uint32_t max,
	       uint32_t encoding, uint32_t schema)
{
	(void)tenant, (void)next, (void)last, (void)min, (void)max, (void)encoding, (void)schema;
}

EXPORT(FRAMER "rewind") void rewind(uint64_t next, uint64_t last)
{
	(void)next, (void)last;
}

static void misbehave(uint8_t how, uint32_t count)
{
	switch (how) {
	case 'T':
		__builtin_trap();
	case 'L':
		for (;;)
			sink++;
	case 'G': // takes all memory that it gets, then wants more for ever
		for (;;)
			__builtin_wasm_memory_grow(0, 1);
	case 'W':
		*(volatile uint32_t *)0xfffffff0 = 1;
		break;
	case 'V':
		outcome.verdicts = (struct verdict *)0xfffffff0;
		break;
	case 'F':
		outcome.framed = (uint8_t *)0xfffffff0, outcome.framed_len = 64;
		break;
	case 'C':
		outcome.verdict_count = count + 1;
		break;
	case 'R':
		verdicts[count - 1].refusal = 200;
		break;
	case 'N':
		verdicts[count - 1].framed_len = 0xffffffff;
		break;
	case 'S': // a framed record with a sequence out of the blue
		verdicts[count - 1] = (struct verdict){.sequence = 1ull << 60, .framed_len = 24};
		outcome.framed_len = 24;
		break;
	case 'X':
		outcome.framed_len = 100;
		break; // bytes of no record
	}
}

EXPORT(FRAMER "frame")
struct outcome *frame(const uint8_t *records, uint32_t records_len, const uint32_t *lens,
		      uint32_t count)
{
	(void)records_len;
	outcome = (struct outcome){verdicts, count, input, 0};
	for (uint32_t i = 0; i < count; i++)
		verdicts[i] = (struct verdict){.refusal = 1};
	for (uint32_t i = 0; i < count; records += lens[i++])
		if (lens[i] > 0)
			misbehave(records[0], count);
	return &outcome;
}

EXPORT("cabi_post_" FRAMER "frame")
void post_frame(struct outcome *result)
{
	(void)result;
	input_used = 0;
}
