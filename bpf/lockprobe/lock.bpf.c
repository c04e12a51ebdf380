// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
//go:build ignore

#include "../headers/probe.bpf.h"
#include "lock.h"

/* LCB_F_* of include/trace/events/lock.h: flags of contention_begin. */
#define LCB_F_SPIN   (1U << 0)
#define LCB_F_READ   (1U << 1)
#define LCB_F_WRITE  (1U << 2)
#define LCB_F_RT     (1U << 3)
#define LCB_F_PERCPU (1U << 4)
#define LCB_F_MUTEX  (1U << 5)

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* Only their addresses are taken. */
struct rw_semaphore {
};
struct mutex {
};

struct inode {
	unsigned long i_ino; /* unused: clang 19 crashes on a record whose only field is a record */
	struct rw_semaphore i_rwsem;
};

struct file {
	struct inode *f_inode;
	struct mutex f_pos_lock;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct task_struct___files {
	struct files_struct *files;
};

#pragma clang attribute pop

HISTOGRAMS(LOCK_SLOTS);
COUNTERS(LOCK_COUNTERS);

/* struct bpf_pidns_info of uapi/linux/bpf.h. */
struct ns_pids {
	u32 pid;
	u32 tgid;
};

/* When pidns_ino is set, the target is a process of that pid namespace. */
volatile u64 pidns_dev = 0;
volatile u64 pidns_ino = 0;
volatile u32 target_tgid = 0;

/* Numbers of write, pwrite64, writev, pwritev and pwritev2 here. */
const volatile u32 write_nrs[LOCK_WRITE_NRS];

/* What one task is doing. */
struct doing {
	/* The write call it is in; all 0 outside of one. */
	u64 enter_ns;
	u64 inode_lock;
	u64 position_lock;
	/* The lock it waits for, or 0. */
	u64 lock;
	u64 begin_ns;
	u32 kind;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct doing);
} tasks SEC(".maps");

/*
 * What is known of one inode lock that somebody has waited for. A waiter was
 * overtaken exactly if newest_ns is later than when it began to wait. How often
 * takes a count of its own, so that is done for one waiter at a time.
 */
struct queue {
	u64 newest_ns; /* latest entry time of a completed write */
	u64 sampler;   /* pid_tgid of the waiter being sampled, or 0 */
	u64 sample_begin_ns;
	u64 sample; /* generation << 32 | overtakings; odd generations are open */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, LOCK_INODES);
	__type(key, u64);
	__type(value, struct queue);
} queues SEC(".maps");

static __always_inline bool is_target(u64 cgroup)
{
	struct ns_pids pids = {};

	if (!cgroup)
		return false;
	if (!pidns_ino)
		return current_is_target(cgroup);
	if (bpf_get_ns_current_pid_tgid(pidns_dev, pidns_ino, (void *)&pids, sizeof(pids)))
		return false;
	return pids.tgid == target_tgid;
}

static __always_inline struct doing *doing_of_current(u64 flags)
{
	return bpf_task_storage_get(&tasks, bpf_get_current_task_btf(), 0, flags);
}

static __always_inline bool is_write(u64 nr)
{
	for (int i = 0; i < LOCK_WRITE_NRS; i++)
		if (write_nrs[i] == nr)
			return true;
	return false;
}

/* Follows the descriptor to the file's own locks; leaves 0 where it leads nowhere. */
static __always_inline void find_locks(struct doing *d, u32 fd)
{
	struct task_struct___files *task = (void *)bpf_get_current_task();
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **slots = BPF_CORE_READ(table, fd);
	struct file *file = NULL;
	struct inode *inode;

	if (fd >= BPF_CORE_READ(table, max_fds))
		return;
	bpf_probe_read_kernel(&file, sizeof(file), slots + fd);
	if (!file)
		return;
	if (bpf_core_field_exists(file->f_pos_lock))
		d->position_lock = (u64)&file->f_pos_lock;
	inode = BPF_CORE_READ(file, f_inode);
	if (inode)
		d->inode_lock = (u64)&inode->i_rwsem;
}

