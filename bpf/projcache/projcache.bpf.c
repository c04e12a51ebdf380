// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
//go:build ignore

/*
 * Answers requests for projections in the driver: a Get of the frame protocol
 * whose projection is in the cache leaves the way it came, with the projection
 * in it. Everything else goes to the stack untouched.
 *
 * An answer is never longer than its request's packet, so requests are padded.
 * How far a packet can grow is the driver's affair (next to nothing on veth),
 * and a server that answers short requests from made-up addresses with long
 * answers is a weapon.
 */
#include "../headers/packet.bpf.h"
#include "projcache.h"

#include "../headers/datagram.bpf.h"
#include "../headers/frame.bpf.h"

/* For runs that repeat one packet, outside of any driver: an answered request is
 * put back, and, with inspect, its projection must be one word over and over. */
const volatile bool rehearse = false;
const volatile bool inspect = false;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct projection_key);
	__type(value, u32); /* number of the slot */
} projections SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct slot);
} slots SEC(".maps");

/* The snapshot version that each tenant is served from; 0: none. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} snapshots SEC(".maps");

struct outcomes {
	u64 count[OUTCOMES];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct outcomes);
} outcomes SEC(".maps");

/* LAYOUT, and the program's own number: what is pinned must say the same. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} layout SEC(".maps");

struct get {
	struct frame_header header;
	u32 projection;
} __attribute__((packed));

/*
 * Reads of a slot around a copy. x86 keeps loads in order by itself; elsewhere
 * an atomic operation that changes nothing is the barrier.
 */
static __always_inline u32 sequence_of(struct slot *slot)
{
#ifdef __TARGET_ARCH_x86
	u32 sequence;

	barrier();
	sequence = *(volatile u32 *)&slot->sequence;
	barrier();
	return sequence;
#else
	return __sync_fetch_and_or(&slot->sequence, 0);
#endif
}

static __always_inline int take_get(struct xdp_md *ctx, const struct datagram *d,
				    struct projection_key *key)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct get *get = data + d->payload;

	if (d->payload_len < sizeof(*get))
		return OTHER_FRAME;
	if ((void *)(get + 1) > end)
		return TRUNCATED;
	if (get->header.length != d->payload_len - sizeof(get->header.length) ||
	    get->header.checksum || *(u32 *)&get->header.version != FRAME_WORD(KIND_GET))
		return OTHER_FRAME;
	/* Several buffers, as of jumbo frames: their tails are not for the program. */
	if (bpf_xdp_get_buff_len(ctx) != packet_length(ctx))
		return TRUNCATED;
	key->tenant = get->header.tenant;
	key->projection = get->projection;
	return ANSWERED;
}

/* Sends the headers back to where they came from, around a body that is in place. */
static __always_inline int turn_round(struct xdp_md *ctx, const struct datagram *d, u32 body_len,
				      u32 body_sum)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethernet *eth = data;
	struct udp *udp = data + d->payload - sizeof(struct udp);
	struct frame_header *header = (void *)(udp + 1);
	u32 udp_len = sizeof(*udp) + sizeof(*header) + body_len;
	u64 sum = body_sum;
	u8 mac[6];
	u16 check;

	if ((void *)(eth + 1) > end || (void *)(header + 1) > end)
		return TRUNCATED;
	__builtin_memcpy(mac, eth->dst, sizeof(mac));
	__builtin_memcpy(eth->dst, eth->src, sizeof(mac));
	__builtin_memcpy(eth->src, mac, sizeof(mac));
	if (d->v6) {
		struct ipv6 *ip = data + d->network;

		if ((void *)(ip + 1) > end)
			return TRUNCATED;
		for (int i = 0; i < 4; i++) {
			__be32 word = ip->src[i];

			ip->src[i] = ip->dst[i];
			ip->dst[i] = word;
			sum += (u64)ip->src[i] + word;
		}
		ip->payload_length = be16(udp_len);
		ip->hop_limit = TTL;
	} else {
		struct ipv4 *ip = data + d->network;
		__be32 src;

		if ((void *)(ip + 1) > end)
			return TRUNCATED;
		src = ip->src;
		ip->src = ip->dst;
		ip->dst = src;
		sum += (u64)ip->src + src;
		ip->length = be16(sizeof(*ip) + udp_len);
		ip->id = 0;
		ip->fragment = be16(IPV4_DONT_FRAGMENT);
		ip->ttl = TTL;
		ip->check = 0;
		ip->check = ~ipv4_sum(ip);
	}
	__be16 port = udp->src;

	udp->src = udp->dst;
	udp->dst = port;
	udp->length = be16(udp_len);
	header->length = LENGTH_REST + body_len;
	header->kind = KIND_GET | KIND_REPLY;
	sum += (u64)udp->src + udp->dst + 2 * (u64)udp->length + be16(PROTOCOL_UDP);
	const u32 *word = (const u32 *)header;

	for (int i = 0; i < (int)(sizeof(*header) / sizeof(u32)); i++)
		sum += word[i];
	check = ~fold(sum);
	udp->check = check ? check : 0xffff;
	return ANSWERED;
}

/*
 * Makes a request of a packet again that a copied body has overwritten. The
 * padding's former bytes are lost, and with them what the UDP checksum was of: a
 * datagram without one is as good. (IPv6 wants one. Where it was not checked by
 * the card already, the stack drops the datagram, and its sender asks again.)
 */
