package day07

import (
	"context"
	"errors"
	"fmt"
	"math"
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
	evidence := strings.TrimPrefix(why.Error(), convoy.ErrNotMeasurable.Error()+": ") // the verdict says that
	return reports.ClaimResult{ID: id, Verdict: scenarios.ClaimNotMeasurable, Evidence: evidence}
}

// pairsMin is how many pairs, rounds or trials it takes to decide a claim.
const pairsMin = 5

// rangeOf is what the rules judge by. An interval that could not be made, or of
// fewer than pairsMin values, holds no number, so it decides nothing.
func rangeOf(i stats.Interval) convoy.Range {
	if !i.Valid() || i.N < pairsMin {
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

// offeredPerS is the rate that the point's trials were offered.
func offeredPerS(r *reports.Result, p reports.PointResult) float64 {
	for i := range r.Trials {
		if t := &r.Trials[i]; t.Contender == p.Contender && t.Point == p.Point {
			return t.OfferedPerS
		}
	}
	return math.NaN()
}

func ackClaim(r *reports.Result) reports.ClaimResult {
	const id, limitNs = "sub-millisecond-ack", 1e6
	for _, p := range r.Points {
		if p.Contender != "seglog" || p.Point != pointEqualLoad {
			continue
		}
		p99, there := p.LatencyNs["p99"]
		if !there || !p99.Valid() {
			return unmeasured(id, errors.New("the equal-load point has no valid p99"))
		}
		verdict := convoy.Inconclusive
		switch b := rangeOf(p99); {
		case b.Hi < limitNs:
			verdict = convoy.Held
		case b.Lo >= limitNs:
			verdict = convoy.Refuted
		}
		ns := quantity.Of("ns")
		return claim(id, verdict, "p99 of a durable acknowledgement at %s is %s (95%% CI %s to %s, n=%d)",
			quantity.Of("per_s").Format(offeredPerS(r, p)), ns.Format(p99.Center), ns.Format(p99.Lo), ns.Format(p99.Hi), p99.N)
	}
	return unmeasured(id, errors.New("the equal-load point was not run"))
}
