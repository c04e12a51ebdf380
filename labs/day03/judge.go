package day03

import (
	"fmt"
	"slices"

	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/reports/quantity"
	"github.com/nexuscore-labs/nexus/reports/stats"
	"github.com/nexuscore-labs/nexus/scenarios"
)

// percentile is the value that a share of the values doesn't exceed.
func percentile(values []float64, share float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}

// times writes a ratio with its interval: "2.1× (95% CI 1.9 to 2.4, n=5)".
func times(i stats.Interval) string {
	if !i.Valid() {
		return fmt.Sprintf("no ratio (n=%d)", i.N)
	}
	return fmt.Sprintf("%s× (95%% CI %s to %s, n=%d)", quantity.Digits(i.Center), quantity.Digits(i.Lo), quantity.Digits(i.Hi), i.N)
}

// atLeast judges by where the whole interval lies.
func atLeast(id string, i stats.Interval, limit float64, evidence string, args ...any) reports.ClaimResult {
	verdict := scenarios.ClaimInconclusive
	switch {
	case !i.Valid():
	case i.Lo >= limit:
		verdict = scenarios.ClaimHeld
	case i.Hi < limit:
		verdict = scenarios.ClaimRefuted
	}
	return reports.ClaimResult{ID: id, Verdict: verdict, Evidence: fmt.Sprintf(evidence, args...)}
}

// refutedFrom is atLeast of the opposite claim.
func refutedFrom(id string, i stats.Interval, limit float64, evidence string, args ...any) reports.ClaimResult {
	c := atLeast(id, i, limit, evidence, args...)
	switch c.Verdict {
	case scenarios.ClaimHeld:
		c.Verdict = scenarios.ClaimRefuted
	case scenarios.ClaimRefuted:
		c.Verdict = scenarios.ClaimHeld
	}
	return c
}

// allBelow holds if every value is below the limit.
func allBelow(id string, ns []float64, limit float64, what string) reports.ClaimResult {
	verdict := scenarios.ClaimHeld
	text := what + ":"
	for _, v := range ns {
		text += " " + quantity.Ns.Format(v)
		if v >= limit {
			verdict = scenarios.ClaimRefuted
		}
	}
	return reports.ClaimResult{ID: id, Verdict: verdict, Evidence: text}
}

// claim states a verdict with its evidence.
func claim(id string, held bool, evidence string, args ...any) reports.ClaimResult {
	verdict := scenarios.ClaimRefuted
	if held {
		verdict = scenarios.ClaimHeld
	}
	return reports.ClaimResult{ID: id, Verdict: verdict, Evidence: fmt.Sprintf(evidence, args...)}
}
