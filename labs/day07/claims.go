package day07

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/nexuscore-labs/nexus/labs/day07/convoy"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/reports/quantity"
	"github.com/nexuscore-labs/nexus/reports/stats"
	"github.com/nexuscore-labs/nexus/scenarios"
)

// claim states a verdict with its evidence.
func claim(id string, verdict convoy.Verdict, evidence string, args ...any) reports.ClaimResult {
	return reports.ClaimResult{ID: id, Verdict: string(verdict), Evidence: fmt.Sprintf(evidence, args...)}
}

// unmeasured says why this machine can't decide a claim.
func unmeasured(id string, why error) reports.ClaimResult {
	return reports.ClaimResult{ID: id, Verdict: scenarios.ClaimNotMeasurable, Evidence: why.Error()}
}

// rangeOf is what the rules of package convoy judge by. An interval that could
// not be made holds no number, so it decides nothing.
func rangeOf(i stats.Interval) convoy.Range {
	if !i.Valid() {
		return convoy.Range{Lo: math.NaN(), Hi: math.NaN()}
	}
	return convoy.Range{Lo: i.Lo, Hi: i.Hi}
}

// times writes a ratio with its interval: "2.1× (95% CI 1.9 to 2.4, n=5)".
func times(i stats.Interval) string {
	if !i.Valid() {
		return fmt.Sprintf("no ratio (n=%d)", i.N)
	}
	return fmt.Sprintf("%s× (95%% CI %s to %s, n=%d)", quantity.Digits(i.Center), quantity.Digits(i.Lo), quantity.Digits(i.Hi), i.N)
}

// sized picks the options of the mode.
func sized[T any](mode string, quick, full T) T {
	if mode == scenarios.ModeFull {
		return full
	}
	return quick
}

// checkFsyncClaims tests what the lesson says of fsync.
func checkFsyncClaims(ctx context.Context, env scenarios.CheckEnv) (scenarios.CheckResult, error) {
	var found scenarios.CheckResult
	scaling, err := convoy.FsyncScaling(ctx, sized(env.Mode, convoy.QuickFsyncScaling(env.Dir), convoy.FullFsyncScaling(env.Dir)))
	if err != nil {
		return found, err
	}
	env.Progress(1, 2)
	neighbour, err := convoy.FsyncNeighbour(ctx, sized(env.Mode, convoy.QuickFsyncNeighbour(env.Dir), convoy.FullFsyncNeighbour(env.Dir)))
	if err != nil {
		return found, err
	}
	ratio := stats.MedianCI(scaling.Ratios(1, 256), env.Seed)
	found.Claims = append(found.Claims,
		claim("fsync-serialises", convoy.VerdictFsyncSerialises(rangeOf(ratio)),
			"256 writers reach %s the rate of one, not 256×", times(ratio)),
		flushClaim(scaling, env.Seed))
	dirty := stats.MedianCI(neighbour.Ratios(), env.Seed)
	writeback := stats.MedianCI(neighbour.WritebackRatios(), env.Seed)
	found.Claims = append(found.Claims,
		claim("fsync-flushes-neighbours", convoy.VerdictFsyncNeighbour(rangeOf(dirty)),
			"fsync takes %s as long beside 8 MiB of unsynced appends (%s): delayed allocation keeps them out of the journal's commit", times(dirty), neighbour.Filesystem),
		claim("fsync-flushes-neighbours-writeback", convoy.VerdictFsyncNeighbour(rangeOf(writeback)),
			"fsync takes %s as long once the writeback of the neighbour's 8 MiB has begun (%s)", times(writeback), neighbour.Filesystem))
	env.Progress(2, 2)
	return found, nil
}

// flushClaim judges one-flush-per-fsync by what the disk counted.
func flushClaim(scaling convoy.FsyncScalingResult, seed uint64) reports.ClaimResult {
	const id = "one-flush-per-fsync"
	for _, p := range scaling.Points {
		if p.Writers != 256 {
			continue
		}
		if len(p.FlushesPerAppend) == 0 {
			return unmeasured(id, errors.New("the kernel does not count flushes of this file system's device"))
		}
		flushes := stats.MedianCI(p.FlushesPerAppend, seed)
		verdict := convoy.Inconclusive
		switch r := rangeOf(flushes); {
		case r.Lo >= 0.9:
			verdict = convoy.Held
		case r.Hi < 0.9:
			verdict = convoy.Refuted
		}
		return claim(id, verdict, "the disk saw %s flushes for each fsync at 256 concurrent writers: the journal lets one commit serve many",
			quantity.Digits(flushes.Center))
	}
	return unmeasured(id, errors.New("256 writers were not measured"))
}

// checkConvoyClaims tests what the lesson says of the inode lock.
func checkConvoyClaims(ctx context.Context, env scenarios.CheckEnv) (scenarios.CheckResult, error) {
	var found scenarios.CheckResult
	result, err := convoy.Writers(ctx, sized(env.Mode, convoy.QuickWriters(env.Dir), convoy.FullWriters(env.Dir)))
	if err != nil {
		return found, err
	}
	shared := stats.MedianCI(result.Growth(convoy.SharedFile, 8, 64, 0.99), env.Seed)
	own := stats.MedianCI(result.Growth(convoy.OwnFiles, 8, 64, 0.99), env.Seed)
	found.Claims = append(found.Claims, claim("convoy-p99-linear", convoy.VerdictLinear(rangeOf(shared), rangeOf(own)),
		"from 8 to 64 writers p99 grows %s on one file and %s on files of their own, where only the scheduler is shared", times(shared), times(own)))
	if result.LocksErr != nil {
		found.Claims = append(found.Claims, unmeasured("o-append-takes-inode-lock", result.LocksErr), unmeasured("inode-lock-is-fifo", result.LocksErr))
		return found, nil
	}
	together, apart := result.Locks(convoy.SharedFile, 2), result.Locks(convoy.OwnFiles, 2)
	share := convoy.OvertakenShare(together)
	found.Claims = append(found.Claims,
		claim("o-append-takes-inode-lock", convoy.VerdictInodeLock(together, apart),
			"%d of %d writes to one file slept on its inode lock (%s each at the median), and %d of %d to files of their own",
			together.InodeWaits, together.Writes, quantity.Of("ns").Format(together.InodeWaitNs.Quantile(0.5)), apart.InodeWaits, apart.Writes),
		claim("inode-lock-is-fifo", convoy.VerdictFIFO(together),
			"%d of %d waiters were overtaken by a write that began later (95%% CI %.1f%% to %.1f%%)",
			together.Overtaken, together.InodeWaits, 100*share.Lo, 100*share.Hi))
	return found, nil
}

