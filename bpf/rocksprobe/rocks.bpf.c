// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
//go:build ignore

/*
 * Publishes what a RocksDB commits. One pair of probes sits on the function that
 * all writes go through, with a finished batch in hand: its entry remembers the
 * batch, its return reads the status and, if it is OK, walks the batch. What is
 * rolled back or refused never comes here with an OK status. By the return, the
 * engine has written the batch's sequence number into it.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "rocks.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Where in a WriteBatch its std::string (pointer, length) lies. */
volatile const u64 batch_text_at = 0;
/* Wake the reader when this much waits; 0 leaves it to the kernel, which wakes
 * a reader that has caught up. */
volatile const u64 wakeup_bytes = 0;
/* Publish changes of tables without a route too. */
volatile const u8 publish_unrouted = 0;
/* Look for SurrealDB's table in the key. */
volatile const u8 surreal_keys = 0;

struct call {
	u64 status; /* where the status goes */
	u64 db;
	u64 batch;
	u8 head[32]; /* scratch: of the record */
	u8 key[KEY_HEAD_LEN];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, u64); /* thread */
	__type(value, struct call);
} calls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 24);
} changes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct table_key);
	__type(value, u64); /* struct decision */
} routing_table SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, u32);
	__type(value, u64);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} streams SEC(".maps");

/* Bounds a length where the verifier sees it: the empty assembly keeps the
 * compiler from proving by other means what the verifier of 6.1 can't follow. */
static __always_inline u64 at_most(u64 n, u64 max)
{
	__asm__ volatile("" : "+r"(n));
	if (n > max)
		n = max;
	return n;
}

/* A probe may be preempted by another thread's on the same CPU, so per-CPU
 * values too are added to atomically. */
static __always_inline void count(u32 i, u64 by)
{
	u64 *n = bpf_map_lookup_elem(&counters, &i);

	if (n)
		__sync_fetch_and_add(n, by);
}

static __always_inline u64 next_in_stream(void)
{
	u32 zero = 0;
	u64 *n = bpf_map_lookup_elem(&streams, &zero);

	return n ? __sync_fetch_and_add(n, 1) : 0;
}

static __always_inline u64 wakeup(void)
{
	if (!wakeup_bytes)
		return 0;
	if (bpf_ringbuf_query(&changes, BPF_RB_AVAIL_DATA) >= wakeup_bytes)
		return BPF_RB_FORCE_WAKEUP;
	return BPF_RB_NO_WAKEUP;
}

/* The state of a walk through a batch. Addresses are the writer's. */
struct walk {
	struct call *call;
	u64 text;
	u64 offset;
	u64 end;
	u64 sequence;
	u64 now_ns;
	u64 failed;
	u32 count;
	u32 index;
};

struct record {
	u64 key; /* address */
	u64 text_len;
	u32 key_len;
	u32 value_at;
	u32 value_len;
	u32 column_family;
	u8 kind;
	u8 tag;
};

/* Kinds of records in a batch, as RocksDB numbers them. */
enum {
	TAG_DELETION = 0x0,
	TAG_VALUE = 0x1,
	TAG_MERGE = 0x2,
	TAG_LOG_DATA = 0x3,
	TAG_CF_DELETION = 0x4,
	TAG_CF_VALUE = 0x5,
	TAG_CF_MERGE = 0x6,
	TAG_SINGLE_DELETION = 0x7,
	TAG_CF_SINGLE_DELETION = 0x8,
	TAG_NOOP = 0xD,
	TAG_CF_RANGE_DELETION = 0xE,
	TAG_RANGE_DELETION = 0xF,
};

static __always_inline bool has_column_family(u8 tag)
{
	return (tag >= TAG_CF_DELETION && tag <= TAG_CF_MERGE) || tag == TAG_CF_SINGLE_DELETION ||
	       tag == TAG_CF_RANGE_DELETION;
}

/* Reads a varint of up to 32 bits from the scratch; 0 as the new position says
 * that it has no end. */
static __always_inline u32 varint(struct call *call, u32 at, u32 *value)
{
	u32 sum = 0;

	for (u32 i = 0; i < 5; i++) {
		u8 b = call->head[(at + i) & 31];

		sum |= (u32)(b & 0x7f) << (7 * i);
		if (!(b & 0x80)) {
			*value = sum;
			return at + i + 1;
		}
	}
	return 0;
}

static __always_inline long fetch(struct call *call, u64 address, u64 left)
{
	u64 n = at_most(left, sizeof(call->head));

	__builtin_memset(call->head, 0, sizeof(call->head));
	return bpf_probe_read_user(call->head, n, (void *)address);
}

/* Finds out what lies at the walk's offset and steps over it. Returns what to
 * publish: 1 the record, 0 nothing, negative when it can't be told. */
