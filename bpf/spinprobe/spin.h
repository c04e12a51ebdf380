/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Shared by spin.bpf.c and spinprobe.go. */
#ifndef NEXUS_SPIN_H
#define NEXUS_SPIN_H

#define SPIN_EVENTS   0
#define SPIN_NS	      1 /* spent spinning, as the program's own clock has it */
#define SPIN_COUNTERS 2

#define SPIN_TURNS_MAX 1000

#endif