static __always_inline void put_back(struct xdp_md *ctx, const struct datagram *d, u32 packet_len,
				     u32 projection)
{
	if (bpf_xdp_adjust_tail(ctx, (int)packet_len - (int)packet_length(ctx)))
		return;
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct get *get = data + d->payload;
	struct udp *udp = data + d->payload - sizeof(struct udp);

	if ((void *)(get + 1) > end)
		return;
	get->projection = projection;
	if (!d->v6)
		udp->check = 0;
}

/* How a read of the cache goes on. */
struct reading {
	u32 packet_len; /* of the request */
	u32 body_len;
	u32 body_sum;
	u32 again;	  /* reads that found a value changing */
	bool overwritten; /* the packet holds part of an answer */
	bool torn;	  /* seen by a rehearsal */
};

/*
 * Looks whether an answer is torn: all words of its projection, which begins at
 * offset, must be equal. A function of its own is verified once, not per path.
 */
__noinline int is_torn(struct xdp_md *ctx, u32 offset)
{
	if (!ctx || offset > 128) /* far beyond any; the verifier must know */
		return 0;
	void *end = (void *)(long)ctx->data_end;
	u64 *word = (void *)(long)ctx->data + offset;
	u64 first;

	if ((void *)(word + 1) > end)
		return 0;
	first = *word;
	for (u32 i = 0; i < PROJECTION_LEN_MAX / sizeof(u64); i++) {
		if ((void *)(word + i + 1) > end)
			return 0;
		if (word[i] != first)
			return 1;
	}
	return 0;
}

/* Copies what key leads to behind the frame header, once whole, or says why not. */
static __always_inline int copy_body(struct xdp_md *ctx, const struct datagram *d,
				     const struct projection_key *key, struct reading *r)
{
	u32 *number = bpf_map_lookup_elem(&projections, key);

	if (!number)
		return MISSED;
	u32 at = *(volatile u32 *)number;
	struct slot *slot = bpf_map_lookup_elem(&slots, &at);

	if (!slot)
		return MISSED;
	u32 sequence = sequence_of(slot);
	u32 body = d->payload + sizeof(struct frame_header);
	u32 len = *(volatile u32 *)&slot->body_len;

	/* Another's by now, if the key is not the one that led here. */
	if (sequence & 1 || slot->key.tenant != key->tenant ||
	    slot->key.projection != key->projection || slot->key.snapshot != key->snapshot ||
	    len < BODY_HEADER_LEN || len > BODY_LEN_MAX)
		return CHANGING;
	r->body_sum = slot->body_sum;
	r->body_len = len;
	if (body + len > r->packet_len)
		return sequence_of(slot) == sequence ? TOO_LARGE : CHANGING;
	if (bpf_xdp_adjust_tail(ctx, (int)(body + len) - (int)packet_length(ctx)))
		return TOO_LARGE;
	r->overwritten = true;

	u64 copied = len;

	barrier_var(copied); /* verifiers before 6.18 have lost the bounds by now */
	if (copied < BODY_HEADER_LEN || copied > BODY_LEN_MAX)
		return CHANGING;
	if (bpf_xdp_store_bytes(ctx, body, slot->body, copied))
		return TOO_LARGE;
	if (sequence_of(slot) != sequence)
		return CHANGING;
	if (!slot->used)
		slot->used = 1;
	return ANSWERED;
}

static __always_inline int answer(struct xdp_md *ctx, struct reading *r)
{
	struct projection_key key = {};
	struct datagram d;
	int outcome = take_datagram(ctx, &d);

	if (outcome != ANSWERED)
		return outcome;
	outcome = take_get(ctx, &d, &key);
	if (outcome != ANSWERED)
		return outcome;
	r->packet_len = packet_length(ctx);
	u32 *snapshot = bpf_map_lookup_elem(&snapshots, &key.tenant);

	if (!snapshot || !(key.snapshot = *(volatile u32 *)snapshot))
		return TENANT_UNKNOWN;
	for (int i = 0; i < READS_MAX; i++) {
		outcome = copy_body(ctx, &d, &key, r);
		if (outcome != CHANGING)
			break;
		r->again++;
	}
	if (outcome == ANSWERED)
		outcome = turn_round(ctx, &d, r->body_len, r->body_sum);
	if (outcome != ANSWERED && r->overwritten)
		put_back(ctx, &d, r->packet_len, key.projection);
	if (outcome == ANSWERED && rehearse) {
		if (inspect)
			r->torn = is_torn(ctx, d.payload + sizeof(struct frame_header) +
						       BODY_HEADER_LEN);
		turn_round(ctx, &d, d.payload_len - sizeof(struct frame_header), 0);
		put_back(ctx, &d, r->packet_len, key.projection);
		void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
		struct get *get = data + d.payload;

		if ((void *)(get + 1) <= end)
			get->header.kind = KIND_GET;
	}
	return outcome;
}

SEC("xdp.frags")
int projection_cache(struct xdp_md *ctx)
{
	u32 zero = 0;
	struct reading r = {};
	int outcome = answer(ctx, &r);
	struct outcomes *o = bpf_map_lookup_elem(&outcomes, &zero);

	if (o && outcome >= 0 && outcome < OUTCOMES) {
		o->count[outcome]++;
		if (r.again)
			o->count[READ_AGAIN] += r.again;
		if (r.torn)
			o->count[TORN]++;
	}
	return outcome == ANSWERED ? XDP_TX : XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
