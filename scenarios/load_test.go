package scenarios

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// committed returns every scenario file of the repository.
func committed(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("day*/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenario files beside the package: %v", err)
	}
	return files
}

// Every committed scenario loads in both modes, keeps the rules for the number
// of trials, and has the same hash when it is loaded twice.
func TestCommittedScenarios(t *testing.T) {
	for _, file := range committed(t) {
		for mode, trialsMin := range map[string]int{ModeQuick: 5, ModeFull: 10} {
			s, err := Load(file, mode, nil)
			if err != nil {
				t.Fatalf("%s", err)
			}
			again, err := Load(file, mode, nil)
			if err != nil || again.Hash != s.Hash || len(s.Hash) != 64 {
				t.Errorf("%s %s: hash %q, then %q (%v)", file, mode, s.Hash, again.Hash, err)
			}
			for _, p := range s.Points {
				if judgesTrials(s) && p.Trials < trialsMin {
					t.Errorf("%s %s: point %s has %d trials, want at least %d", file, mode, p.ID, p.Trials, trialsMin)
				}
			}
		}
	}
}

// judgesTrials reports whether a threshold rests on a number of the trials. One
// that only asks the oracle needs no interval.
func judgesTrials(s *Scenario) bool {
	return slices.ContainsFunc(s.Thresholds, func(t Threshold) bool { return t.Point != "" })
}

// An effective scenario survives the way through run.json.
func TestScenarioJSON(t *testing.T) {
	s, err := Load("day07/writers.yaml", ModeFull, []string{"seed=9"})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var back Scenario
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if hash, err := back.hash(); err != nil || hash != s.Hash {
		t.Errorf("hash %s after the way through JSON, was %s (%v)", hash, s.Hash, err)
	}
	if s.Seed != 9 {
		t.Errorf("--set seed=9 gave seed %d", s.Seed)
	}
}

// The hash follows what is asked for, not how it is written.
func TestHashFollowsMeaning(t *testing.T) {
	hash := func(mode string, sets ...string) string {
		t.Helper()
		s, err := Load("day07/writers.yaml", mode, sets)
		if err != nil {
			t.Fatal(err)
		}
		return s.Hash
	}
	plain := hash(ModeQuick)
	if hash(ModeQuick, "sizes.timeout=10000ms") != plain {
		t.Error("another notation of the same value changed the hash")
	}
	if hash(ModeQuick, "points.curve.rate=5k/s") != plain {
		t.Error("a change of the full mode changed the hash of the quick one")
	}
	for _, set := range []string{"seed=8", "workload.transport=tcp", "points.equal-load.rate=3k/s", "thresholds.recovery-rate.limit=2GB/s", "checks.crash-points.points=101"} {
		if hash(ModeQuick, set) == plain {
			t.Errorf("--set %s left the hash", set)
		}
	}
	if hash(ModeFull) == plain {
		t.Error("both modes have one hash")
	}
}

// FuzzParse feeds the whole way from text to an effective scenario: it must
// never panic, and whatever it refuses must have a place and a message.
func FuzzParse(f *testing.F) {
	for _, file := range committed(f) {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text), "seed=1")
	}
	f.Add("version: 1\nname: &a [*a, {? x : y}]\n", "points.0.rate=[")
	f.Add("- 1\n---\n<<: {a: !!binary x}", "a.b.c=1")
	f.Fuzz(func(t *testing.T, text, set string) {
		s, err := Parse("fuzz.yaml", []byte(text), ModeQuick, []string{set})
		if err == nil {
			if len(s.Points) == 0 || len(s.Contenders) == 0 || s.Hash == "" {
				t.Fatalf("accepted, but empty: %+v", s)
			}
			return
		}
		complaints, ok := err.(Complaints)
		if !ok || len(complaints) == 0 {
			t.Fatalf("refused without a place: %v", err)
		}
		for _, c := range complaints {
			if c.File == "" || c.Line < 1 || c.Column < 1 || c.Message == "" {
				t.Fatalf("complaint without a place or message: %+v", c)
			}
		}
	})
}

// A point's params stand in front of the workload's, a contender's in front of
// both; tenants come with them.
func TestParamsOfPoints(t *testing.T) {
	file := func(params, own, point string) string {
		return `
version: 1
name: n
day: 7
title: t
seed: 1
workload: {transport: unix, codec: frame, tenants: 3, popularity: uniform, record: 1KiB` + params + `}
contenders: [{name: a` + own + `}]
sizes: {trials: 1, warmup: 1ms, duration: 10ms, timeout: 1s}
headline: p
points: [{name: p, arrival: closed, writers: 1, connections: 1` + point + `}]
thresholds: [{id: i, doc: d, class: gate, metric: oracle_lost, compare: "==", limit: 0, unit: count}]
`
	}
	for _, test := range []struct {
		text string
		want map[string]string
	}{
		{file("", "", ""), nil},
		{file("", ", params: {own: 1}", ""), map[string]string{"own": "1"}},
		{file(", params: {size: 1, kept: x}", ", params: {own: 1}", ", params: {size: 2, own: 3}"),
			map[string]string{"size": "2", "kept": "x", "own": "1", ParamTenants: "3"}},
		{file("", "", ", params: {size: 2}"), map[string]string{"size": "2", ParamTenants: "3"}},
		{file(", params: {size: 1}", "", ", sweep: {size: {quick: 2, full: 3}}"), map[string]string{"size": "2", ParamTenants: "3"}},
	} {
		s, err := Parse("test.yaml", []byte(test.text), ModeQuick, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := servedParams(s.Points[0].Workload, s.Contenders[0].Params); !maps.Equal(got, test.want) {
			t.Errorf("params %v, want %v", got, test.want)
		}
	}
}
