/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Shared by syscall.bpf.c and syscallprobe.go. */
#ifndef NEXUS_SYSCALL_H
#define NEXUS_SYSCALL_H

#define SYSCALL_NR_MAX	 512 /* numbers above share one slot */
#define SYSCALL_SLOTS	 64  /* slot 0: calls that found no free slot */
#define SYSCALL_ENTERED	 0
#define SYSCALL_LOST	 1 /* no memory for the task's state */
#define SYSCALL_COUNTERS 2

#endif
