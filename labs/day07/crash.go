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
	var failed error
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
		// What was found before an error counts: a loss is a loss.
		addCounts(&all, counts)
		found.Metrics = append(found.Metrics, count("crash_points_"+string(m.mode), counts.Points, crashDocs[m.mode]))
		if err != nil {
			failed = fmt.Errorf("%s: %w", m.mode, err)
			break
		}
		before += m.points
	}
	found.Metrics = append(found.Metrics,
		count("crash_points", all.Points, "crashes tried, of all kinds"),
		count("crash_faults", all.Faults, "injected errors that an operation of the log met"),
		count("crash_torn_recoveries", all.Torn, "recoveries that found a torn tail and cut it"))
	found.Oracle = reports.OracleResult{Checked: all.Checked, Wrong: all.Wrong, Lost: all.Lost, Phantom: all.Phantom}
	if len(all.Failures) > 0 {
		found.Oracle.Note = all.Failures[0]
	}
	if failed == nil || all.Bad() > 0 {
		found.Claims = append(found.Claims, durabilityClaim(all))
	}
	return found, failed
}

// addCounts adds what this check reports of one mode to the sum.
func addCounts(sum *crashtest.Counts, c crashtest.Counts) {
	sum.Points += c.Points
	sum.Checked += c.Checked
	sum.Lost += c.Lost
	sum.Phantom += c.Phantom
	sum.Wrong += c.Wrong
	sum.Faults += c.Faults
	sum.Torn += c.Torn
	sum.Failures = append(sum.Failures, c.Failures...)
}

func count(name string, n uint64, doc string) reports.Metric {
	return reports.Metric{Name: name, Value: float64(n), Unit: "count", Doc: doc}
}

var crashDocs = map[crashtest.Mode]string{
	crashtest.PowerCut: "power cuts of a simulated disk that drops, reorders and tears unsynced writes",
	crashtest.Errors:   "EIO, ENOSPC and short writes injected at each operation, followed by a power cut",
	crashtest.Kill:     "kill -9 of a process that appends through the log's Go API to a file system on the real disk; no server takes part",
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
