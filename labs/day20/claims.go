package day20

import (
	"context"

	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/reports/stats"
	"github.com/nexuscore-labs/nexus/scenarios"
)

// checkTrialClaims judges what the trials already measured.
func checkTrialClaims(_ context.Context, env scenarios.CheckEnv) (scenarios.CheckResult, error) {
	r := env.Result
	return scenarios.CheckResult{Claims: []reports.ClaimResult{
		below(r, "end-to-end-3us", "freshness_p50_ns", 3e3, "the median from commit to visible"),
		below(r, "end-to-end-3ms", "freshness_p99_ns", 3e6, "p99 from commit to visible"),
		below(r, "delta-12ns", "delta_check_ns", 12, "the judge's time per change"),
		nothingLost(r),
		skipRatio(r),
	}}, nil
}

// trialsMin is how many trials it takes to decide a claim.
const trialsMin = 3

// ofSubject gives one of the subject's own counters, by trial.
func ofSubject(r *reports.Result, name string) []float64 {
	var values []float64
	for _, t := range r.Trials {
		if v, counted := t.System[name]; counted && t.Contender == "uprobe-cdc" && t.Status == "ok" {
			values = append(values, v)
		}
	}
	return values
}

func undecided(id string, n int) reports.ClaimResult {
	return claim(id, scenarios.ClaimInconclusive, "%d valid trials of the subject, it takes %d", n, trialsMin)
}

func below(r *reports.Result, id, name string, limitNs float64, what string) reports.ClaimResult {
	values := ofSubject(r, name)
	if len(values) < trialsMin {
		return undecided(id, len(values))
	}
	middle := stats.Median(values)
	return claim(id, verdictOf(middle < limitNs), "%s is %.4g µs (median of %d trials), the limit %.4g µs", what, middle/1e3, len(values), limitNs/1e3)
}

func nothingLost(r *reports.Result) reports.ClaimResult {
	const id = "ring-loses-nothing"
	lost, captured := ofSubject(r, "lost_count"), ofSubject(r, "captured_count")
	if len(lost) < trialsMin {
		return undecided(id, len(lost))
	}
	return claim(id, verdictOf(sum(lost) == 0), "%.0f of %.0f changes were lost in %d trials", sum(lost), sum(captured), len(lost))
}

func skipRatio(r *reports.Result) reports.ClaimResult {
	const id = "skip-ratio"
	skipped, captured := ofSubject(r, "skipped_count"), ofSubject(r, "captured_count")
	if len(skipped) < trialsMin || sum(captured) == 0 {
		return undecided(id, len(skipped))
	}
	share := sum(skipped) / sum(captured)
	return claim(id, verdictOf(share >= 0.5), "%.0f%% of %.0f changes moved too little to be published, in a workload that the scenario gives small_share of such", 100*share, sum(captured))
}

func sum(values []float64) float64 {
	var s float64
	for _, v := range values {
		s += v
	}
	return s
}