static __always_inline int parse(struct walk *w, struct record *r)
{
	struct call *call = w->call;
	u64 left = w->end - w->offset;
	u32 at = 1, len = 0, pieces;

	if (fetch(call, w->text + w->offset, left))
		return -1;
	r->tag = call->head[0];
	r->column_family = 0;
	r->value_len = 0;
	if (has_column_family(r->tag) && !(at = varint(call, at, &r->column_family)))
		return -1;
	switch (r->tag) {
	case TAG_NOOP:
		w->offset += 1;
		return 0;
	case TAG_VALUE:
	case TAG_CF_VALUE:
		r->kind = CHANGE_PUT;
		pieces = 2;
		break;
	case TAG_MERGE:
	case TAG_CF_MERGE:
		r->kind = CHANGE_MERGE;
		pieces = 2;
		break;
	case TAG_RANGE_DELETION:
	case TAG_CF_RANGE_DELETION:
		r->kind = CHANGE_DELETE_RANGE;
		pieces = 2;
		break;
	case TAG_DELETION:
	case TAG_CF_DELETION:
	case TAG_SINGLE_DELETION:
	case TAG_CF_SINGLE_DELETION:
	case TAG_LOG_DATA:
		r->kind = CHANGE_DELETE;
		pieces = 1;
		break;
	default:
		return -1;
	}
	at = varint(call, at, &len);
	if (!at || (u64)at + len > left)
		return -1;
	r->key = w->text + w->offset + at;
	r->key_len = len;
	r->text_len = len;
	r->value_at = len;
	w->offset += at + len;
	if (pieces == 1)
		return r->tag != TAG_LOG_DATA;
	left = w->end - w->offset;
	if (!left || fetch(call, w->text + w->offset, left))
		return -1;
	at = varint(call, 0, &len);
	if (!at || (u64)at + len > left)
		return -1;
	r->value_len = len;
	r->value_at += at;
	r->text_len = (u64)r->value_at + len;
	w->offset += at + len;
	return 1;
}

/*
 * Where SurrealDB keeps a record:
 *   / * <namespace, 32 bits> * <database, 32 bits> * <table's name> 0 * <id>
 * Returns 0 if the key is none of these.
 */
__noinline int table_of(struct call *call, struct table_key *table)
{
	u64 hash = 0xcbf29ce484222325ULL;
	const u8 *k;

	if (!call || !table)
		return 0;
	k = call->key;
	if (k[0] != '/' || k[1] != '*' || k[6] != '*' || k[11] != '*')
		return 0;
	table->namespace_id = (u32)k[2] << 24 | (u32)k[3] << 16 | (u32)k[4] << 8 | k[5];
	table->database_id = (u32)k[7] << 24 | (u32)k[8] << 16 | (u32)k[9] << 8 | k[10];
	for (u32 i = 0; i < TABLE_LEN_MAX; i++) {
		u8 c = k[TABLE_AT + i];

		if (!c) {
			table->name_hash = hash;
			return k[TABLE_AT + i + 1] == '*';
		}
		hash = (hash ^ c) * 0x100000001b3ULL;
	}
	return 0;
}

static __always_inline struct decision route(struct walk *w, struct record *r)
{
	struct call *call = w->call;
	struct table_key table = {};
	struct decision none = {};
	u64 n = at_most(r->key_len, KEY_HEAD_LEN);
	u64 *found;

	if (!surreal_keys)
		return none;
	__builtin_memset(call->key, 0, sizeof(call->key));
	if (bpf_probe_read_user(call->key, n, (void *)r->key) || !table_of(call, &table))
		return none;
	found = bpf_map_lookup_elem(&routing_table, &table);
	if (!found) {
		table.namespace_id = table.database_id = TABLE_ANY;
		found = bpf_map_lookup_elem(&routing_table, &table);
	}
	if (!found)
		return none;
	union {
		u64 word;
		struct decision decision;
	} both = {.word = *(volatile u64 *)found};
	return both.decision;
}

static __always_inline void fill(struct change *c, struct walk *w, struct record *r,
				 struct decision d, u64 stream, u32 stored)
{
	c->sequence = w->sequence + w->index;
	c->committed_ns = w->now_ns;
	c->stream = stream;
	c->db = w->call->db;
	c->cpu = bpf_get_smp_processor_id();
	c->process = bpf_get_current_pid_tgid() >> 32;
	c->key_len = r->key_len;
	c->value_at = r->value_at;
	c->value_len = r->value_len;
	c->text_len = stored;
	c->column_family = r->column_family;
	c->batch_count = w->count;
	c->batch_index = w->index;
	c->route = d.revision;
	c->theta = d.theta;
	c->kind = r->kind;
	c->flags = stored < r->text_len ? CHANGE_CUT : 0;
	c->tag = r->tag;
	c->unused = 0;
}

/*
 * The ring hands out room of a constant length only, so lengths are rounded up
 * to a power of two. The text goes straight from the writer's memory to the ring.
 */
