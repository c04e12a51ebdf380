/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The contract between the programs and their loader. */
#ifndef NEXUS_TENANTROUTE_H
#define NEXUS_TENANTROUTE_H

/* The longest packet that is handed over: queries are short. */
#define PACKET_LEN_MAX 512

/* What a packet is handed over with, in front of its first byte. */
struct handed {
	u32 slot; /* of the tenant's instance */
	u32 packet_len;
	u64 taken_ns; /* CLOCK_MONOTONIC */
};

/* How a ring buffer carries both. */
struct record {
	struct handed handed;
	u8 packet[PACKET_LEN_MAX];
};

/* What became of a packet; all but HANDED go to the stack. */
enum {
	HANDED,
	NOT_IP,	      /* other EtherType, or more than two VLAN tags */
	TRUNCATED,    /* shorter than its headers say */
	IP_OPTIONS,   /* IPv4 options */
	FRAGMENT,     /* IPv4 fragment */
	NOT_UDP,      /* other protocol, or IPv6 extension headers */
	OTHER_PORT,   /* not for this service */
	BAD_ADDRESS,  /* not addressed to this host alone, or from nobody */
	BAD_LENGTH,   /* lengths of IP, UDP and frame disagree */
	BAD_CHECKSUM, /* IPv4 header */
	OTHER_FRAME,  /* not a query that carries its own checksum */
	TOO_LONG,     /* longer than PACKET_LEN_MAX, or in several buffers */
	UNROUTED,     /* a tenant without an instance */
	NO_ROOM,      /* the ring is full, or there is no socket or metadata */
	OUTCOMES
};

#endif
