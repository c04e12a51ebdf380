/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What is in flight, by the address of the kernel's request. Requests come from
 * pools, so addresses repeat: an entry that has ended is zeroed and kept for the
 * next use of its address. That spares an allocation, a free and two bucket locks
 * for each request, most of what a hash map costs. Beyond so many entries they are
 * deleted after all, so that a machine with many queues doesn't fill the map.
 */
#ifndef NEXUS_INFLIGHT_BPF_H
#define NEXUS_INFLIGHT_BPF_H

#define INFLIGHT_KEPT_MAX 4096

/* Entries in the map; zeroed with it. */
u32 kept = 0;

#define INFLIGHTS(n)                                                                               \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_HASH);                                                   \
		__uint(max_entries, n);                                                            \
		__type(key, u64);                                                                  \
		__type(value, struct inflight);                                                    \
	} inflights SEC(".maps");                                                                  \
	/* False: the map is full. */                                                              \
	static __always_inline bool remember(u64 key, struct inflight *new)                        \
	{                                                                                          \
		if (bpf_map_update_elem(&inflights, &key, new, BPF_ANY))                           \
			return false;                                                              \
		__sync_fetch_and_add(&kept, 1);                                                    \
		return true;                                                                       \
	}                                                                                          \
	static __always_inline void forget(u64 key, struct inflight *old)                          \
	{                                                                                          \
		if (kept <= INFLIGHT_KEPT_MAX) {                                                   \
			__builtin_memset(old, 0, sizeof(*old));                                    \
			return;                                                                    \
		}                                                                                  \
		if (!bpf_map_delete_elem(&inflights, &key))                                        \
			__sync_fetch_and_add(&kept, -1);                                           \
	}

#endif
