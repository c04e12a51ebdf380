/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Shared by fault.bpf.c and faultprobe.go. */
#ifndef NEXUS_FAULT_H
#define NEXUS_FAULT_H

/* Counters. */
#define FAULT_READ	 0 /* page not present */
#define FAULT_WRITE	 1
#define FAULT_PROTECTION 2 /* page present: copy on write, or a first write */
#define FAULT_EXEC	 3
#define FAULT_KERNEL	 4 /* in kernel mode, as in copy_to_user */
#define FAULT_COUNTERS	 5

#endif
