package convoy

import "math"

// Verdict is the outcome of a claim, as reports.ClaimResult spells it.
type Verdict string

const (
	Held         Verdict = "held"
	Refuted      Verdict = "refuted"
	Inconclusive Verdict = "inconclusive"
)

// Range is an interval of confidence that the caller computed. One with a NaN
// decides nothing.
type Range struct {
	Lo, Hi float64
}

// Limits of the rules in claims.yaml.
const (
	fsyncScalingLimit    = 16.0
	neighbourLimit       = 2.0
	inodeWaitsLimit      = 10.0
	overtakenShareLimit  = 0.01
	linearGrowthMin      = 4.0
	linearGrowthMax      = 16.0
	SwitchBudgetPerS     = 25e6 // 100,000 tenants × 1,000 a second ÷ 4 cores
	waitsMin             = 10   // fewer decide nothing
	overtakenConfidenceZ = 1.96 // 95%, two-sided
)

// below is held if all of r is below the limit and refuted if none is.
func below(r Range, limit float64) Verdict {
	switch {
	case r.Hi < limit:
		return Held
	case r.Lo >= limit:
		return Refuted
	}
	return Inconclusive
}

// VerdictFsyncSerialises judges fsync-serialises by the ratio of the append
// rates of 256 writers and one.
func VerdictFsyncSerialises(ratio Range) Verdict { return below(ratio, fsyncScalingLimit) }

// VerdictFsyncNeighbour judges fsync-flushes-neighbours by the ratio of the
// latencies with and without the neighbour's unsynced appends.
func VerdictFsyncNeighbour(ratio Range) Verdict {
	switch below(ratio, neighbourLimit) {
	case Held:
		return Refuted
	case Refuted:
		return Held
	}
	return Inconclusive
}

// VerdictInodeLock judges o-append-takes-inode-lock by the waits per write of
// both layouts. A few waits may be chance, so they decide nothing.
func VerdictInodeLock(shared, own Locks) Verdict {
	if shared.Writes == 0 || own.Writes == 0 || shared.InodeWaits+own.InodeWaits < waitsMin {
		return Inconclusive
	}
	if shared.InodeWaitsPerWrite() >= inodeWaitsLimit*own.InodeWaitsPerWrite() {
		return Held
	}
	return Refuted
}

// VerdictFIFO judges inode-lock-is-fifo by the share of waits for the inode lock
// that were overtaken. The probe counts only overtakings that are certain, a
// lower bound: a share above the limit refutes, one below it decides nothing.
func VerdictFIFO(l Locks) Verdict {
	if l.InodeWaits >= waitsMin && OvertakenShare(l).Lo >= overtakenShareLimit {
		return Refuted
	}
	return Inconclusive
}

// OvertakenShare is the 95% Wilson score interval of the share of waits that
// were overtaken. Waits of one lock are not independent, so the truth is wider.
func OvertakenShare(l Locks) Range {
	if l.InodeWaits == 0 {
		return Range{math.NaN(), math.NaN()}
	}
	n := float64(l.InodeWaits)
	p := float64(l.Overtaken) / n
	z2 := overtakenConfidenceZ * overtakenConfidenceZ
	center := (p + z2/(2*n)) / (1 + z2/n)
	half := overtakenConfidenceZ / (1 + z2/n) * math.Sqrt(p*(1-p)/n+z2/(4*n*n))
	return Range{max(0, center-half), min(1, center+half)}
}

// VerdictLinear judges convoy-p99-linear by the growth of p99 from 8 to 64
// writers in both layouts. Where the writers of own files, which share no inode
// lock, may have grown as much, the lock is not shown to be the cause.
func VerdictLinear(shared, own Range) Verdict {
	inside := shared.Lo >= linearGrowthMin && shared.Hi <= linearGrowthMax
	outside := shared.Hi < linearGrowthMin || shared.Lo > linearGrowthMax
	switch {
	case outside:
		return Refuted
	case inside && own.Hi < shared.Lo:
		return Held
	}
	return Inconclusive
}

// VerdictKprobe judges kprobe-inode-lock: it takes the function and a kernel
// that can put kprobes on functions.
func VerdictKprobe(r InodeLockSymbolResult) Verdict {
	if len(r.Exact) > 0 && r.Kprobes {
		return Held
	}
	return Refuted
}

// VerdictSwitchBudget judges switch-budget by the best rate of either space: a
// core that cannot do it at its best cannot do it at all.
func VerdictSwitchBudget(r SwitchRateResult) Verdict {
	best := 0.0
	for _, space := range []Space{Threads, Processes} {
		if p := r.Best(space); p != nil {
			best = max(best, p.Max())
		}
	}
	switch {
	case best <= 0:
		return Inconclusive
	case best < SwitchBudgetPerS:
		return Refuted
	}
	return Held
}
