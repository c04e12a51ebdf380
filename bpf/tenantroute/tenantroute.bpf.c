// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
//go:build ignore

/*
 * Finds the tenant of a query in the driver, and hands the packet to user space
 * with the slot of that tenant's instance: by an AF_XDP socket, a ring buffer, or
 * a perf buffer. Everything else goes to the stack untouched.
 *
 * Only frames with a checksum of their own are handed over. Behind the driver
 * nobody looks at the UDP checksum any more.
 */
#include "../headers/packet.bpf.h"
#include "tenantroute.h"

#include "../headers/datagram.bpf.h"
#include "../headers/frame.bpf.h"

#define CURRENT_CPU 0xffffffffull /* BPF_F_CURRENT_CPU, uapi/linux/bpf.h */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, u32);   /* tenant */
	__type(value, u32); /* slot */
} routes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 64);
	__type(key, u32); /* receive queue */
	__type(value, u32);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__type(key, u32);
	__type(value, u32);
} events SEC(".maps");

struct outcomes {
	u64 count[OUTCOMES];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct outcomes);
} outcomes SEC(".maps");

/* Finds the instance that a packet is for, or says why there is none. */
static __always_inline int route(struct xdp_md *ctx, struct handed *handed)
{
	struct datagram d;
	int outcome = take_datagram(ctx, &d);

	if (outcome != TAKEN)
		return outcome;
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct frame_header *header = data + d.payload;

	if (d.payload_len < sizeof(*header))
		return OTHER_FRAME;
	if ((void *)(header + 1) > end)
		return TRUNCATED;
	if (header->length != d.payload_len - sizeof(header->length) ||
	    header->version != FRAME_VERSION || header->kind != KIND_QUERY || header->status ||
	    header->flags)
		return OTHER_FRAME;
	u32 tenant = header->tenant;

	handed->packet_len = packet_length(ctx);
	if (handed->packet_len > PACKET_LEN_MAX || bpf_xdp_get_buff_len(ctx) != handed->packet_len)
		return TOO_LONG;
	u32 *slot = bpf_map_lookup_elem(&routes, &tenant);

	if (!slot)
		return UNROUTED;
	handed->slot = *slot;
	handed->taken_ns = bpf_ktime_get_ns();
	return HANDED;
}

static __always_inline void count(int outcome)
{
	u32 zero = 0;
	struct outcomes *o = bpf_map_lookup_elem(&outcomes, &zero);

	if (o && outcome >= 0 && outcome < OUTCOMES)
		o->count[outcome]++;
}

/* The slot travels in the metadata in front of the packet. */
static __always_inline int redirect(struct xdp_md *ctx, const struct handed *handed)
{
	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(*handed)))
		return XDP_PASS;
	struct handed *meta = (void *)(long)ctx->data_meta;

	if ((void *)(meta + 1) > (void *)(long)ctx->data)
		return XDP_PASS;
	*meta = *handed;
	/* Without a socket on this queue the packet passes, as it came. */
	int action = bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_PASS);

	if (action != XDP_REDIRECT)
		bpf_xdp_adjust_meta(ctx, sizeof(*handed));
	return action;
}

SEC("xdp.frags")
int route_socket(struct xdp_md *ctx)
{
	struct handed handed = {};
	int outcome = route(ctx, &handed), action = XDP_PASS;

	if (outcome == HANDED) {
		action = redirect(ctx, &handed);
		if (action == XDP_PASS)
			outcome = NO_ROOM;
	}
	count(outcome);
	return action;
}

/*
 * Puts a packet into the ring. route() made sure of its length; the verifier wants
 * to see it, and that of 6.1 each bound by itself and of all 64 bits.
 */
static __always_inline int record_packet(struct xdp_md *ctx, const struct handed *handed)
{
	struct record *record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
	u64 len = handed->packet_len;

	if (!record)
		return NO_ROOM;
	record->handed = *handed;
	barrier_var(len);
	if (len > PACKET_LEN_MAX)
		goto discard;
	barrier_var(len);
	if (len < sizeof(struct ethernet))
		goto discard;
	if (bpf_xdp_load_bytes(ctx, 0, record->packet, len))
		goto discard;
	bpf_ringbuf_submit(record, 0);
	return HANDED;
discard:
	bpf_ringbuf_discard(record, 0);
	return NO_ROOM;
}

SEC("xdp.frags")
int route_ring(struct xdp_md *ctx)
{
	struct handed handed = {};
	int outcome = route(ctx, &handed);

	if (outcome == HANDED)
		outcome = record_packet(ctx, &handed);
	count(outcome);
	return outcome == HANDED ? XDP_DROP : XDP_PASS; /* the copy is what counts */
}

SEC("xdp.frags")
int route_perf(struct xdp_md *ctx)
{
	struct handed handed = {};
	int outcome = route(ctx, &handed);

	if (outcome == HANDED &&
	    bpf_perf_event_output(ctx, &events, CURRENT_CPU | (u64)handed.packet_len << 32, &handed,
				  sizeof(handed)))
		outcome = NO_ROOM;
	count(outcome);
	return outcome == HANDED ? XDP_DROP : XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
