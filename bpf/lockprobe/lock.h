/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Shared by lock.bpf.c and lockprobe.go. */
#ifndef NEXUS_LOCK_H
#define NEXUS_LOCK_H

/* Histograms. The first three part the waits by kind of lock; the next two are */
/* parts of them; the last counts overtakings per sampled waiter. */
#define LOCK_RWSEM_WRITE 0
#define LOCK_RWSEM_READ	 1
#define LOCK_MUTEX	 2
#define LOCK_INODE	 3 /* of RWSEM_WRITE: i_rwsem of the file being written */
#define LOCK_POSITION	 4 /* of MUTEX: f_pos_lock of the file being written */
#define LOCK_OVERTAKINGS 5
#define LOCK_SLOTS	 6

/* Counters. */
#define LOCK_WRITES		 0 /* write calls that wrote something */
#define LOCK_OVERTAKEN		 1 /* waits for the inode lock that were overtaken */
#define LOCK_SAMPLED		 2 /* of them, those whose overtakings were counted */
#define LOCK_SAMPLED_OVERTAKEN	 3
#define LOCK_SAMPLED_OVERTAKINGS 4
#define LOCK_LOST_ENTRY		 5 /* no memory for the task's state */
#define LOCK_LOST_WAIT		 6 /* the same, or no room for the lock's state */
#define LOCK_LOST_RACE		 7 /* gave up after LOCK_TRIES attempts */
#define LOCK_COUNTERS		 8

#define LOCK_TRIES     16
#define LOCK_INODES    8192
#define LOCK_WRITE_NRS 5

#endif
