// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
//go:build ignore

/* Runs the C bucketing on values from a test: see hist_test.go. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "loglinear.h"

#define VALUES 512

u64 values[VALUES];
u32 indexes[VALUES];
struct loglinear sample;

SEC("syscall")
int bucket_all(void *ctx)
{
	u32 i;

	for (i = 0; i < VALUES; i++) {
		indexes[i] = loglinear_index(values[i]);
		loglinear_add(&sample, values[i]);
	}
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
