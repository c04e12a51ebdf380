// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
//go:build ignore

#include "../headers/probe.bpf.h"
#include "../headers/inflight.bpf.h"
#include "block.h"

HISTOGRAMS(BLOCK_SLOTS);
COUNTERS(BLOCK_COUNTERS);

/* REQ_OP_* of include/linux/blk_types.h. */
#define REQ_OP_MASK    0xff
#define REQ_OP_READ    0
#define REQ_OP_WRITE   1
#define REQ_OP_FLUSH   2
#define REQ_OP_DISCARD 3

struct inflight {
	u64 insert_ns; /* given to the scheduler; 0 if it passed by */
	u64 issue_ns;  /* given to the driver; 0 until then */
	u32 bytes;
	u8 origin;
	u8 op;
	u8 requeued; /* came back from the driver; the next issue is no new request */
	u8 pad;
};

INFLIGHTS(BLOCK_INFLIGHT_MAX);

static __always_inline u8 op_of(u32 cmd_flags)
{
	switch (cmd_flags & REQ_OP_MASK) {
	case REQ_OP_READ:
		return BLOCK_READ;
	case REQ_OP_WRITE:
		return BLOCK_WRITE;
	case REQ_OP_FLUSH:
		return BLOCK_FLUSH;
	case REQ_OP_DISCARD:
		return BLOCK_DISCARD;
	}
	return BLOCK_OTHER;
}

/* The blkio controller was seen in a v1 hierarchy: no use to look again. */
u32 blkio_elsewhere = 0;

/*
 * Whether the request's pages are charged to the target. Only a blkio
 * controller in the v2 hierarchy can say; ids of a v1 hierarchy mean others.
 */
static __always_inline bool charged_to(struct request *rq, struct task_struct *task, u64 target)
{
	struct cgroup *charged;

	if (!bpf_core_field_exists(struct bio, bi_blkg)) /* no blkio controller */
		return false;
	if (blkio_elsewhere)
		return false;
	charged = BPF_CORE_READ(rq, bio, bi_blkg, blkcg, css.cgroup);
	if (!charged)
		return false;
	if (BPF_CORE_READ(charged, root) != BPF_CORE_READ(task, cgroups, dfl_cgrp, root)) {
		blkio_elsewhere = 1;
		return false;
	}
	return BPF_CORE_READ(charged, kn, id) == target;
}

static __always_inline u8 origin_of(struct request *rq, u64 target)
{
	struct task_struct *task = bpf_get_current_task_btf();
	char comm[16];

	if (!(task->flags & PF_KTHREAD))
		return current_is_target(target) ? BLOCK_DIRECT : BLOCK_STRANGER;
	if (charged_to(rq, task, target))
		return BLOCK_WRITEBACK;
	if (bpf_get_current_comm(comm, sizeof(comm)))
		return BLOCK_KTHREAD;
	if (!__builtin_memcmp(comm, "jbd2/", 5))
		return BLOCK_JBD2;
	if (!__builtin_memcmp(comm, "kworker", 7))
		return BLOCK_KWORKER;
	return BLOCK_KTHREAD;
}

/* The scheduler may issue from another context, so who inserts is remembered. */
static __always_inline int inserted(struct request *rq)
{
	u64 target = target_cgroup, key = (u64)rq;
	struct inflight new = {}, *old;

	if (!target)
		return 0;
	new.origin = origin_of(rq, target);
	new.insert_ns = bpf_ktime_get_ns();
	old = bpf_map_lookup_elem(&inflights, &key);
	if (old)
		*old = new;
	else if (!remember(key, &new))
		count(BLOCK_LOST_INSERT, 1);
	return 0;
}

static __always_inline int merged(struct request *rq)
{
	u64 key = (u64)rq;
	struct inflight *request;

	if (!target_cgroup)
		return 0;
	request = bpf_map_lookup_elem(&inflights, &key);
	if (request)
		forget(key, request);
	return 0;
}

static __always_inline int requeued(struct request *rq)
{
	u64 key = (u64)rq;
	struct inflight *request;

	if (!target_cgroup)
		return 0;
	request = bpf_map_lookup_elem(&inflights, &key);
	if (request && request->issue_ns)
		request->requeued = 1;
	return 0;
}