static __always_inline u64 first_argument(struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_x86)
	return BPF_CORE_READ(regs, di);
#elif defined(__TARGET_ARCH_arm64)
	/* sys_enter comes before the return value takes the register's place. */
	return BPF_CORE_READ((struct user_pt_regs *)regs, regs[0]);
#endif
}

static __always_inline int enter(struct pt_regs *regs, u64 nr)
{
	struct doing *d;

	if (!is_write(nr) || !is_target(target_cgroup))
		return 0;
	d = doing_of_current(BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!d) {
		count(LOCK_LOST_ENTRY, 1);
		return 0;
	}
	d->inode_lock = 0;
	d->position_lock = 0;
	find_locks(d, first_argument(regs));
	d->enter_ns = bpf_ktime_get_ns();
	return 0;
}

static __always_inline bool raise_newest(struct queue *q, u64 enter_ns)
{
	for (int i = 0; i < LOCK_TRIES; i++) {
		u64 newest = *(volatile u64 *)&q->newest_ns;

		if (enter_ns <= newest)
			return true;
		if (__sync_val_compare_and_swap(&q->newest_ns, newest, enter_ns) == newest)
			return true;
	}
	return false;
}

/*
 * The swap succeeds only if the generation is still the one that was open
 * before sample_begin_ns was read, so no overtaking is put to a later waiter.
 */
static __always_inline bool count_overtaking(struct queue *q, u64 enter_ns)
{
	for (int i = 0; i < LOCK_TRIES; i++) {
		/* An atomic, for its memory barrier. */
		u64 sample = __sync_fetch_and_add(&q->sample, 0);

		if (!(sample >> 32 & 1) || enter_ns <= *(volatile u64 *)&q->sample_begin_ns)
			return true;
		if (__sync_val_compare_and_swap(&q->sample, sample, sample + 1) == sample)
			return true;
	}
	return false;
}

static __always_inline int leave(long ret)
{
	struct doing *d;
	struct queue *q;
	u64 enter_ns, lock;
	bool counted;

	if (!target_cgroup)
		return 0;
	d = doing_of_current(0);
	if (!d || !d->enter_ns)
		return 0;
	enter_ns = d->enter_ns;
	lock = d->inode_lock;
	d->enter_ns = 0;
	d->inode_lock = 0;
	d->position_lock = 0;
	if (ret <= 0 || enter_ns < since_ns)
		return 0;
	count(LOCK_WRITES, 1);
	q = bpf_map_lookup_elem(&queues, &lock);
	if (!q)
		return 0;
	counted = raise_newest(q, enter_ns);
	if (!count_overtaking(q, enter_ns) || !counted)
		count(LOCK_LOST_RACE, 1);
	return 0;
}

static __always_inline int kind_of(u32 flags)
{
	if (flags & (LCB_F_RT | LCB_F_PERCPU))
		return -1;
	/* A mutex announces its spinning and its sleeping. */
	if (flags & LCB_F_MUTEX)
		return LOCK_MUTEX;
	if (flags == LCB_F_WRITE)
		return LOCK_RWSEM_WRITE;
	if (flags == LCB_F_READ)
		return LOCK_RWSEM_READ;
	return -1; /* spinlocks and rwlocks */
}

static __always_inline void open_sample(struct queue *q, u64 now)
{
	u64 self = bpf_get_current_pid_tgid();

	if (__sync_val_compare_and_swap(&q->sampler, 0, self) != 0)
		return;
	q->sample_begin_ns = now;
	__sync_fetch_and_add(&q->sample, 1ULL << 32);
}

