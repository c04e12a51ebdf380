package convoy

import (
	"math"
	"testing"
)

var none = Range{math.NaN(), math.NaN()}

func TestVerdicts(t *testing.T) {
	rate := func(perS float64) SwitchRateResult {
		return SwitchRateResult{Points: []SwitchPoint{{Space: Threads, SwitchesPerS: []float64{1, perS}}}}
	}
	for _, test := range []struct {
		name      string
		got, want Verdict
	}{
		{"fsync serialises", VerdictFsyncSerialises(Range{2, 15.9}), Held},
		{"fsync scales", VerdictFsyncSerialises(Range{16, 20}), Refuted},
		{"fsync straddles", VerdictFsyncSerialises(Range{15, 16}), Inconclusive},
		{"fsync unmeasured", VerdictFsyncSerialises(none), Inconclusive},
		{"neighbour costs", VerdictFsyncNeighbour(Range{2, 3}), Held},
		{"neighbour is free", VerdictFsyncNeighbour(Range{0.9, 1.99}), Refuted},
		{"neighbour straddles", VerdictFsyncNeighbour(Range{1.9, 2}), Inconclusive},
		{"neighbour unmeasured", VerdictFsyncNeighbour(none), Inconclusive},
		{"inode lock", VerdictInodeLock(Locks{Writes: 1000, InodeWaits: 100}, Locks{Writes: 1000, InodeWaits: 10}), Held},
		{"inode lock, none alone", VerdictInodeLock(Locks{Writes: 1000, InodeWaits: 10}, Locks{Writes: 9}), Held},
		{"inode lock, nine times", VerdictInodeLock(Locks{Writes: 1000, InodeWaits: 90}, Locks{Writes: 1000, InodeWaits: 10}), Refuted},
		{"inode lock, few", VerdictInodeLock(Locks{Writes: 1000, InodeWaits: 9}, Locks{Writes: 1000}), Inconclusive},
		{"inode lock, nothing", VerdictInodeLock(Locks{}, Locks{}), Inconclusive},
		{"fifo, none seen overtaken", VerdictFIFO(Locks{InodeWaits: 1000}), Inconclusive},
		{"fifo, just above the limit", VerdictFIFO(Locks{InodeWaits: 10000, Overtaken: 130}), Refuted},
		{"fifo, too few", VerdictFIFO(Locks{InodeWaits: 9, Overtaken: 9}), Inconclusive},
		{"fifo, overtaken", VerdictFIFO(Locks{InodeWaits: 100, Overtaken: 50}), Refuted},
		{"fifo, at the limit", VerdictFIFO(Locks{InodeWaits: 1000, Overtaken: 10}), Inconclusive},
		{"linear", VerdictLinear(Range{6, 10}, Range{0.9, 1.2}), Held},
		{"linear, own alike", VerdictLinear(Range{6, 10}, Range{5, 9}), Inconclusive},
		{"flat", VerdictLinear(Range{0.9, 1.3}, Range{0.9, 1.3}), Refuted},
		{"explosive", VerdictLinear(Range{17, 40}, Range{1, 2}), Refuted},
		{"linear, straddles", VerdictLinear(Range{3, 10}, Range{1, 2}), Inconclusive},
		{"linear, unmeasured", VerdictLinear(none, none), Inconclusive},
		{"kprobe", VerdictKprobe(InodeLockSymbolResult{Exact: []Symbol{{Name: inodeLock}}, Kprobes: true}), Held},
		{"kprobes not compiled in", VerdictKprobe(InodeLockSymbolResult{Exact: []Symbol{{Name: inodeLock}}}), Refuted},
		{"32 commands", VerdictQueueDepth(32), Held},
		{"31 commands", VerdictQueueDepth(31), Refuted},
		{"254 commands", VerdictQueueDepth(254), Refuted},
		{"no kprobe", VerdictKprobe(InodeLockSymbolResult{Symbols: 9, Kprobes: true}), Refuted},
		{"switches", VerdictSwitchBudget(rate(SwitchBudgetPerS)), Held},
		{"too few switches", VerdictSwitchBudget(rate(SwitchBudgetPerS - 1)), Refuted},
		{"switches unmeasured", VerdictSwitchBudget(SwitchRateResult{}), Inconclusive},
	} {
		if test.got != test.want {
			t.Errorf("%s: %s, want %s", test.name, test.got, test.want)
		}
	}
}

// The Wilson interval against values from its formula worked by hand.
func TestOvertakenShare(t *testing.T) {
	for _, test := range []struct {
		waits, overtaken uint64
		lo, hi           float64
	}{
		{10, 0, 0, 0.2775}, {10, 10, 0.7225, 1}, {100, 50, 0.4038, 0.5962},
	} {
		got := OvertakenShare(Locks{InodeWaits: test.waits, Overtaken: test.overtaken})
		if math.Abs(got.Lo-test.lo) > 1e-3 || math.Abs(got.Hi-test.hi) > 1e-3 {
			t.Errorf("%d of %d: %+v, want %v to %v", test.overtaken, test.waits, got, test.lo, test.hi)
		}
	}
	if got := OvertakenShare(Locks{}); !math.IsNaN(got.Lo) || !math.IsNaN(got.Hi) {
		t.Errorf("of nothing: %+v", got)
	}
}