static __always_inline int issued(struct request *rq, const bool trusted)
{
	u64 target = target_cgroup, since = since_ns, key = (u64)rq, now;
	struct inflight new = {}, *old, *entry;

	if (!target)
		return 0;
	now = bpf_ktime_get_ns();
	entry = old = bpf_map_lookup_elem(&inflights, &key);
	if (old && old->requeued) {
		old->requeued = 0;
		old->issue_ns = now;
		return 0;
	}
	if (old && old->issue_ns >= since) { /* flush requests live for ever, uninserted */
		count(BLOCK_MISSED, 1);
		old = 0;
	}
	if (old && old->insert_ns >= since) {
		new.origin = old->origin;
		new.insert_ns = old->insert_ns;
	} else {
		new.origin = origin_of(rq, target);
	}
	if (new.origin >= BLOCK_ORIGINS) {
		if (entry)
			forget(key, entry);
		return 0;
	}
	new.op = op_of(FIELD(trusted, rq, cmd_flags));
	new.bytes = FIELD(trusted, rq, __data_len);
	new.issue_ns = now;
	count(BLOCK_ISSUED, 1);
	if (new.insert_ns)
		RECORD(BLOCK_QUEUED + new.origin, now - new.insert_ns);
	if (entry)
		*entry = new;
	else if (!remember(key, &new))
		count(BLOCK_LOST, 1);
	return 0;
}

static __always_inline int completed(struct request *rq, u32 status, u32 bytes, const bool trusted)
{
	u64 since = since_ns, key = (u64)rq;
	struct inflight *request;
	u64 size;
	u32 pair;

	if (!target_cgroup)
		return 0;
	request = bpf_map_lookup_elem(&inflights, &key);
	if (!request || !(request->issue_ns | request->insert_ns))
		return 0;
	if (!status && bytes < FIELD(trusted, rq, __data_len))
		return 0; /* a part; the rest is still to come */
	if (request->issue_ns >= since) {
		pair = request->origin * BLOCK_OPS + request->op;
		RECORD(2 * pair, bpf_ktime_get_ns() - request->issue_ns);
		/* A value known to have 32 bits makes the compiler drop the bound check of
		 * the bucket, which the verifier of kernel 6.1 then misses. */
		size = request->bytes;
		barrier_var(size);
		RECORD(2 * pair + 1, size);
		if (status)
			count(BLOCK_ERRORS, 1);
	}
	forget(key, request);
	return 0;
}

/*
 * A bio that joins a waiting request gets none of its own; the request keeps its
 * origin, which may be another's.
 */
static __always_inline int joined(u32 counter)
{
	u64 target = target_cgroup;

	if (target && current_is_target(target))
		count(counter, 1);
	return 0;
}

SEC("tp_btf/block_bio_backmerge")
int backmerge_tp_btf(u64 *ctx)
{
	return joined(BLOCK_MERGED_BACK);
}

SEC("tp_btf/block_bio_frontmerge")
int frontmerge_tp_btf(u64 *ctx)
{
	return joined(BLOCK_MERGED_FRONT);
}

SEC("raw_tp/block_bio_backmerge")
int backmerge_raw_tp(u64 *ctx)
{
	return joined(BLOCK_MERGED_BACK);
}

SEC("raw_tp/block_bio_frontmerge")
int frontmerge_raw_tp(u64 *ctx)
{
	return joined(BLOCK_MERGED_FRONT);
}

SEC("tp_btf/block_rq_insert")
int insert_tp_btf(u64 *ctx)
{
	return inserted((struct request *)ctx[0]);
}

SEC("tp_btf/block_rq_merge")
int merge_tp_btf(u64 *ctx)
{
	return merged((struct request *)ctx[0]);
}

SEC("tp_btf/block_rq_requeue")
int requeue_tp_btf(u64 *ctx)
{
	return requeued((struct request *)ctx[0]);
}

SEC("tp_btf/block_rq_issue")
int issue_tp_btf(u64 *ctx)
{
	return issued((struct request *)ctx[0], true);
}

SEC("tp_btf/block_rq_complete")
int complete_tp_btf(u64 *ctx)
{
	return completed((struct request *)ctx[0], (u8)ctx[1], ctx[2], true);
}

SEC("raw_tp/block_rq_insert")
int insert_raw_tp(u64 *ctx)
{
	return inserted((struct request *)ctx[0]);
}

SEC("raw_tp/block_rq_merge")
int merge_raw_tp(u64 *ctx)
{
	return merged((struct request *)ctx[0]);
}

SEC("raw_tp/block_rq_requeue")
int requeue_raw_tp(u64 *ctx)
{
	return requeued((struct request *)ctx[0]);
}

SEC("raw_tp/block_rq_issue")
int issue_raw_tp(u64 *ctx)
{
	return issued((struct request *)ctx[0], false);
}

SEC("raw_tp/block_rq_complete")
int complete_raw_tp(u64 *ctx)
{
	return completed((struct request *)ctx[0], (u8)ctx[1], ctx[2], false);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
