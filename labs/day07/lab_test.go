package day07

import (
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/nexuscore-labs/nexus/labs/day07/convoy"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/reports/stats"
	"github.com/nexuscore-labs/nexus/scenarios"
	"github.com/nexuscore-labs/nexus/systems/seglog/crashtest"
)

// TestMain lets the test binary be the process that a kill trial kills.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == CrashChildCommand {
		os.Exit(crashtest.ChildMain(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// The quick experiments run as they are; these sizes make the others small.
var smallSizes = map[string]map[string]float64{
	"crash":              {"points": 10, "errors": 10, "kills": 1},
	"recovery":           {"log_bytes": 1 << 20},
	"append-allocations": {"records": 512},
	"wasm":               {"records": 1000},
	"claims-scale":       {"tenants": 100},
}

// trialsMade are five rounds in which the log makes factor times as many
// records durable as fsync per append.
func trialsMade(factor float64) *reports.Result {
	r := &reports.Result{}
	for round := range pairsMin {
		for name, rate := range map[string]float64{"fsync-append": 1000, "seglog": 1000 * factor, "seglog-wasm": 1000 * factor} {
			r.Trials = append(r.Trials, reports.Trial{Contender: name, Point: pointSaturation, Round: round, Status: "ok", ThroughputPerS: rate})
		}
	}
	return r
}

// Every claim is judged by the check that claims.yaml names, and by no other.
func TestChecksJudgeTheirClaims(t *testing.T) {
	lab := Lab()
	claims, err := lab.Claims()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, check := range lab.Checks {
		t.Run(check.Name, func(t *testing.T) {
			found, err := check.Run(t.Context(), scenarios.CheckEnv{
				Mode: scenarios.ModeQuick, Seed: 7, Dir: t.TempDir(), Params: smallSizes[check.Name],
				Result: trialsMade(30), Self: self, Progress: func(int, int) {},
			})
			if err != nil {
				t.Fatal(err)
			}
			var want, got []string
			for _, c := range claims {
				if c.Test == check.Name {
					want = append(want, c.ID)
				}
			}
			for _, c := range found.Claims {
				got = append(got, c.ID)
				t.Logf("%s: %s: %s", c.ID, c.Verdict, c.Evidence)
				if c.Evidence == "" || strings.Contains(c.Evidence, "NaN") || strings.Contains(c.Evidence, "%!") {
					t.Errorf("%s: evidence %q", c.ID, c.Evidence)
				}
			}
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("judged %v, claims.yaml says %v", got, want)
			}
			if found.Oracle.Lost+found.Oracle.Phantom+found.Oracle.Wrong > 0 {
				t.Errorf("oracle %+v", found.Oracle)
			}
			for _, m := range found.Metrics {
				t.Logf("%s = %v %s", m.Name, m.Value, m.Unit)
				if m.Doc == "" || m.Unit == "" || math.IsNaN(m.Value) {
					t.Errorf("metric %+v", m)
				}
			}
		})
	}
}

func TestContenders(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Lab().Contenders {
		if c.Name == "" || seen[c.Name] {
			t.Errorf("the name %q is not one contender's", c.Name)
		}
		seen[c.Name] = true
		if c.Doc == "" || c.Durability == "" || c.Version == nil || c.Version() == "" || c.Serve == nil {
			t.Errorf("%s: doc %q, durability %q, or no version or Serve", c.Name, c.Doc, c.Durability)
		}
		if !slices.Contains([]string{reports.RoleSubject, reports.RoleBaseline, reports.RolePeer}, c.Role) {
			t.Errorf("%s: role %q", c.Name, c.Role)
		}
	}
}

func TestScenarioNamesWhatTheLabHas(t *testing.T) {
	lab := Lab()
	contenders, checks := map[string]bool{}, map[string]bool{}
	for _, c := range lab.Contenders {
		contenders[c.Name] = true
	}
	for _, c := range lab.Checks {
		checks[c.Name] = true
	}
	for _, mode := range []string{scenarios.ModeQuick, scenarios.ModeFull} {
		s, err := scenarios.Load("../../"+lab.Scenario, mode, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range s.Contenders {
			if !contenders[c.Name] {
				t.Errorf("%s: the lab has no contender %q", mode, c.Name)
			}
		}
		points := map[string]bool{}
		for _, p := range s.Points {
			points[p.ID] = true
		}
		if !points[pointSaturation] || !points[pointEqualLoad] {
			t.Errorf("%s: the claims speak of points that are not among %v", mode, points)
		}
		for name := range s.Checks {
			if !checks[name] {
				t.Errorf("%s: the lab has no check %q", mode, name)
			}
		}
	}
}

func TestGroupCommitClaim(t *testing.T) {
	few := trialsMade(30)
	few.Trials = slices.DeleteFunc(few.Trials, func(t reports.Trial) bool { return t.Round == 0 })
	for _, test := range []struct {
		name   string
		result *reports.Result
		want   convoy.Verdict
	}{
		{"30 times", trialsMade(30), convoy.Held},
		{"10 times", trialsMade(10), convoy.Refuted},
		{"four pairs", few, convoy.Inconclusive},
		{"nothing", &reports.Result{}, convoy.Inconclusive},
	} {
		if got := groupCommitClaim(test.result, 7); got.Verdict != string(test.want) {
			t.Errorf("%s: %+v, want %s", test.name, got, test.want)
		}
	}
}

func TestAckClaim(t *testing.T) {
	point := func(ns ...float64) *reports.Result {
		latency := map[string]stats.Interval{}
		if len(ns) > 0 {
			latency["p99"] = stats.MedianCI(ns, 7)
		}
		return &reports.Result{Points: []reports.PointResult{{Contender: "seglog", Point: pointEqualLoad, LatencyNs: latency}}}
	}
	for _, test := range []struct {
		name   string
		result *reports.Result
		want   string
	}{
		{"fast", point(5e5, 5e5, 5e5, 5e5, 5e5), scenarios.ClaimHeld},
		{"slow", point(2e6, 2e6, 2e6, 2e6, 2e6), scenarios.ClaimRefuted},
		{"four trials", point(5e5, 5e5, 5e5, 5e5), scenarios.ClaimInconclusive},
		{"no p99", point(), scenarios.ClaimNotMeasurable},
		{"invalid p99", point(math.NaN()), scenarios.ClaimNotMeasurable},
		{"no point", &reports.Result{}, scenarios.ClaimNotMeasurable},
	} {
		if got := ackClaim(test.result); got.Verdict != test.want {
			t.Errorf("%s: %+v, want %s", test.name, got, test.want)
		}
	}
}

func TestFlushClaim(t *testing.T) {
	scaling := func(cache string, alone, many float64) convoy.FsyncScalingResult {
		return convoy.FsyncScalingResult{WriteCache: cache, Points: []convoy.ScalingPoint{
			{Writers: 1, FlushesPerAppend: slices.Repeat([]float64{alone}, pairsMin)},
			{Writers: 256, FlushesPerAppend: slices.Repeat([]float64{many}, pairsMin)},
		}}
	}
	uncounted := convoy.FsyncScalingResult{WriteCache: "write back"}
	for _, test := range []struct {
		name    string
		scaling convoy.FsyncScalingResult
		want    string
	}{
		{"one each", scaling("write back", 1, 1), scenarios.ClaimHeld},
		{"merged", scaling("write back", 1, 0.1), scenarios.ClaimRefuted},
		{"no cache to flush", scaling("write through", 1, 0.1), scenarios.ClaimNotMeasurable},
		{"the control shows none", scaling("write back", 0.1, 0.1), scenarios.ClaimNotMeasurable},
		{"not counted", uncounted, scenarios.ClaimNotMeasurable},
	} {
		got := flushClaim(test.scaling, 7)
		if got.Verdict != test.want || strings.Contains(got.Evidence, "serve several") != (test.want == scenarios.ClaimRefuted) {
			t.Errorf("%s: %+v, want %s", test.name, got, test.want)
		}
	}
}

func TestNeighbourClaims(t *testing.T) {
	measured := func(filesystem string, factor float64) convoy.FsyncNeighbourResult {
		slow := slices.Repeat([]float64{100 * factor}, pairsMin)
		return convoy.FsyncNeighbourResult{AloneNs: slices.Repeat([]float64{100}, pairsMin), NeighbourNs: slow, WritebackNs: slow, Filesystem: filesystem}
	}
	for _, test := range []struct {
		name      string
		neighbour convoy.FsyncNeighbourResult
		want      string
		explained bool
	}{
		{"free", measured("ext4 rw", 1), scenarios.ClaimRefuted, true},
		{"free without delayed allocation", measured("ext4 rw,nodelalloc", 1), scenarios.ClaimRefuted, false},
		{"costs", measured("ext4 rw,data=ordered", 3), scenarios.ClaimHeld, false},
		{"another journal", measured("ext4 rw,data=writeback", 3), scenarios.ClaimNotMeasurable, false},
		{"another file system", measured("xfs rw", 3), scenarios.ClaimNotMeasurable, false},
		{"unknown", measured("", 3), scenarios.ClaimNotMeasurable, false},
	} {
		for _, got := range neighbourClaims(test.neighbour, 7) {
			explained := test.explained && got.ID == "fsync-flushes-neighbours"
			if got.Verdict != test.want || strings.Contains(got.Evidence, "delayed") != explained {
				t.Errorf("%s: %+v, want %s", test.name, got, test.want)
			}
		}
	}
}
