// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
//go:build ignore

#include "../headers/probe.bpf.h"
#include "syscall.h"

HISTOGRAMS(SYSCALL_SLOTS);
COUNTERS(SYSCALL_COUNTERS);

struct call {
	u64 start_ns;
	u64 nr;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct call);
} calls SEC(".maps");

/* Slot of each system call, dealt out on first use; 0 while it has none. */
u32 slots[SYSCALL_NR_MAX];
u32 slots_used = 0;

static __always_inline int enter(u64 nr)
{
	u64 target = target_cgroup;
	struct call *call;

	if (!target || !current_is_target(target))
		return 0;
	call = bpf_task_storage_get(&calls, bpf_get_current_task_btf(), 0,
				    BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!call) {
		count(SYSCALL_LOST, 1);
		return 0;
	}
	count(SYSCALL_ENTERED, 1);
	call->nr = nr;
	call->start_ns = bpf_ktime_get_ns();
	return 0;
}

static __always_inline u32 slot_of(u64 nr)
{
	u32 slot;

	if (nr >= SYSCALL_NR_MAX)
		return 0;
	slot = slots[nr];
	if (slot)
		return slot;
	if (slots_used >= SYSCALL_SLOTS - 1)
		return 0;
	slot = __sync_fetch_and_add(&slots_used, 1) + 1;
	if (slot >= SYSCALL_SLOTS)
		return 0;
	/* Of two tasks at once the loser's slot stays empty. */
	if (__sync_val_compare_and_swap(&slots[nr], 0, slot) != 0)
		return slots[nr];
	return slot;
}

static __always_inline int leave(void)
{
	u64 since = since_ns;
	struct call *call;
	u64 start;

	if (!target_cgroup)
		return 0;
	call = bpf_task_storage_get(&calls, bpf_get_current_task_btf(), 0, 0);
	if (!call)
		return 0;
	start = call->start_ns;
	call->start_ns = 0;
	if (start < since)
		return 0;
	RECORD(slot_of(call->nr), bpf_ktime_get_ns() - start);
	return 0;
}

SEC("tp_btf/sys_enter")
int enter_tp_btf(u64 *ctx)
{
	return enter(ctx[1]);
}

SEC("tp_btf/sys_exit")
int exit_tp_btf(u64 *ctx)
{
	return leave();
}

SEC("raw_tp/sys_enter")
int enter_raw_tp(u64 *ctx)
{
	return enter(ctx[1]);
}

SEC("raw_tp/sys_exit")
int exit_raw_tp(u64 *ctx)
{
	return leave();
}

struct sys_enter_args {
	u64 common;
	u64 nr;
};

SEC("tracepoint/raw_syscalls/sys_enter")
int enter_tracepoint(struct sys_enter_args *ctx)
{
	return enter(ctx->nr);
}

SEC("tracepoint/raw_syscalls/sys_exit")
int exit_tracepoint(void *ctx)
{
	return leave();
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