// checkKernelClaims tests what the lesson takes for granted about the kernel.
func checkKernelClaims(ctx context.Context, env scenarios.CheckEnv) (scenarios.CheckResult, error) {
	var found scenarios.CheckResult
	symbols, err := convoy.InodeLockSymbol()
	switch {
	case errors.Is(err, convoy.ErrNotMeasurable):
		found.Claims = append(found.Claims, unmeasured("kprobe-inode-lock", err))
	case err != nil:
		return found, err
	default:
		found.Claims = append(found.Claims, claim("kprobe-inode-lock", convoy.VerdictKprobe(symbols),
			"of %d kernel symbols %d are called inode_lock; kprobes compiled in: %s; what an append does pass is %s",
			symbols.Symbols, len(symbols.Exact), yesNo(symbols.Kprobes), namesOf(symbols.Related)))
	}
	rates, err := convoy.SwitchRate(ctx, sized(env.Mode, convoy.QuickSwitchRate(), convoy.FullSwitchRate()))
	if err != nil {
		return found, err
	}
	found.Claims = append(found.Claims, claim("switch-budget", convoy.VerdictSwitchBudget(rates),
		"one core makes at best %s switches between threads and %s between processes; the sum needs %s",
		bestRate(rates, convoy.Threads), bestRate(rates, convoy.Processes), quantity.Of("per_s").Format(convoy.SwitchBudgetPerS)))
	return found, nil
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func namesOf(symbols []convoy.Symbol) string {
	var names []string
	for _, s := range symbols {
		if !slices.Contains(names, s.Name) {
			names = append(names, s.Name)
		}
	}
	if len(names) == 0 {
		return "not shown"
	}
	return strings.Join(names[:min(4, len(names))], ", ")
}

func bestRate(r convoy.SwitchRateResult, space convoy.Space) string {
	best := r.Best(space)
	if best == nil {
		return "not measured"
	}
	return fmt.Sprintf("%s (%s)", quantity.Of("per_s").Format(best.Max()), best.Method)
}

// checkTrialClaims judges what the trials already measured.
func checkTrialClaims(_ context.Context, env scenarios.CheckEnv) (scenarios.CheckResult, error) {
	return scenarios.CheckResult{Claims: []reports.ClaimResult{
		groupCommitClaim(env.Result, env.Seed),
		ackClaim(env.Result),
	}}, nil
}

// Points of the scenario that the claims speak of.
const (
	pointSaturation = "saturation/writers=256"
	pointEqualLoad  = "equal-load"
)

func groupCommitClaim(r *reports.Result, seed uint64) reports.ClaimResult {
	const id = "group-commit-throughput"
	subject, baseline := pairedThroughput(r, "seglog", "fsync-append", pointSaturation)
	ratio := stats.RatioCI(subject, baseline, seed)
	verdict := convoy.Inconclusive
	switch b := rangeOf(ratio); {
	case b.Lo >= 20:
		verdict = convoy.Held
	case b.Hi < 20:
		verdict = convoy.Refuted
	}
	return claim(id, verdict, "256 writers make %s as many records durable per second as with fsync per append", times(ratio))
}

// pairedThroughput are the rates of two contenders in the rounds in which both
// have a valid trial.
func pairedThroughput(r *reports.Result, subject, against, point string) (a, b []float64) {
	rate := func(contender string, round int) (float64, bool) {
		for i := range r.Trials {
			t := &r.Trials[i]
			if t.Contender == contender && t.Point == point && t.Round == round && t.Status == "ok" {
				return t.ThroughputPerS, true
			}
		}
		return 0, false
	}
	for round := range len(r.Trials) {
		x, ok := rate(subject, round)
		y, both := rate(against, round)
		if ok && both {
			a, b = append(a, x), append(b, y)
		}
	}
	return a, b
}

func ackClaim(r *reports.Result) reports.ClaimResult {
	const id, limitNs = "sub-millisecond-ack", 1e6
	for _, p := range r.Points {
		if p.Contender != "seglog" || p.Point != pointEqualLoad {
			continue
		}
		p99 := p.LatencyNs["p99"]
		verdict := convoy.Inconclusive
		switch b := rangeOf(p99); {
		case b.Hi < limitNs:
			verdict = convoy.Held
		case b.Lo >= limitNs:
			verdict = convoy.Refuted
		}
		ns := quantity.Of("ns")
		return claim(id, verdict, "p99 of a durable acknowledgement at %s is %s (95%% CI %s to %s, n=%d)",
			quantity.Of("per_s").Format(p.Sweep["rate_per_s"]), ns.Format(p99.Center), ns.Format(p99.Lo), ns.Format(p99.Hi), p99.N)
	}
	return unmeasured(id, errors.New("the equal-load point was not run"))
}
