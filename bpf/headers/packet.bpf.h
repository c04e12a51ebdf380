/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What XDP programs need to take a UDP datagram apart and to answer it in its
 * own buffer. Layouts are those of IEEE 802.1Q and RFC 768, 791 and 8200.
 */
#ifndef NEXUS_PACKET_BPF_H
#define NEXUS_PACKET_BPF_H

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

/* uapi/linux/bpf.h */
struct xdp_md {
	u32 data;
	u32 data_end;
	u32 data_meta;
	u32 ingress_ifindex;
	u32 rx_queue_index;
	u32 egress_ifindex;
};

enum {
	XDP_ABORTED = 0,
	XDP_DROP = 1,
	XDP_PASS = 2,
	XDP_TX = 3,
	XDP_REDIRECT = 4,
};

struct ethernet {
	u8 dst[6];
	u8 src[6];
	__be16 type;
} __attribute__((packed));

struct vlan_tag {
	__be16 control;
	__be16 type;
};

struct ipv4 {
	u8 version_words; /* version 4, header length in words of 4 bytes */
	u8 tos;
	__be16 length;
	__be16 id;
	__be16 fragment;
	u8 ttl;
	u8 protocol;
	__sum16 check;
	__be32 src;
	__be32 dst;
};

struct ipv6 {
	__be32 version_flow;
	__be16 payload_length;
	u8 next;
	u8 hop_limit;
	__be32 src[4];
	__be32 dst[4];
};

struct udp {
	__be16 src;
	__be16 dst;
	__be16 length;
	__sum16 check;
};

#define be16(x) ((__be16)__builtin_bswap16(x))
#define be32(x) ((__be32)__builtin_bswap32(x))

enum {
	TYPE_IPV4 = 0x0800,
	TYPE_IPV6 = 0x86dd,
	TYPE_VLAN = 0x8100,
	TYPE_QINQ = 0x88a8,
	PROTOCOL_UDP = 17,
	IPV4_FRAGMENT = 0x3fff, /* more fragments, or an offset */
	IPV4_DONT_FRAGMENT = 0x4000,
	TTL = 64,
	VLAN_TAGS_MAX = 2,
};

/* Where a datagram's parts begin, counted from the first byte of the packet. */
struct datagram {
	u32 network; /* IP header, 14 to 22 */
	u32 payload; /* behind the UDP header */
	u32 payload_len;
	bool v6;
};

/* Folds a sum of 32-bit words into a one's complement sum of 16 bits, RFC 1071. */
static __always_inline u16 fold(u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* The sum of an IPv4 header without options; 0xffff for one that checks. */
static __always_inline u16 ipv4_sum(const struct ipv4 *ip)
{
	const u32 *word = (const u32 *)ip;

	return fold((u64)word[0] + word[1] + word[2] + word[3] + word[4]);
}

static __always_inline bool ipv6_equal(const __be32 *a, const __be32 *b)
{
	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3];
}

#endif
