package scenarios

import (
	"math"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// loaded is a scenario whose point is driven with half of what the baseline bears.
func loaded() *Scenario {
	s := testScenario("honest", "slow")
	half := s.Points[0]
	half.ID, half.Name, half.Arrival = "half", "half", "poisson"
	half.Load = &LoadShare{Share: 0.5, Contender: "slow", Point: s.Points[0].ID}
	s.Points = append(s.Points, half)
	var err error
	if s.Hash, err = s.hash(); err != nil {
		panic(err)
	}
	return s
}

// A load is a share of what the contender bears here: both get the same rate, and
// the run says which.
func TestALoadIsMeasuredBeforeTheTrials(t *testing.T) {
	s := loaded()
	runs := t.TempDir()
	result, err := runTest(t, Options{Scenario: s, RunsDir: runs})
	if err != nil {
		t.Fatal(err)
	}
	var rates []float64
	var closed []float64
	for _, trial := range result.Trials {
		switch {
		case trial.Point == "half":
			rates = append(rates, trial.OfferedPerS)
		case trial.Contender == "slow" && trial.Status == trialOK:
			closed = append(closed, trial.ThroughputPerS)
		}
	}
	if len(rates) < 2 || slices.Min(rates) != slices.Max(rates) || rates[0] <= 0 {
		t.Fatalf("offered %v, want one rate for all", rates)
	}
	if len(closed) == 0 {
		t.Fatal("the baseline was not measured in its closed loop")
	}
	if low, high := slices.Min(closed)/2*0.5, slices.Max(closed)/2*2; rates[0] < low || rates[0] > high {
		t.Errorf("offered %g/s where half of the baseline's trials is %g to %g", rates[0], slices.Min(closed)/2, slices.Max(closed)/2)
	}
	found := false
	for _, m := range result.Metrics {
		found = found || m.Name == "offered_per_s_half" && m.Value == rates[0]
	}
	if !found {
		t.Errorf("the result's metrics don't say the rate: %+v", result.Metrics)
	}
}

// A resumed run goes on with the rate that it began with.
func TestALoadSurvivesResuming(t *testing.T) {
	s := loaded()
	folder := ""
	if _, err := runTest(t, Options{Scenario: s, Progress: func(e Event) {
		if e.Kind == EventPlan {
			folder = e.Folder
		}
	}}); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(folder, dirTrials, "capacity-*.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v capacity files: %v", files, err)
	}
	again, err := LoadResumed(folder)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	result, err := runTest(t, Options{Scenario: again, Resume: folder})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := again.point("half").RatePerS, s.point("half").RatePerS; got != want {
		t.Errorf("resumed with %g/s, began with %g/s", got, want)
	}
	for _, trial := range result.Trials {
		if trial.StartedAt.After(began) {
			t.Errorf("%s at %s was repeated", trial.Contender, trial.Point)
		}
	}
}

// What can't be measured ends the run as invalid, with the reason.
func TestALoadOfWhoCantBeMeasured(t *testing.T) {
	s := testScenario("honest", "crash")
	half := s.Points[0]
	half.ID, half.Name, half.Arrival = "half", "half", "poisson"
	half.Load = &LoadShare{Share: 0.5, Contender: "crash", Point: s.Points[0].ID}
	s.Points = append(s.Points, half)
	_, err := runTest(t, Options{Scenario: s})
	if code := ExitCode(nil, err); err == nil || code != ExitContender {
		t.Errorf("exit code %d (%v), want %d", code, err, ExitContender)
	}
}

func TestRoundToStep(t *testing.T) {
	for _, c := range []struct{ in, want float64 }{{12345, 12500}, {9.96, 10}, {0.0123, 0.0125}, {7000, 6300}, {7200, 8000}, {99, 100}, {13000, 12500}, {1, 1}} {
		if got := roundToStep(c.in); math.Abs(got-c.want) > 1e-9*c.want {
			t.Errorf("%g rounded to %g, want %g", c.in, got, c.want)
		}
	}
}

// A contender that starts slowly has a warm-up of its own, and shortens nobody's.
func TestWarmupOfAContender(t *testing.T) {
	s := testScenario("honest", "slow")
	s.Contenders[1].Warmup = s.Points[0].Warmup + 70*time.Millisecond
	for _, slot := range plan(s) {
		want := s.Points[0].Warmup
		if slot.contender == "slow" {
			want += 70 * time.Millisecond
		}
		if slot.warmup != want {
			t.Errorf("%s: warm-up %v, want %v", slot, slot.warmup, want)
		}
	}
}
