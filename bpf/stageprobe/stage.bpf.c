// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
//go:build ignore

/*
 * A log of what the stages of a request are computed from: when the contender's
 * threads ran, waited and were woken by whom, and when the bytes of requests and
 * answers passed the sockets' edges. Nothing is computed here.
 */

#include "../headers/probe.bpf.h"
#include "stage.h"

COUNTERS(STAGE_COUNTERS);

#define TASK_UNINTERRUPTIBLE 2
#define TASK_DEAD	     0x80

/* The port that the contender serves at, host order. */
volatile u16 server_port = 0;
/* Set when the object is loaded. */
const volatile u32 events_max = 1;

/* The next free event of all CPUs; it counts on when there is no room. */
u64 cursor = 0;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, 1 << 10); /* BPF_F_MMAPABLE */
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct stage_event);
} events SEC(".maps");

/* What only this file reads of kernel types; see bpf_core_read.h on ___. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct sched_entity___stage {
	u64 sum_exec_runtime;
};
struct task_struct___stage {
	struct sched_entity___stage se;
	unsigned int in_iowait : 1;
};
struct pt_regs___x86 {
	unsigned long orig_ax;
};
struct pt_regs___arm64 {
	int syscallno;
};
#pragma clang attribute pop

/* include/uapi/linux/bpf.h: stable. */
struct __sk_buff {
	u32 len;
	u32 pkt_type;
	u32 mark;
	u32 queue_mapping;
	u32 protocol;
};

/* What a CPU is in the middle of, beside its thread. */
struct interrupt {
	u32 softirq; /* its number + 1 */
	u32 hardirq;
	u32 timer;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct interrupt);
} interrupts SEC(".maps");

static __always_inline struct stage_event *append(u8 kind)
{
	u64 slot = __sync_fetch_and_add(&cursor, 1);
	struct stage_event *e;
	u32 key;

	if (slot >= events_max)
		return 0;
	key = slot;
	e = bpf_map_lookup_elem(&events, &key);
	if (!e)
		return 0;
	e->ns = bpf_ktime_get_ns();
	e->kind = kind;
	e->flags = 0;
	e->context = 0;
	e->who = 0;
	e->value = 0;
	e->other = 0;
	e->len = 0;
	return e;
}

/*
 * The context that this program runs in: see stage.h. The kernel's own count of
 * it (preempt_count) can't be read everywhere: its address needs KALLSYMS_ALL.
 */
static __always_inline u8 context(void)
{
	u32 zero = 0;
	struct interrupt *now = bpf_map_lookup_elem(&interrupts, &zero);

	if (!now)
		return STAGE_THREAD;
	if (now->timer)
		return STAGE_TIMER;
	if (now->hardirq)
		return STAGE_HARDIRQ;
	if (now->softirq)
		return STAGE_SOFTIRQ + now->softirq - 1;
	return STAGE_THREAD;
}

#define INTERRUPT(name, tracepoint, field, value)                                                  \
	SEC("tp_btf/" tracepoint)                                                                  \
	int name(u64 *ctx)                                                                         \
	{                                                                                          \
		u32 zero = 0;                                                                      \
		struct interrupt *now = bpf_map_lookup_elem(&interrupts, &zero);                   \
                                                                                                   \
		if (now)                                                                           \
			now->field = (value);                                                      \
		return 0;                                                                          \
	}

INTERRUPT(softirq_entry_tp_btf, "softirq_entry", softirq, ctx[0] + 1)
INTERRUPT(softirq_exit_tp_btf, "softirq_exit", softirq, 0)
INTERRUPT(hardirq_entry_tp_btf, "irq_handler_entry", hardirq, 1)
INTERRUPT(hardirq_exit_tp_btf, "irq_handler_exit", hardirq, 0)
INTERRUPT(hrtimer_entry_tp_btf, "hrtimer_expire_entry", timer, 1)
INTERRUPT(hrtimer_exit_tp_btf, "hrtimer_expire_exit", timer, 0)
INTERRUPT(wheel_entry_tp_btf, "timer_expire_entry", timer, 1)
INTERRUPT(wheel_exit_tp_btf, "timer_expire_exit", timer, 0)

static __always_inline u32 system_call(struct task_struct *task)
{
	void *regs = (void *)bpf_task_pt_regs(task);
	struct pt_regs___arm64 *arm64 = regs;
	struct pt_regs___x86 *x86 = regs;

	if (bpf_core_field_exists(x86->orig_ax))
		return BPF_CORE_READ(x86, orig_ax);
	if (bpf_core_field_exists(arm64->syscallno))
		return BPF_CORE_READ(arm64, syscallno);
	return -1;
}

static __always_inline void leave(struct task_struct *prev, bool preempt, u32 state)
{
	struct stage_event *e = append(STAGE_OUT);

	if (!e)
		return;
	e->who = prev->pid;
	if (preempt || !state)
		e->flags |= STAGE_RUNNABLE;
	if (state & TASK_UNINTERRUPTIBLE)
		e->flags |= STAGE_UNINTERRUPTIBLE;
	if (BPF_CORE_READ_BITFIELD_PROBED((struct task_struct___stage *)prev, in_iowait))
		e->flags |= STAGE_IOWAIT;
	if (state & TASK_DEAD)
		e->flags |= STAGE_DEAD;
	e->value = system_call(prev);
	e->len = BPF_CORE_READ((struct task_struct___stage *)prev, se.sum_exec_runtime);
}

