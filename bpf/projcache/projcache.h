/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The contract between the program, its loader and whoever fills the cache.
 * LAYOUT changes with any change of a map's meaning: pinned maps of another
 * layout are refused.
 */
#ifndef NEXUS_PROJCACHE_H
#define NEXUS_PROJCACHE_H

#define LAYOUT 1

#define PROJECTION_LEN_MAX 4096
/* u64 version, u32 snapshot version, projection. */
#define BODY_HEADER_LEN 12
#define BODY_LEN_MAX	(BODY_HEADER_LEN + PROJECTION_LEN_MAX)
/* Reads of a value that changes meanwhile before the packet goes to user space. */
#define READS_MAX 4

struct projection_key {
	u32 tenant;
	u32 projection;
	u32 snapshot;
};

/*
 * A value in place, its first 64 bytes apart. sequence is odd while the value
 * is being written and grows by 2 with each write, so that a reader who finds
 * the same even number before and after its copy has copied one whole value.
 * used is the reader's mark for the eviction's clock.
 */
struct slot {
	u32 sequence;
	u32 used;
	struct projection_key key;
	u32 body_len;
	u32 body_sum; /* 16-bit one's complement sum of the body, native order */
	u32 reserved[9];
	u8 body[(BODY_LEN_MAX + 63) / 64 * 64];
};

/* What became of a packet. */
enum {
	ANSWERED,
	MISSED,		/* not in the cache: user space answers */
	TENANT_UNKNOWN, /* beyond the table of tenants, or without a snapshot */
	CHANGING,	/* changed under every read */
	TOO_LARGE,	/* the answer is longer than the request's packet */
	NOT_IP,		/* other EtherType, or more than two VLAN tags */
	TRUNCATED,	/* shorter than its headers say, or in several buffers */
	IP_OPTIONS,	/* IPv4 options */
	FRAGMENT,	/* IPv4 fragment */
	NOT_UDP,	/* other protocol, or IPv6 extension headers */
	OTHER_PORT,	/* not for this service */
	BAD_ADDRESS,	/* not addressed to this host alone, or from nobody */
	BAD_LENGTH,	/* lengths of IP, UDP and frame disagree */
	BAD_CHECKSUM,	/* IPv4 header */
	OTHER_FRAME,	/* not a well-formed unchecked Get */
	READ_AGAIN,	/* no outcome: reads that were repeated */
	TORN,		/* no outcome: torn answers that a rehearsal saw */
	OUTCOMES
};

#endif
