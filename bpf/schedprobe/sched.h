/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Shared by sched.bpf.c and schedprobe.go. */
#ifndef NEXUS_SCHED_H
#define NEXUS_SCHED_H

/* Histograms. */
#define SCHED_RUNQUEUE_WOKEN	 0
#define SCHED_RUNQUEUE_PREEMPTED 1
#define SCHED_OFFCPU_VOLUNTARY	 2
#define SCHED_ONCPU		 3
#define SCHED_SLOTS		 4

/* Counters. */
#define SCHED_VOLUNTARY	    0
#define SCHED_INVOLUNTARY   1
#define SCHED_WOKEN	    2
#define SCHED_WOKEN_NEW	    3
#define SCHED_LOST_SWITCH   4
#define SCHED_LOST_WAKE	    5
#define SCHED_LOST_WAKE_NEW 6
#define SCHED_COUNTERS	    7

#define SCHED_TASKS_MAX 16384 /* raw tracepoint rung only */

#endif
