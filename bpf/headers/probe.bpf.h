/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What every probe shares: the switch that user space sets per trial, the
 * attribution to a cgroup, and the per-CPU maps that results go to.
 */
#ifndef NEXUS_PROBE_BPF_H
#define NEXUS_PROBE_BPF_H

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "../hist/loglinear.h"

/* Id of the measured cgroup (v2 hierarchy); 0 while switched off. */
volatile u64 target_cgroup = 0;
/* Time stamps from before this moment belong to an earlier trial. */
volatile u64 since_ns = 0;

#define HISTOGRAMS(n)                                                                              \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);                                           \
		__uint(max_entries, n);                                                            \
		__type(key, u32);                                                                  \
		__type(value, struct loglinear);                                                   \
	} histograms SEC(".maps")

#define COUNTERS(n)                                                                                \
	struct counters {                                                                          \
		u64 v[n];                                                                          \
	};                                                                                         \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);                                           \
		__uint(max_entries, 1);                                                            \
		__type(key, u32);                                                                  \
		__type(value, struct counters);                                                    \
	} counters SEC(".maps");                                                                   \
	/* Each counter is written by one program only: see loglinear_add. */                      \
	static __always_inline void count(u32 i, u64 by)                                           \
	{                                                                                          \
		u32 zero = 0;                                                                      \
		struct counters *c = bpf_map_lookup_elem(&counters, &zero);                        \
                                                                                                   \
		if (c && i < n)                                                                    \
			c->v[i] += by;                                                             \
	}

#define RECORD(slot, value)                                                                        \
	({                                                                                         \
		u32 __slot = (slot);                                                               \
		struct loglinear *__h = bpf_map_lookup_elem(&histograms, &__slot);                 \
		if (__h)                                                                           \
			loglinear_add(__h, (value));                                               \
	})

static __always_inline bool current_is_target(u64 target)
{
	return bpf_get_current_cgroup_id() == target;
}

/* Reads a field: see task_cgroup for trusted. */
#define FIELD(trusted, ptr, field) ((trusted) ? (ptr)->field : BPF_CORE_READ(ptr, field))

/*
 * Cgroup of a task that need not be current. trusted says that the verifier
 * knows the pointer's type (tp_btf, fentry), which allows plain loads; from any
 * other program kind each step has to go through bpf_probe_read_kernel.
 */
static __always_inline u64 task_cgroup(struct task_struct *task, const bool trusted)
{
	if (trusted)
		return task->cgroups->dfl_cgrp->kn->id;
	return BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
}

#endif
