// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
//go:build ignore

#include "../headers/probe.bpf.h"
#include "sched.h"

HISTOGRAMS(SCHED_SLOTS);
COUNTERS(SCHED_COUNTERS);

#define TASK_DEAD 0x80 /* include/linux/sched.h */

struct turn {
	u64 on_ns;   /* went on the CPU */
	u64 off_ns;  /* left it */
	u64 wake_ns; /* became runnable; 0 while blocked */
	u64 blocked; /* left it because it had to wait */
};

/* With typed pointers the state hangs on the task itself. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct turn);
} turns SEC(".maps");

/* Task storage refuses untyped pointers, so raw tracepoints go by thread id. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SCHED_TASKS_MAX);
	__type(key, u32);
	__type(value, struct turn);
} turns_by_tid SEC(".maps");

static __always_inline struct turn *turn_of(struct task_struct *task, const bool trusted)
{
	static const struct turn fresh;
	struct turn *turn;
	u32 tid;

	if (trusted)
		return bpf_task_storage_get(&turns, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	tid = BPF_CORE_READ(task, pid);
	turn = bpf_map_lookup_elem(&turns_by_tid, &tid);
	if (turn)
		return turn;
	bpf_map_update_elem(&turns_by_tid, &tid, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&turns_by_tid, &tid);
}

static __always_inline void forget(struct task_struct *task, const bool trusted)
{
	u32 tid;

	if (trusted)
		return; /* the storage goes with the task */
	tid = BPF_CORE_READ(task, pid);
	bpf_map_delete_elem(&turns_by_tid, &tid);
}

/*
 * A switch is voluntary by the rule that the kernel's own nvcsw follows in
 * __schedule: not preempted and no longer runnable.
 */
static __always_inline void leave(struct task_struct *prev, bool preempt, u32 state, u64 now,
				  const bool trusted)
{
	bool voluntary = !preempt && state;
	struct turn *turn;

	count(voluntary ? SCHED_VOLUNTARY : SCHED_INVOLUNTARY, 1);
	turn = turn_of(prev, trusted);
	if (!turn) {
		if (!(state & TASK_DEAD))
			count(SCHED_LOST_SWITCH, 1);
		return;
	}
	if (turn->on_ns >= since_ns)
		RECORD(SCHED_ONCPU, now - turn->on_ns);
	turn->on_ns = 0;
	turn->off_ns = now;
	turn->wake_ns = voluntary ? 0 : now;
	turn->blocked = voluntary;
	if (state & TASK_DEAD)
		forget(prev, trusted);
}

static __always_inline void arrive(struct task_struct *next, u64 now, const bool trusted)
{
	u64 since = since_ns;
	struct turn *turn = turn_of(next, trusted);

	if (!turn) {
		count(SCHED_LOST_SWITCH, 1);
		return;
	}
	turn->on_ns = now;
	/* A task that is new has not left a CPU yet, and waits as if woken. */
	if (turn->wake_ns >= since && now >= turn->wake_ns)
		RECORD(turn->blocked || !turn->off_ns ? SCHED_RUNQUEUE_WOKEN
						      : SCHED_RUNQUEUE_PREEMPTED,
		       now - turn->wake_ns);
	if (turn->blocked && turn->off_ns >= since)
		RECORD(SCHED_OFFCPU_VOLUNTARY, now - turn->off_ns);
	turn->wake_ns = 0;
	turn->off_ns = 0;
	turn->blocked = 0;
}

static __always_inline int switched(struct task_struct *prev, struct task_struct *next,
				    bool preempt, u32 state, const bool trusted)
{
	u64 target = target_cgroup;
	bool out, in;
	u64 now;

	if (!target)
		return 0;
	/* Thread 0 is each CPU's idle task. */
	out = task_cgroup(prev, trusted) == target && FIELD(trusted, prev, pid);
	in = task_cgroup(next, trusted) == target && FIELD(trusted, next, pid);
	if (!out && !in)
		return 0;
	now = bpf_ktime_get_ns();
	if (out)
		leave(prev, preempt, state, now, trusted);
	if (in)
		arrive(next, now, trusted);
	return 0;
}

static __always_inline int woken(struct task_struct *task, u32 counter, u32 lost,
				 const bool trusted)
{
	u64 target = target_cgroup;
	struct turn *turn;

	if (!target || task_cgroup(task, trusted) != target)
		return 0;
	count(counter, 1);
	turn = turn_of(task, trusted);
	if (!turn) {
		count(lost, 1);
		return 0;
	}
	/* A wake-up of a task that still runs must not start its wait. */
	if (turn->on_ns < since_ns && !turn->wake_ns)
		turn->wake_ns = bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/sched_switch")
int switch_tp_btf(u64 *ctx)
{
	return switched((struct task_struct *)ctx[1], (struct task_struct *)ctx[2], ctx[0], ctx[3],
			true);
}

SEC("tp_btf/sched_wakeup")
int wakeup_tp_btf(u64 *ctx)
{
	return woken((struct task_struct *)ctx[0], SCHED_WOKEN, SCHED_LOST_WAKE, true);
}

SEC("tp_btf/sched_wakeup_new")
int wakeup_new_tp_btf(u64 *ctx)
{
	return woken((struct task_struct *)ctx[0], SCHED_WOKEN_NEW, SCHED_LOST_WAKE_NEW, true);
}

SEC("raw_tp/sched_switch")
int switch_raw_tp(u64 *ctx)
{
	return switched((struct task_struct *)ctx[1], (struct task_struct *)ctx[2], ctx[0], ctx[3],
			false);
}

SEC("raw_tp/sched_wakeup")
int wakeup_raw_tp(u64 *ctx)
{
	return woken((struct task_struct *)ctx[0], SCHED_WOKEN, SCHED_LOST_WAKE, false);
}

SEC("raw_tp/sched_wakeup_new")
int wakeup_new_raw_tp(u64 *ctx)
{
	return woken((struct task_struct *)ctx[0], SCHED_WOKEN_NEW, SCHED_LOST_WAKE_NEW, false);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
