/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the programs and their loader share; change.go and counters.go mirror it. */
#ifndef NEXUS_ROCKS_H
#define NEXUS_ROCKS_H

/* Longest key that is published; a longer one makes the record unreadable. */
#define KEY_LEN_MAX 1024
/* Records of one batch that are walked; what follows is unreadable. */
#define BATCH_RECORDS_MAX 65536
/* The largest ring record. What doesn't fit is cut off and flagged. */
#define RECORD_LEN_MAX 262144

/* Bytes of a key that routing looks at: SurrealDB's prefix of 12, a table's
 * name of TABLE_LEN_MAX, its end and the record's mark. */
#define TABLE_LEN_MAX 64
#define TABLE_AT      12
#define KEY_HEAD_LEN  (TABLE_AT + TABLE_LEN_MAX + 4)

enum change_kind {
	CHANGE_PUT,
	CHANGE_DELETE,
	CHANGE_MERGE,
	CHANGE_DELETE_RANGE, /* the value is the end of the range */
	CHANGE_UNREADABLE,   /* something was committed that can't be told: resync */
};

#define CHANGE_CUT 1 /* the value is longer than what was stored */

/* One committed change. The text that follows is a piece of the write batch:
 * the key, the varint of the value's length, the value. */
struct change {
	u64 sequence;	  /* RocksDB's own number of this change: the order of commits */
	u64 committed_ns; /* CLOCK_MONOTONIC, when the write returned */
	u64 stream;	  /* number in this CPU's stream; lost changes have numbers too */
	u64 db;		  /* address of the database object */
	u32 cpu;
	u32 process;
	u32 key_len;
	u32 value_at; /* from the start of the text */
	u32 value_len;
	u32 text_len; /* what was stored of it */
	u32 column_family;
	u32 batch_count; /* changes in the batch */
	u32 batch_index; /* of this one */
	u32 route;	 /* revision of the route that matched, 0 for none */
	u32 theta;	 /* of the route, the bits of a float */
	u8 kind;
	u8 flags;
	u8 tag; /* as in the batch */
	u8 unused;
};

#define TABLE_ANY 0xffffffffU

/* A table in SurrealDB's key space. TABLE_ANY for both
 * ids is any namespace and database. */
struct table_key {
	u32 namespace_id;
	u32 database_id;
	u64 name_hash; /* FNV-1a, 64 bits */
};

/* Read and written as one word, so that a change in flight sees the old or the
 * new decision and no mixture. */
struct decision {
	u32 revision;
	u32 theta;
};

enum counter {
	COUNTER_CALLS,	    /* writes that returned */
	COUNTER_COMMITTED,  /* of these, with an OK status */
	COUNTER_REFUSED,    /* of these, with another one */
	COUNTER_RECORDS,    /* changes in committed batches */
	COUNTER_UNROUTED,   /* of these, of no routed table: not published */
	COUNTER_LOST_FULL,  /* changes that found the ring full */
	COUNTER_LOST_CALL,  /* calls that could not be remembered, or were not */
	COUNTER_UNREADABLE, /* batches that could not be read to their end */
	COUNTER_CUT,	    /* changes of which a part of the value is missing */
	COUNTER_PUTS,	    /* census: calls of the transaction's or batch's Put */
	COUNTER_COMMITS,    /* census: calls of Commit */
	COUNTER_ROLLBACKS,  /* census: calls of Rollback */
	COUNTERS,
};

#endif
