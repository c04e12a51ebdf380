// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
//go:build ignore

#include "../headers/probe.bpf.h"
#include "spin.h"

COUNTERS(SPIN_COUNTERS);

/* How long each event of the cgroup is held up. */
volatile u64 spin_ns = 0;

static __always_inline int enter(void)
{
	u64 target = target_cgroup, began, now;

	if (!target || !current_is_target(target))
		return 0;
	began = now = bpf_ktime_get_ns();
	for (int i = 0; i < SPIN_TURNS_MAX && now - began < spin_ns; i++)
		now = bpf_ktime_get_ns();
	count(SPIN_EVENTS, 1);
	count(SPIN_NS, now - began);
	return 0;
}

SEC("tp_btf/sys_enter")
int enter_tp_btf(u64 *ctx)
{
	return enter();
}

SEC("raw_tp/sys_enter")
int enter_raw_tp(u64 *ctx)
{
	return enter();
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
