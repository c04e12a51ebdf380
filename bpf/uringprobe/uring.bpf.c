// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
//go:build ignore

#include "../headers/probe.bpf.h"
#include "../headers/inflight.bpf.h"
#include "uring.h"

HISTOGRAMS(URING_SLOTS);
COUNTERS(URING_COUNTERS);

struct inflight {
	u64 start_ns; /* 0: none in flight */
	u64 opcode;
};

/*
 * By address of the request. One that ends without a completion event leaves
 * its entry behind until the kernel uses the address again.
 */
INFLIGHTS(URING_INFLIGHT_MAX);

static __always_inline u32 slot_of(struct io_kiocb *req, const bool trusted)
{
	u32 opcode = FIELD(trusted, req, opcode);

	return opcode < URING_OPCODES ? opcode : URING_OPCODES - 1;
}

static __always_inline bool measured(void)
{
	u64 target = target_cgroup;

	return target && current_is_target(target);
}

static __always_inline int submitted(struct io_kiocb *req, const bool trusted)
{
	struct inflight new = {}, *old;
	u64 key = (u64)req;

	if (!measured())
		return 0;
	new.opcode = slot_of(req, trusted);
	new.start_ns = bpf_ktime_get_ns();
	count(new.opcode, 1);
	old = bpf_map_lookup_elem(&inflights, &key);
	if (old)
		*old = new;
	else if (!remember(key, &new))
		count(URING_LOST, 1);
	return 0;
}

/* Completions come from any context: whose they are is known by the request. */
static __always_inline int completed(u64 req)
{
	struct inflight *request;

	if (!target_cgroup)
		return 0;
	if (!req) { /* a multishot request's event, or a message */
		if (measured())
			count(URING_CQE_EXTRA, 1);
		return 0;
	}
	request = bpf_map_lookup_elem(&inflights, &req);
	if (!request || !request->start_ns)
		return 0;
	if (request->start_ns >= since_ns)
		RECORD(request->opcode, bpf_ktime_get_ns() - request->start_ns);
	forget(req, request);
	return 0;
}

static __always_inline int async(struct io_kiocb *req, const bool trusted)
{
	if (measured())
		count(URING_ASYNC + slot_of(req, trusted), 1);
	return 0;
}

static __always_inline int batch(u32 slot, u64 items)
{
	if (measured())
		RECORD(slot, items);
	return 0;
}

static __always_inline int overflowed(void)
{
	if (measured())
		count(URING_CQE_OVERFLOW, 1);
	return 0;
}

SEC("tp_btf/io_uring_submit_req")
int submit_tp_btf(u64 *ctx)
{
	return submitted((struct io_kiocb *)ctx[0], true);
}

/* Its name before kernel 6.3. */
SEC("tp_btf/io_uring_submit_sqe")
int submit_sqe_tp_btf(u64 *ctx)
{
	return submitted((struct io_kiocb *)ctx[0], true);
}

SEC("tp_btf/io_uring_complete")
int complete_tp_btf(u64 *ctx)
{
	return completed(ctx[1]);
}

SEC("tp_btf/io_uring_queue_async_work")
int async_tp_btf(u64 *ctx)
{
	return async((struct io_kiocb *)ctx[0], true);
}

SEC("tp_btf/io_uring_task_work_run")
int task_work_tp_btf(u64 *ctx)
{
	return batch(URING_TASK_WORK, (u32)ctx[1]);
}

SEC("tp_btf/io_uring_local_work_run")
int local_work_tp_btf(u64 *ctx)
{
	return batch(URING_LOCAL_WORK, (u32)ctx[1]);
}

SEC("tp_btf/io_uring_cqe_overflow")
int overflow_tp_btf(u64 *ctx)
{
	return overflowed();
}

SEC("raw_tp/io_uring_submit_req")
int submit_raw_tp(u64 *ctx)
{
	return submitted((struct io_kiocb *)ctx[0], false);
}

SEC("raw_tp/io_uring_submit_sqe")
int submit_sqe_raw_tp(u64 *ctx)
{
	return submitted((struct io_kiocb *)ctx[0], false);
}

SEC("raw_tp/io_uring_complete")
int complete_raw_tp(u64 *ctx)
{
	return completed(ctx[1]);
}

SEC("raw_tp/io_uring_queue_async_work")
int async_raw_tp(u64 *ctx)
{
	return async((struct io_kiocb *)ctx[0], false);
}

SEC("raw_tp/io_uring_task_work_run")
int task_work_raw_tp(u64 *ctx)
{
	return batch(URING_TASK_WORK, (u32)ctx[1]);
}

SEC("raw_tp/io_uring_local_work_run")
int local_work_raw_tp(u64 *ctx)
{
	return batch(URING_LOCAL_WORK, (u32)ctx[1]);
}

SEC("raw_tp/io_uring_cqe_overflow")
int overflow_raw_tp(u64 *ctx)
{
	return overflowed();
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
