package day03

import (
	"context"

	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/reports/stats"
	"github.com/nexuscore-labs/nexus/scenarios"
)

// Points that the claims speak of.
const (
	pointHandover = "handover"
	pointServers  = "servers/nodes=1000"
)

// checkTrialClaims judges what the trials already measured.
func checkTrialClaims(_ context.Context, env scenarios.CheckEnv) (scenarios.CheckResult, error) {
	perf := pairedRatio(env, pointHandover, "wasm-csr-xdp", "wasm-csr-perf")
	stack := pairedRatio(env, pointHandover, "wasm-csr-xdp", "wasm-csr")
	ring := pairedRatio(env, pointHandover, "wasm-csr-ring", "wasm-csr-perf")
	redis := pairedRatio(env, pointServers, "wasm-csr", "redis-adjacency")
	postgres := pairedRatio(env, pointServers, "wasm-csr", "postgres-cte")
	return scenarios.CheckResult{Claims: []reports.ClaimResult{
		atLeast("xdp-beats-stack", stack, 1.05, "by AF_XDP %s as many queries a second as through the network stack, on a pair of virtual interfaces", times(stack)),
		refutedFrom("perf-buffer-is-the-way", perf, 1.05, "by AF_XDP %s as many queries a second as by perf buffer; by ring buffer %s", times(perf), times(ring)),
		atLeast("csr-beats-servers", postgres, 5, "at 1,000 nodes %s as many searches a second as PostgreSQL's recursive CTE, %s as many as with Redis", times(postgres), times(redis)),
	}}, nil
}

// pairedRatio is one contender's throughput over another's, in rounds that both
// have a valid trial of.
func pairedRatio(env scenarios.CheckEnv, point, subject, against string) stats.Interval {
	byRound := map[string]map[int]float64{subject: {}, against: {}}
	for _, t := range env.Result.Trials {
		if rounds := byRound[t.Contender]; rounds != nil && t.Point == point && t.Status == "ok" {
			rounds[t.Round] = t.ThroughputPerS
		}
	}
	var ours, theirs []float64
	for round, rate := range byRound[subject] {
		if other, paired := byRound[against][round]; paired {
			ours, theirs = append(ours, rate), append(theirs, other)
		}
	}
	return stats.RatioCI(ours, theirs, env.Seed)
}
