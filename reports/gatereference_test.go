package reports

import (
	"encoding/xml"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// twoBuilds is a run of pairs in which this build takes slower times as long.
func twoBuilds(seed uint64, pairs int, slower float64) *Result {
	g := GateRecordings{Environment: fixtureHead(1).Environment}
	random := rand.New(rand.NewPCG(seed, 1))
	r := g.result(gateDay)
	for round := range pairs {
		mood := math.Exp(0.3 * random.NormFloat64()) // common to both
		noise := math.Exp(0.02 * random.NormFloat64())
		r.Trials = append(r.Trials, recordedTrial("subject", recordedPoint, round, 2*round, 1e5*mood*noise/slower, 2000*slower),
			recordedTrial("subject", recordedPoint+referenceSuffix, round, 2*round+1, 1e5*mood, 2000))
		r.Trials[2*round+1].Sweep = map[string]float64{"reference": 1}
	}
	return r
}

func TestReferenceGate(t *testing.T) {
	decide := func(runs ...*Result) GateVerdict {
		t.Helper()
		g, err := DecideReference(runs, gateDay, GateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return g.Verdict
	}
	if got := decide(twoBuilds(1, 60, 1)); got != GatePass {
		t.Errorf("equal builds: %s", got)
	}
	if got := decide(twoBuilds(1, 60, 1.05)); got != GateRerun {
		t.Errorf("one run of a build 5%% slower: %s, want a further run before red", got)
	}
	if got := decide(twoBuilds(1, 60, 1.05), twoBuilds(2, 60, 1.05)); got != GateFail {
		t.Errorf("two runs of a build 5%% slower: %s", got)
	}
	if got := decide(twoBuilds(1, 60, 0.9)); got != GatePass {
		t.Errorf("a faster build: %s", got)
	}
}

func TestReferenceGateFailsClosed(t *testing.T) {
	nan := twoBuilds(1, 20, 1)
	nan.Trials[4].ThroughputPerS = math.NaN()
	without := twoBuilds(1, 20, 1)
	without.Trials = slices.DeleteFunc(without.Trials, func(trial Trial) bool { return trial.Point != recordedPoint })
	void := twoBuilds(1, 20, 1)
	for i := range void.Trials {
		void.Trials[i].Status, void.Trials[i].Reason = "invalid", "steal"
	}
	invalid := twoBuilds(1, 20, 1)
	invalid.Verdict, invalid.Reasons = VerdictInvalid, []string{"steal"}
	wrong := twoBuilds(1, 20, 1)
	wrong.Oracle.Lost = 1
	for name, r := range map[string]*Result{"NaN": nan, "no reference": without, "no valid trial": void, "invalid": invalid, "wrong": wrong, "too few": twoBuilds(1, 3, 1)} {
		if g, err := DecideReference(one(r), gateDay, GateOptions{}); err == nil {
			t.Errorf("%s: %s, want an error", name, g.Verdict)
		}
	}
}

// What the schema of Ant's JUnit task requires.
func TestJUnitHasWhatTheSchemaRequires(t *testing.T) {
	g, err := DecideReference([]*Result{twoBuilds(1, 60, 1.2), twoBuilds(2, 60, 1.2)}, gateDay, GateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := g.JUnit()
	if err != nil {
		t.Fatal(err)
	}
	type node struct {
		XMLName xml.Name
		Attrs   []xml.Attr `xml:",any,attr"`
		Nodes   []node     `xml:",any"`
	}
	var suite node
	if err := xml.Unmarshal(text, &suite); err != nil {
		t.Fatal(err)
	}
	need := func(n node, names ...string) {
		t.Helper()
		for _, name := range names {
			if !slices.ContainsFunc(n.Attrs, func(a xml.Attr) bool { return a.Name.Local == name && a.Value != "" }) {
				t.Errorf("<%s> has no %s", n.XMLName.Local, name)
			}
		}
	}
	need(suite, "name", "timestamp", "hostname", "tests", "failures", "errors", "time")
	var order []string
	for _, n := range suite.Nodes {
		order = append(order, n.XMLName.Local)
		if n.XMLName.Local != "testcase" {
			continue
		}
		need(n, "name", "classname", "time")
		for _, child := range n.Nodes {
			need(child, "message", "type")
		}
	}
	if !slices.Equal(slices.Compact(order), []string{"properties", "testcase", "system-out", "system-err"}) {
		t.Errorf("the elements are %v", order)
	}
}

func TestFaultyRunIsNoBaseline(t *testing.T) {
	r := fixture(t, 1, 1)
	r.Faults = map[string]string{"append_delay": "1us"}
	if _, err := NewBaseline(one(r), "because", gateDay); err == nil {
		t.Error("a run with a planted fault became the baseline")
	}
	if _, err := NewHistoryEntry(r); err == nil {
		t.Error("a run with a planted fault got into the history")
	}
}

func TestRecordingsMeasure(t *testing.T) {
	g, err := EmbeddedGateRecordings()
	if err != nil {
		t.Fatal(err)
	}
	for _, slowdown := range []float64{0, 1} { // half the speed can't be missed, whatever the noise
		got, err := g.Measure(GateTrial{Reference: true, Trials: 40, Alpha: ReferenceAlpha, MinEffect: ReferenceMinEffect, Slowdown: slowdown, Comparisons: 20}, 1)
		if err != nil {
			t.Fatal(err)
		}
		if slowdown == 0 && got.Red > 2 || slowdown == 1 && got.Red != 20 {
			t.Errorf("slower by %g: %d of 20 red", slowdown, got.Red)
		}
	}
}
