// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
//go:build ignore

/*
 * A cache as lesson 10 has it: values whole in an LRU hash map that user space
 * updates, copied into the packet by whoever asks. Run on test packets only, it
 * counts the copies that hold parts of two values.
 */
#include "../headers/packet.bpf.h"

#define PROJECTION_LEN_MAX 4096

struct projection_key {
	u32 tenant;
	u32 projection;
};

struct projection_value {
	u64 version;
	u32 len;
	u32 reserved;
	u8 data[PROJECTION_LEN_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct projection_key);
	__type(value, struct projection_value);
} projections SEC(".maps");

struct counts {
	u64 answered;
	u64 missed;
	u64 torn;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct counts);
} counts SEC(".maps");

/* Whether all words of what was copied are the same. */
static __always_inline bool uniform(struct xdp_md *ctx, u32 offset, u32 len)
{
	void *end = (void *)(long)ctx->data_end;
	u64 *word = (void *)(long)ctx->data + offset;
	u64 first;

	if ((void *)(word + 1) > end)
		return true;
	first = *word;
	for (u32 i = 0; i < PROJECTION_LEN_MAX / sizeof(u64); i++) {
		if ((i + 1) * sizeof(u64) > len || (void *)(word + i + 1) > end)
			return true;
		if (word[i] != first)
			return false;
	}
	return true;
}

/* A packet is a key and room behind it. */
SEC("xdp")
int lru_cache(struct xdp_md *ctx)
{
	struct projection_key *asked = (void *)(long)ctx->data;
	u32 zero = 0;
	struct counts *c = bpf_map_lookup_elem(&counts, &zero);

	if (!c || (void *)(asked + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	struct projection_key key = *asked;
	struct projection_value *value = bpf_map_lookup_elem(&projections, &key);

	if (!value) {
		c->missed++;
		return XDP_PASS;
	}
	u64 len = *(volatile u32 *)&value->len;

	barrier_var(len); /* of all 64 bits: 6.1 doesn't carry bounds over from 32 */
	if (len > PROJECTION_LEN_MAX)
		return XDP_ABORTED;
	barrier_var(len); /* both bounds apart: kernels to 6.12 lose them in one comparison */
	if (len < sizeof(u64))
		return XDP_ABORTED;
	if (bpf_xdp_store_bytes(ctx, sizeof(key), value->data, len))
		return XDP_ABORTED;
	c->answered++;
	if (!uniform(ctx, sizeof(key), len))
		c->torn++;
	return XDP_TX;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
