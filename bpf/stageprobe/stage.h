/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Shared by stage.bpf.c and stageprobe.go. */
#ifndef NEXUS_STAGE_H
#define NEXUS_STAGE_H

/* Kinds of events. */
#define STAGE_OUT	1 /* a thread leaves its CPU; value: system call */
#define STAGE_IN	2 /* a thread gets a CPU */
#define STAGE_WAKE	3 /* a thread becomes runnable; other: who woke it */
#define STAGE_CLIENT_TX 4 /* packets: value is the TCP sequence number or the frame's id */
#define STAGE_SERVER_RX 5
#define STAGE_SERVER_TX 6
#define STAGE_CLIENT_RX 7

/* Flags of STAGE_OUT. */
#define STAGE_RUNNABLE	      1 /* preempted */
#define STAGE_UNINTERRUPTIBLE 2
#define STAGE_IOWAIT	      4
#define STAGE_DEAD	      8
/* Flags of packets. */
#define STAGE_SYN 1
#define STAGE_UDP 2

/* Context that an event happened in: a thread's own, an interrupt's, or that of
 * soft interrupt number context - STAGE_SOFTIRQ. */
#define STAGE_THREAD  0
#define STAGE_TIMER   1
#define STAGE_HARDIRQ 2
#define STAGE_SOFTIRQ 3

struct stage_event {
	u64 ns; /* CLOCK_MONOTONIC */
	u8 kind;
	u8 flags;
	u8 context;
	u8 unused;
	u32 who; /* thread, or the client's port */
	u64 value;
	u32 other; /* thread of the contender, 0: none */
	u32 len;   /* payload, bytes; of STAGE_OUT: the thread's run time so far, ns, modulo 2^32 */
};

/* Counters. */
#define STAGE_UNPARSED_TX 0 /* datagrams that hold no frame of the protocol */
#define STAGE_UNPARSED_RX 1
#define STAGE_COUNTERS	  2

#define FRAMES_PER_PACKET_MAX 64

#endif