static __always_inline int begin(u64 lock, u32 flags)
{
	int kind = kind_of(flags);
	struct queue empty = {}, *q;
	struct doing *d;

	if (kind < 0 || !is_target(target_cgroup))
		return 0;
	d = doing_of_current(BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!d) {
		count(LOCK_LOST_WAIT, 1);
		return 0;
	}
	if (d->lock == lock)
		return 0; /* one wait, announced again */
	d->lock = lock;
	d->kind = kind;
	if (kind != LOCK_RWSEM_WRITE || lock != d->inode_lock) {
		d->begin_ns = bpf_ktime_get_ns();
		return 0;
	}
	q = bpf_map_lookup_elem(&queues, &lock);
	if (!q) {
		bpf_map_update_elem(&queues, &lock, &empty, BPF_NOEXIST);
		q = bpf_map_lookup_elem(&queues, &lock);
	}
	d->begin_ns = bpf_ktime_get_ns();
	if (q)
		open_sample(q, d->begin_ns);
	else
		count(LOCK_LOST_WAIT, 1);
	return 0;
}

/* Ends the sample if it is the caller's and returns its overtakings, else -1. */
static __always_inline s64 close_sample(struct queue *q)
{
	u64 sample, next;

	if (q->sampler != bpf_get_current_pid_tgid())
		return -1;
	/* Only the sampler opens and closes, so the generation stands still. */
	next = ((*(volatile u64 *)&q->sample >> 32) + 1) << 32;
	sample = __sync_lock_test_and_set(&q->sample, next);
	__sync_lock_test_and_set(&q->sampler, 0);
	return sample & 0xffffffff;
}

static __always_inline void record_overtaking(struct queue *q, u64 begin_ns, s64 overtakings)
{
	if (*(volatile u64 *)&q->newest_ns > begin_ns)
		count(LOCK_OVERTAKEN, 1);
	if (overtakings < 0)
		return;
	count(LOCK_SAMPLED, 1);
	count(LOCK_SAMPLED_OVERTAKINGS, overtakings);
	if (overtakings > 0)
		count(LOCK_SAMPLED_OVERTAKEN, 1);
	RECORD(LOCK_OVERTAKINGS, overtakings);
}

static __always_inline int end(u64 lock, int ret)
{
	struct doing *d = doing_of_current(0);
	u64 begin_ns, waited_ns;
	struct queue *q = NULL;
	bool inode, measured;
	s64 overtakings = -1;

	if (!d || !lock || d->lock != lock)
		return 0;
	d->lock = 0;
	begin_ns = d->begin_ns;
	inode = d->kind == LOCK_RWSEM_WRITE && lock == d->inode_lock;
	if (inode)
		q = bpf_map_lookup_elem(&queues, &lock);
	if (q)
		overtakings = close_sample(q);
	measured = target_cgroup && begin_ns >= since_ns;
	if (!measured)
		return 0;
	waited_ns = bpf_ktime_get_ns() - begin_ns;
	RECORD(d->kind, waited_ns);
	if (inode)
		RECORD(LOCK_INODE, waited_ns);
	if (d->kind == LOCK_MUTEX && lock == d->position_lock)
		RECORD(LOCK_POSITION, waited_ns);
	if (q && ret == 0)
		record_overtaking(q, begin_ns, overtakings);
	return 0;
}

#define PROGRAMS(rung)                                                                             \
	SEC(#rung "/sys_enter")                                                                    \
	int enter_##rung(u64 *ctx)                                                                 \
	{                                                                                          \
		return enter((struct pt_regs *)ctx[0], ctx[1]);                                    \
	}                                                                                          \
	SEC(#rung "/sys_exit")                                                                     \
	int exit_##rung(u64 *ctx)                                                                  \
	{                                                                                          \
		return leave(ctx[1]);                                                              \
	}                                                                                          \
	SEC(#rung "/contention_begin")                                                             \
	int begin_##rung(u64 *ctx)                                                                 \
	{                                                                                          \
		return begin(ctx[0], ctx[1]);                                                      \
	}                                                                                          \
	SEC(#rung "/contention_end")                                                               \
	int end_##rung(u64 *ctx)                                                                   \
	{                                                                                          \
		return end(ctx[0], ctx[1]);                                                        \
	}

PROGRAMS(tp_btf)
PROGRAMS(raw_tp)

char LICENSE[] SEC("license") = "Dual BSD/GPL";
