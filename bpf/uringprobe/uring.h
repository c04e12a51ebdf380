/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Shared by uring.bpf.c and uringprobe.go. */
#ifndef NEXUS_URING_H
#define NEXUS_URING_H

#define URING_OPCODES 72 /* slot 71 also counts every higher opcode */

/* Histograms: latency by opcode, then batches. */
#define URING_TASK_WORK	 URING_OPCODES
#define URING_LOCAL_WORK (URING_OPCODES + 1)
#define URING_SLOTS	 (URING_OPCODES + 2)

/* Counters: submitted by opcode, handed to io-wq by opcode, then single ones. */
#define URING_ASYNC	   URING_OPCODES
#define URING_LOST	   (2 * URING_OPCODES)
#define URING_CQE_EXTRA	   (2 * URING_OPCODES + 1)
#define URING_CQE_OVERFLOW (2 * URING_OPCODES + 2)
#define URING_COUNTERS	   (2 * URING_OPCODES + 3)

#define URING_INFLIGHT_MAX 32768

#endif
