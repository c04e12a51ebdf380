package day10

import (
	"context"
	"fmt"
	"time"

	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/scenarios"
)

// checks are the lab's experiments beside the trials, in the order they run.
func checks() []scenarios.Check {
	return []scenarios.Check{
		{Name: "torn", Doc: "values of every size change while programs read them on all CPUs: this cache, and the lesson's map beside it", Run: checkTorn},
		{Name: "program", Doc: "what an answer costs in the program alone, by size", Run: checkProgram},
		{Name: "bad-input", Doc: "hostile packets through the program and through plain Go", Run: checkBadInput},
		{Name: "reload", Doc: "programs replaced and loaders restarted while requests flow", Run: checkReload},
		{Name: "rebuild", Doc: "rebuilds of a tenant with a long history, from its snapshot", Run: checkRebuild},
		{Name: "guest", Doc: "starts of the projection guest, and its encoding", Run: checkGuest},
		{Name: "rollback", Doc: "tenants rolled back to older snapshots while the driver serves them", Run: checkRollback},
		{Name: "tenants", Doc: "10 to 50,000 tenants in a guest, a goroutine or a process each", Run: checkTenants},
		{Name: "hostile-guests", Doc: "guests that loop, recurse, trap and eat memory beside an honest one", Run: checkHostileGuests},
		{Name: "pressure", Doc: "a cache that is too small for what is asked", Run: checkPressure},
		{Name: "claims-trials", Doc: "claims that the trials decide", Run: checkTrialClaims},
	}
}

// decide is a claim's verdict where a measurement settles it either way.
func decide(id string, held bool, evidence string, args ...any) reports.ClaimResult {
	verdict := scenarios.ClaimRefuted
	if held {
		verdict = scenarios.ClaimHeld
	}
	return reports.ClaimResult{ID: id, Verdict: verdict, Evidence: fmt.Sprintf(evidence, args...)}
}

func undecided(id, evidence string, args ...any) reports.ClaimResult {
	return reports.ClaimResult{ID: id, Verdict: scenarios.ClaimInconclusive, Evidence: fmt.Sprintf(evidence, args...)}
}

func metric(name, unit string, value float64, doc string, args ...any) reports.Metric {
	return reports.Metric{Name: name, Unit: unit, Value: value, Doc: fmt.Sprintf(doc, args...)}
}

// quantile is the value below which a share of the sorted values lies.
func quantile(sorted []time.Duration, share float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}

// checkTrialClaims judges what the trials already measured.
func checkTrialClaims(_ context.Context, env scenarios.CheckEnv) (scenarios.CheckResult, error) {
	return scenarios.CheckResult{Claims: []reports.ClaimResult{hitRatioClaim(env.Result), onDemandClaim(env.Result)}}, nil
}

const hitRatioMin = 0.97

func hitRatioClaim(r *reports.Result) reports.ClaimResult {
	const id = "hit-rate"
	least, trials := 1.0, 0
	for i := range r.Trials {
		t := &r.Trials[i]
		ratio, known := t.System["driver_hit_ratio"]
		if t.Contender != nameXDP || t.Status != "ok" || !known {
			continue
		}
		trials++
		least = min(least, ratio)
	}
	if trials == 0 {
		return undecided(id, "no trial of %s counts", nameXDP)
	}
	return decide(id, least > hitRatioMin, "in the worst of %d trials the driver answered %.4f%% of the requests", trials, 100*least)
}

// onDemandClaim compares what a read costs when it is computed with one that is only
// read.
func onDemandClaim(r *reports.Result) reports.ClaimResult {
	const id = "read-path-only-reads"
	costs := map[string]float64{}
	for _, p := range r.Points {
		if p.Point == pointOnDemand && p.CPUNsPerOp != nil && p.CPUNsPerOp.Valid() {
			costs[p.Contender] = p.CPUNsPerOp.Center
		}
	}
	subject, aggregate := costs[nameXDP], costs[nameAggregate]
	if subject == 0 || aggregate == 0 {
		return undecided(id, "no valid cost of both at the point %s", pointOnDemand)
	}
	return decide(id, aggregate >= 10*subject, "a read that PostgreSQL aggregates costs %.0f ns of CPU, one that the driver answers %.0f ns: %.0f times",
		aggregate, subject, aggregate/subject)
}

// pointOnDemand is the point at which the baselines are asked.
const pointOnDemand = "on-demand"
