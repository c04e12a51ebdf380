// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
//go:build ignore

#include "../headers/probe.bpf.h"
#include <bpf/bpf_tracing.h>
#include "fault.h"

COUNTERS(FAULT_COUNTERS);

/* X86_PF_* of arch/x86/include/asm/trap_pf.h. */
#define PF_PROT	 1
#define PF_WRITE 2
#define PF_INSTR 16

/* FAULT_FLAG_* of include/linux/mm_types.h. */
#define FLAG_WRITE	 0x1
#define FLAG_USER	 0x40
#define FLAG_INSTRUCTION 0x100

static __always_inline bool measured(void)
{
	u64 target = target_cgroup;

	return target && current_is_target(target);
}

static __always_inline int user_fault(u64 error_code)
{
	u32 kind = FAULT_READ;

	if (!measured())
		return 0;
	if (error_code & PF_INSTR)
		kind = FAULT_EXEC;
	else if (error_code & PF_PROT)
		kind = FAULT_PROTECTION;
	else if (error_code & PF_WRITE)
		kind = FAULT_WRITE;
	count(kind, 1);
	return 0;
}

static __always_inline int kernel_fault(void)
{
	if (measured())
		count(FAULT_KERNEL, 1);
	return 0;
}

/* handle_mm_fault cannot tell an absent page from a protected one. */
static __always_inline int mm_fault(u64 flags)
{
	u32 kind = FAULT_READ;

	if (!measured())
		return 0;
	if (!(flags & FLAG_USER))
		kind = FAULT_KERNEL;
	else if (flags & FLAG_INSTRUCTION)
		kind = FAULT_EXEC;
	else if (flags & FLAG_WRITE)
		kind = FAULT_WRITE;
	count(kind, 1);
	return 0;
}

SEC("tp_btf/page_fault_user")
int user_tp_btf(u64 *ctx)
{
	return user_fault(ctx[2]);
}

SEC("tp_btf/page_fault_kernel")
int kernel_tp_btf(u64 *ctx)
{
	return kernel_fault();
}

SEC("raw_tp/page_fault_user")
int user_raw_tp(u64 *ctx)
{
	return user_fault(ctx[2]);
}

SEC("raw_tp/page_fault_kernel")
int kernel_raw_tp(u64 *ctx)
{
	return kernel_fault();
}

struct page_fault_args {
	u64 common;
	u64 address;
	u64 ip;
	u64 error_code;
};

SEC("tracepoint/exceptions/page_fault_user")
int user_tracepoint(struct page_fault_args *ctx)
{
	return user_fault(ctx->error_code);
}

SEC("tracepoint/exceptions/page_fault_kernel")
int kernel_tracepoint(void *ctx)
{
	return kernel_fault();
}

SEC("fentry/handle_mm_fault")
int mm_fentry(u64 *ctx)
{
	return mm_fault(ctx[2]);
}

SEC("kprobe/handle_mm_fault")
int mm_kprobe(struct pt_regs *ctx)
{
	return mm_fault(PT_REGS_PARM3_CORE(ctx));
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
