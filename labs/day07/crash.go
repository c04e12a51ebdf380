package day07

import (
	"context"
	"fmt"

	"github.com/nexuscore-labs/nexus/labs/day07/convoy"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/scenarios"
	"github.com/nexuscore-labs/nexus/systems/seglog/crashtest"
)

// CrashChildCommand is the command of this binary that runs crashtest.ChildMain:
// the process that a kill trial kills.
const CrashChildCommand = "crash-child"

// checkCrash tries to make the log lose what it acknowledged: power cuts and
// injected errors on a simulated disk, kill -9 on the real one.
func checkCrash(ctx context.Context, env scenarios.CheckEnv) (scenarios.CheckResult, error) {
	modes := []struct {
		mode   crashtest.Mode
		points int
	}{
		{crashtest.PowerCut, int(env.Params["points"])},
		{crashtest.Errors, int(env.Params["errors"])},
		{crashtest.Kill, int(env.Params["kills"])},
	}
	var all crashtest.Counts
	var found scenarios.CheckResult
	total, before := 0, 0
	for _, m := range modes {
		total += m.points
	}
	for _, m := range modes {
		counts, err := crashtest.Run(ctx, crashtest.Options{
			Mode: m.mode, Seed: env.Seed, Points: m.points, Dir: env.Dir,
			Self: env.Self, SelfArgs: []string{CrashChildCommand},
			Progress: func(done, _ int) { env.Progress(before+done, total) },
		})
		if err != nil {
			return found, fmt.Errorf("%s: %w", m.mode, err)
		}
		before += m.points
		found.Metrics = append(found.Metrics, reports.Metric{
			Name: "crash_points_" + string(m.mode), Value: float64(counts.Points), Unit: "count", Doc: crashDocs[m.mode],
		})
		all.Points += counts.Points
		all.Checked += counts.Checked
		all.Lost += counts.Lost
		all.Phantom += counts.Phantom
		all.Wrong += counts.Wrong
		all.Failures = append(all.Failures, counts.Failures...)
	}
	found.Oracle = reports.OracleResult{Checked: all.Checked, Wrong: all.Wrong, Lost: all.Lost, Phantom: all.Phantom}
	if len(all.Failures) > 0 {
		found.Oracle.Note = all.Failures[0]
	}
	found.Metrics = append(found.Metrics, reports.Metric{
		Name: "crash_points", Value: float64(all.Points), Unit: "count", Doc: "crashes tried, of all kinds",
	})
	found.Claims = append(found.Claims, durabilityClaim(all))
	return found, nil
}

var crashDocs = map[crashtest.Mode]string{
	crashtest.PowerCut: "power cuts of a simulated disk that drops, reorders and tears unsynced writes",
	crashtest.Errors:   "EIO, ENOSPC and short writes injected at each operation, followed by a power cut",
	crashtest.Kill:     "kill -9 of a process that appends over the real disk",
}

func durabilityClaim(all crashtest.Counts) reports.ClaimResult {
	verdict := convoy.Held
	switch {
	case all.Bad() > 0:
		verdict = convoy.Refuted
	case all.Points == 0 || all.Checked == 0:
		verdict = convoy.Inconclusive
	}
	return claim("full-durability", verdict, "%d crashes, %d acknowledged records looked for afterwards: %d lost, %d phantom, %d wrong",
		all.Points, all.Checked, all.Lost, all.Phantom, all.Wrong)
}
