/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Finds the UDP datagram for a service in a packet, or says why there is none:
 * Ethernet, up to two VLAN tags, IPv4 without options or fragments, IPv6 without
 * extension headers. Package bpf/datagram says the same in Go.
 *
 * Whoever includes this has the outcomes below as constants of its own, above 0.
 */
#ifndef NEXUS_DATAGRAM_BPF_H
#define NEXUS_DATAGRAM_BPF_H

#include "packet.bpf.h"

enum {
	TAKEN = 0, /* NOT_IP TRUNCATED IP_OPTIONS FRAGMENT NOT_UDP OTHER_PORT
		    * BAD_ADDRESS BAD_LENGTH BAD_CHECKSUM are the includer's */
};

/* The service: set by the loader. Addresses of zero mean any. */
const volatile u16 service_port = 0; /* host order */
const volatile __be32 service_ipv4 = 0;
const volatile __be32 service_ipv6[4] = {};

static __always_inline u32 packet_length(const struct xdp_md *ctx)
{
	u64 length = (u64)ctx->data_end - (u64)ctx->data;

	barrier_var(length); /* the verifier takes no 32-bit arithmetic on pointers */
	return length;
}

static __always_inline int network_layer(void *data, void *end, u32 *offset, u16 *type)
{
	struct ethernet *eth = data;

	if ((void *)(eth + 1) > end)
		return TRUNCATED;
	*type = be16(eth->type);
	*offset = sizeof(*eth);
	if ((eth->dst[0] | eth->src[0]) & 1)
		return BAD_ADDRESS;
	for (int i = 0; i < VLAN_TAGS_MAX; i++) {
		struct vlan_tag *tag = data + *offset;

		if (*type != TYPE_VLAN && *type != TYPE_QINQ)
			break;
		if ((void *)(tag + 1) > end)
			return TRUNCATED;
		*type = be16(tag->type);
		*offset += sizeof(*tag);
	}
	return TAKEN;
}

/* A source that no host has: nothing, this host, many hosts. */
static __always_inline bool nobody4(__be32 address)
{
	u8 first = (u8)address;

	return first == 0 || first == 127 || first >= 224;
}

static __always_inline int take_ipv4(void *data, void *end, struct datagram *d)
{
	struct ipv4 *ip = data + d->network;
	u32 length;

	if ((void *)(ip + 1) > end)
		return TRUNCATED;
	if (ip->version_words >> 4 != 4)
		return NOT_IP;
	if (ip->version_words != 0x45)
		return IP_OPTIONS;
	if (ip->fragment & be16(IPV4_FRAGMENT))
		return FRAGMENT;
	if (ip->protocol != PROTOCOL_UDP)
		return NOT_UDP;
	length = be16(ip->length);
	if (length < sizeof(*ip) + sizeof(struct udp))
		return BAD_LENGTH;
	if (data + d->network + length > end)
		return TRUNCATED;
	d->payload = d->network + sizeof(*ip) + sizeof(struct udp);
	d->payload_len = length - sizeof(*ip) - sizeof(struct udp);
	return TAKEN;
}

static __always_inline int take_ipv6(void *data, void *end, struct datagram *d)
{
	struct ipv6 *ip = data + d->network;
	u32 length;

	if ((void *)(ip + 1) > end)
		return TRUNCATED;
	if ((ip->version_flow & be32(0xf0000000)) != be32(0x60000000))
		return NOT_IP;
	if (ip->next != PROTOCOL_UDP)
		return NOT_UDP;
	length = be16(ip->payload_length);
	if (length < sizeof(struct udp))
		return BAD_LENGTH;
	if (data + d->network + sizeof(*ip) + length > end)
		return TRUNCATED;
	d->v6 = true;
	d->payload = d->network + sizeof(*ip) + sizeof(struct udp);
	d->payload_len = length - sizeof(struct udp);
	return TAKEN;
}

/* Who asks whom: looked at only in a datagram for the service's port. */
static __always_inline int check_addresses(void *data, void *end, const struct datagram *d)
{
	if (d->v6) {
		struct ipv6 *ip = data + d->network;
		const __be32 mine[4] = {service_ipv6[0], service_ipv6[1], service_ipv6[2],
					service_ipv6[3]};
		const __be32 *from = ip->src;

		if ((void *)(ip + 1) > end)
			return TRUNCATED;
		if ((from[0] & be32(0xff000000)) == be32(0xff000000) ||
		    !(from[0] | from[1] | from[2]))
			return BAD_ADDRESS;
		if ((mine[0] | mine[1] | mine[2] | mine[3]) && !ipv6_equal(mine, ip->dst))
			return BAD_ADDRESS;
		return (ip->dst[0] & be32(0xff000000)) == be32(0xff000000) ? BAD_ADDRESS : TAKEN;
	}
	struct ipv4 *ip = data + d->network;

	if ((void *)(ip + 1) > end)
		return TRUNCATED;
	if (ipv4_sum(ip) != 0xffff)
		return BAD_CHECKSUM;
	if (nobody4(ip->src) || nobody4(ip->dst) || (service_ipv4 && ip->dst != service_ipv4))
		return BAD_ADDRESS;
	return TAKEN;
}

/* Finds the datagram; TAKEN means that it is one for the service. */
static __always_inline int take_datagram(struct xdp_md *ctx, struct datagram *d)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	u16 type;
	int outcome = network_layer(data, end, &d->network, &type);

	if (outcome != TAKEN)
		return outcome;
	d->v6 = false;
	if (type == TYPE_IPV4)
		outcome = take_ipv4(data, end, d);
	else if (type == TYPE_IPV6)
		outcome = take_ipv6(data, end, d);
	else
		outcome = NOT_IP;
	if (outcome != TAKEN)
		return outcome;

	struct udp *udp = data + d->payload - sizeof(struct udp);

	if ((void *)(udp + 1) > end)
		return TRUNCATED;
	if (udp->dst != be16(service_port))
		return OTHER_PORT;
	if (!udp->src)
		return BAD_ADDRESS;
	if (be16(udp->length) != d->payload_len + sizeof(*udp))
		return BAD_LENGTH;
	return check_addresses(data, end, d);
}

#endif