SEC("tp_btf/sched_switch")
int switch_tp_btf(u64 *ctx)
{
	struct task_struct *prev = (struct task_struct *)ctx[1];
	struct task_struct *next = (struct task_struct *)ctx[2];
	u64 target = target_cgroup;

	if (!target)
		return 0;
	if (prev->pid && task_cgroup(prev, true) == target)
		leave(prev, ctx[0], ctx[3]);
	if (next->pid && task_cgroup(next, true) == target) {
		struct stage_event *e = append(STAGE_IN);

		if (e)
			e->who = next->pid;
	}
	return 0;
}

/* The contender's thread that this CPU runs, 0 for any other's. */
static __always_inline u32 current_thread(u64 target)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	return task_cgroup(task, false) == target ? BPF_CORE_READ(task, pid) : 0;
}

static __always_inline int woken(struct task_struct *task)
{
	u64 target = target_cgroup;
	struct stage_event *e;

	if (!target || task_cgroup(task, true) != target)
		return 0;
	e = append(STAGE_WAKE);
	if (!e)
		return 0;
	e->who = task->pid;
	e->context = context();
	e->other = current_thread(target);
	return 0;
}

SEC("tp_btf/sched_waking")
int waking_tp_btf(u64 *ctx)
{
	return woken((struct task_struct *)ctx[0]);
}

SEC("tp_btf/sched_wakeup_new")
int wakeup_new_tp_btf(u64 *ctx)
{
	return woken((struct task_struct *)ctx[0]);
}

/* One packet's way through the headers. */
struct parsed {
	u32 offset; /* of the payload */
	u32 len;    /* of the payload */
	u32 seq;
	u16 sport, dport;
	u8 protocol;
	u8 syn;
};

#define ETH_P_IP_BE   0x0008 /* as a little-endian CPU reads them */
#define ETH_P_IPV6_BE 0xdd86
#define IPPROTO_TCP   6
#define IPPROTO_UDP   17

static __always_inline u16 be16(const u8 *p)
{
	return (u16)p[0] << 8 | p[1];
}

static __always_inline bool parse(struct __sk_buff *skb, struct parsed *out)
{
	u8 h[40];
	u32 at;

	if (skb->protocol == ETH_P_IP_BE) {
		if (bpf_skb_load_bytes(skb, 0, h, 20))
			return false;
		at = (h[0] & 15) * 4;
		out->protocol = h[9];
	} else if (skb->protocol == ETH_P_IPV6_BE) {
		if (bpf_skb_load_bytes(skb, 0, h, 40))
			return false;
		at = 40;
		out->protocol = h[6];
	} else {
		return false;
	}
	if (out->protocol != IPPROTO_TCP && out->protocol != IPPROTO_UDP)
		return false;
	if (bpf_skb_load_bytes(skb, at, h, 8))
		return false;
	out->sport = be16(h);
	out->dport = be16(h + 2);
	out->offset = at + 8;
	if (out->sport != server_port && out->dport != server_port)
		return false;
	if (out->protocol == IPPROTO_TCP) {
		if (bpf_skb_load_bytes(skb, at, h, 20))
			return false;
		out->seq = (u32)be16(h + 4) << 16 | be16(h + 6);
		out->syn = h[13] >> 1 & 1;
		out->offset = at + (h[12] >> 4) * 4;
	}
	if (skb->len < out->offset)
		return false;
	out->len = skb->len - out->offset;
	return true;
}

static __always_inline void stamp(const struct parsed *p, u8 kind, u16 port, u64 value, u32 len)
{
	u64 target = target_cgroup;
	struct stage_event *e = append(kind);

	if (!e)
		return;
	e->who = port;
	e->value = value;
	e->len = len;
	if (p->syn)
		e->flags |= STAGE_SYN;
	if (p->protocol == IPPROTO_UDP)
		e->flags |= STAGE_UDP;
	if (kind != STAGE_SERVER_TX)
		return;
	e->context = context();
	e->other = current_thread(target);
}

/*
 * A datagram holds whole frames, and a packet that the kernel segments later
 * holds whole datagrams, so frames follow each other up to the packet's end.
 */
static __always_inline void stamp_frames(struct __sk_buff *skb, const struct parsed *p, u8 kind,
					 u16 port, u32 unparsed)
{
	u32 left = p->len, at = p->offset;
	struct {
		u32 len;
		u8 version, op, status, flags;
		u64 id;
	} header;
	int i;

	for (i = 0; i < FRAMES_PER_PACKET_MAX && left >= 24; i++) {
		u32 whole;

		if (bpf_skb_load_bytes(skb, at, &header, sizeof(header)))
			return;
		whole = header.len + 4;
		if (header.version != 1 || whole < 24 || whole > left)
			break;
		stamp(p, kind, port, header.id, whole);
		at += whole;
		left -= whole;
	}
	if (left)
		count(unparsed, 1);
}

static __always_inline int packet(struct __sk_buff *skb, bool egress)
{
	struct parsed p = {};
	bool to_server;
	u16 port;
	u8 kind;

	if (!target_cgroup || !parse(skb, &p) || (!p.len && !p.syn))
		return 1;
	to_server = p.dport == server_port;
	port = to_server ? p.sport : p.dport;
	if (egress)
		kind = to_server ? STAGE_CLIENT_TX : STAGE_SERVER_TX;
	else
		kind = to_server ? STAGE_SERVER_RX : STAGE_CLIENT_RX;
	if (p.protocol == IPPROTO_UDP)
		stamp_frames(skb, &p, kind, port, egress ? STAGE_UNPARSED_TX : STAGE_UNPARSED_RX);
	else
		stamp(&p, kind, port, p.seq, p.len);
	return 1;
}

SEC("cgroup_skb/egress")
int egress_cgroup_skb(struct __sk_buff *skb)
{
	return packet(skb, true);
}

SEC("cgroup_skb/ingress")
int ingress_cgroup_skb(struct __sk_buff *skb)
{
	return packet(skb, false);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
