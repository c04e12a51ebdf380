/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Shared by block.bpf.c and blockprobe.go. */
#ifndef NEXUS_BLOCK_H
#define NEXUS_BLOCK_H

/* Who issued a request. */
#define BLOCK_DIRECT	0 /* a thread of the cgroup */
#define BLOCK_WRITEBACK 1 /* a kernel thread, for the cgroup (blkcg of the v2 hierarchy) */
#define BLOCK_JBD2	2 /* kernel threads, for whomever: */
#define BLOCK_KWORKER	3
#define BLOCK_KTHREAD	4
#define BLOCK_ORIGINS	5
#define BLOCK_STRANGER	255

#define BLOCK_READ    0
#define BLOCK_WRITE   1
#define BLOCK_FLUSH   2
#define BLOCK_DISCARD 3
#define BLOCK_OTHER   4
#define BLOCK_OPS     5

/* Histograms: latency and bytes by origin and op, then queue time by origin. */
#define BLOCK_PAIRS  (BLOCK_ORIGINS * BLOCK_OPS)
#define BLOCK_QUEUED (2 * BLOCK_PAIRS)
#define BLOCK_SLOTS  (BLOCK_QUEUED + BLOCK_ORIGINS)

/* Counters. */
#define BLOCK_ISSUED	   0
#define BLOCK_LOST	   1
#define BLOCK_LOST_INSERT  2
#define BLOCK_ERRORS	   3
#define BLOCK_MERGED_BACK  4 /* parts of the cgroup that joined a waiting request */
#define BLOCK_MERGED_FRONT 5
#define BLOCK_MISSED	   6 /* completions, found out by the next issue of the request */
#define BLOCK_COUNTERS	   7

#define BLOCK_INFLIGHT_MAX 16384

#endif
