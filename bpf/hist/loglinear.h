/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Log-linear histogram: values below 32 have a bucket each, and every power of
 * two above is cut into 32 equal buckets. A bucket is at most 1/32 of its lower
 * edge wide, so its middle is within 1.6% of every value in it. Values of 2^46
 * and above (19.5 hours in ns) fall into the last bucket.
 *
 * hist.go holds the same arithmetic; hist_test.go runs both against each other.
 */
#ifndef NEXUS_LOGLINEAR_H
#define NEXUS_LOGLINEAR_H

#define LOGLINEAR_SUB_BITS 5
#define LOGLINEAR_SUBS	   (1 << LOGLINEAR_SUB_BITS)
#define LOGLINEAR_EXP_MAX  46
#define LOGLINEAR_LEN	   ((LOGLINEAR_EXP_MAX - LOGLINEAR_SUB_BITS + 1) * LOGLINEAR_SUBS)

struct loglinear {
	u64 sum;
	u64 counts[LOGLINEAR_LEN];
};

/* Floor of the binary logarithm; 0 for 0. BPF has no instruction for it. */
static __always_inline u32 loglinear_log2(u64 v)
{
	u32 r = 0;

	if (v >> 32) {
		v >>= 32;
		r += 32;
	}
	if (v >> 16) {
		v >>= 16;
		r += 16;
	}
	if (v >> 8) {
		v >>= 8;
		r += 8;
	}
	if (v >> 4) {
		v >>= 4;
		r += 4;
	}
	if (v >> 2) {
		v >>= 2;
		r += 2;
	}
	if (v >> 1)
		r += 1;
	return r;
}

static __always_inline u32 loglinear_index(u64 v)
{
	u32 e;

	if (v < LOGLINEAR_SUBS)
		return v;
	if (v >> LOGLINEAR_EXP_MAX)
		return LOGLINEAR_LEN - 1;
	e = loglinear_log2(v) - LOGLINEAR_SUB_BITS;
	return (e << LOGLINEAR_SUB_BITS) + (u32)(v >> e);
}

/*
 * Adds one value. The caller owns h for the length of the call: it lives in a
 * per-CPU map and only one program ever writes it. The kernel refuses to enter
 * a program again on a CPU that already runs it (and counts the refusal), so
 * no atomic is needed.
 */
static __always_inline void loglinear_add(struct loglinear *h, u64 v)
{
	u32 i = loglinear_index(v);

	if (i >= LOGLINEAR_LEN)
		return;
	h->sum += v;
	h->counts[i] += 1;
}

#endif