#define PUBLISH_UP_TO(room)                                                                        \
	if (wanted <= (room) || (room) == RECORD_LEN_MAX) {                                        \
		struct change *c = bpf_ringbuf_reserve(&changes, room, 0);                         \
		u64 n = r->text_len;                                                               \
                                                                                                   \
		if (!c) {                                                                          \
			count(COUNTER_LOST_FULL, 1);                                               \
			return;                                                                    \
		}                                                                                  \
		n = at_most(n, (room) - sizeof(*c));                                               \
		if (n < r->text_len)                                                               \
			count(COUNTER_CUT, 1);                                                     \
		fill(c, w, r, d, stream, n);                                                       \
		if (bpf_probe_read_user(c + 1, at_most(n, (room) - sizeof(*c)), (void *)r->key)) { \
			count(COUNTER_UNREADABLE, 1);                                              \
			c->kind = CHANGE_UNREADABLE;                                               \
			c->text_len = 0;                                                           \
		}                                                                                  \
		bpf_ringbuf_submit(c, wakeup());                                                   \
		return;                                                                            \
	}

static __always_inline void publish(struct walk *w, struct record *r, struct decision d)
{
	u64 wanted = r->text_len + sizeof(struct change);
	u64 stream = next_in_stream();

	PUBLISH_UP_TO(128)
	PUBLISH_UP_TO(256)
	PUBLISH_UP_TO(512)
	PUBLISH_UP_TO(1024)
	PUBLISH_UP_TO(2048)
	PUBLISH_UP_TO(4096)
	PUBLISH_UP_TO(8192)
	PUBLISH_UP_TO(16384)
	PUBLISH_UP_TO(65536)
	PUBLISH_UP_TO(RECORD_LEN_MAX)
}

static __always_inline void publish_unreadable(struct walk *w, u8 tag)
{
	struct record r = {.kind = CHANGE_UNREADABLE, .tag = tag, .key = w->text};
	struct decision none = {};

	count(COUNTER_UNREADABLE, 1);
	publish(w, &r, none);
}

static long step(u32 i, struct walk *w)
{
	struct record r = {};
	struct decision d;
	int found;

	if (w->offset >= w->end)
		return 1;
	found = parse(w, &r);
	if (found < 0 || r.key_len > KEY_LEN_MAX) {
		w->failed = 1;
		return 1;
	}
	if (!found)
		return 0;
	d = route(w, &r);
	if (d.revision || publish_unrouted)
		publish(w, &r, d);
	else
		count(COUNTER_UNROUTED, 1);
	w->index++;
	return 0;
}

/* A batch begins with its sequence number (64 bits) and its count (32 bits). */
#define BATCH_HEADER_LEN 12

static __always_inline void walk_batch(struct call *call)
{
	struct walk w = {.call = call, .now_ns = bpf_ktime_get_ns()};
	struct {
		u64 text, len;
	} string = {};

	if (bpf_probe_read_user(&string, sizeof(string), (void *)(call->batch + batch_text_at)) ||
	    string.len < BATCH_HEADER_LEN ||
	    bpf_probe_read_user(&w.sequence, sizeof(w.sequence), (void *)string.text) ||
	    bpf_probe_read_user(&w.count, sizeof(w.count), (void *)(string.text + 8))) {
		publish_unreadable(&w, 0);
		return;
	}
	w.text = string.text;
	w.offset = BATCH_HEADER_LEN;
	w.end = string.len;
	count(COUNTER_RECORDS, w.count);
	bpf_loop(BATCH_RECORDS_MAX, step, &w, 0);
	if (w.failed || w.index != w.count)
		publish_unreadable(&w, call->head[0]);
}

SEC("uprobe/write")
int write_entry(struct pt_regs *ctx)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct call call = {.status = PT_REGS_PARM1(ctx),
			    .db = PT_REGS_PARM2(ctx),
			    .batch = PT_REGS_PARM4(ctx)};

	if (bpf_map_update_elem(&calls, &thread, &call, BPF_ANY))
		count(COUNTER_LOST_CALL, 1);
	return 0;
}

SEC("uretprobe/write")
int write_return(struct pt_regs *ctx)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct call *call = bpf_map_lookup_elem(&calls, &thread);
	u8 status = 0xff;

	count(COUNTER_CALLS, 1);
	if (!call) {
		count(COUNTER_LOST_CALL, 1);
		return 0;
	}
	if (bpf_probe_read_user(&status, sizeof(status), (void *)call->status)) {
		struct walk w = {.call = call, .now_ns = bpf_ktime_get_ns()};

		publish_unreadable(&w, 0);
	} else if (status) {
		count(COUNTER_REFUSED, 1);
	} else {
		count(COUNTER_COMMITTED, 1);
		walk_batch(call);
	}
	bpf_map_delete_elem(&calls, &thread);
	return 0;
}

/* The census counts what a probe on Put alone would have taken for changes. */
SEC("uprobe/put")
int census_put(struct pt_regs *ctx)
{
	count(COUNTER_PUTS, 1);
	return 0;
}

SEC("uprobe/commit")
int census_commit(struct pt_regs *ctx)
{
	count(COUNTER_COMMITS, 1);
	return 0;
}

SEC("uprobe/rollback")
int census_rollback(struct pt_regs *ctx)
{
	count(COUNTER_ROLLBACKS, 1);
	return 0;
}
