package reports

import (
	"strings"
	"testing"
	"time"
)

// recordedRun has trials of both sides in the rounds, each twice as fast as the
// other; a trial of round 3 failed.
func recordedRun(of func(side int) (contender, point string)) *Result {
	r := &Result{StartedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	for round := range 8 {
		for side := range 2 {
			contender, point := of(side)
			t := recordedTrial(contender, point, round, 2*round+side, float64(1000*(round+1)*(2-side)), 500)
			t.Counts.Completed = uint64(t.ThroughputPerS)
			if round == 3 && side == 1 {
				t.Status = "invalid"
			}
			r.Trials = append(r.Trials, t)
		}
	}
	return r
}

// What is recorded comes back from the file, without the rounds that lack a side.
func TestRecordingsKeepPairsAndRounds(t *testing.T) {
	g := NewGateRecordings(Environment{Hostname: "here"})
	pairs := recordedRun(func(side int) (string, string) { return "log", "peak" + strings.Repeat(referenceSuffix, side) })
	rounds := recordedRun(func(side int) (string, string) { return []string{"log", "naive"}[side], "peak" })
	for range 2 {
		if err := g.AddPairs(pairs, "log", "peak"); err != nil {
			t.Fatal(err)
		}
		if err := g.AddRounds(rounds, "log", "naive", "peak"); err != nil {
			t.Fatal(err)
		}
	}
	text, err := g.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseGateRecordings(text)
	if err != nil {
		t.Fatal(err)
	}
	if len(back.Pairs) != 2 || len(back.Rounds) != 2 || back.Environment.Hostname != "here" {
		t.Fatalf("%d pairs, %d rounds of %q", len(back.Pairs), len(back.Rounds), back.Environment.Hostname)
	}
	for _, perS := range [][][2]float64{back.Pairs[0].PerS, back.Rounds[1].PerS} {
		if len(perS) != 7 || perS[0] != [2]float64{2000, 1000} || perS[3] != [2]float64{10000, 5000} {
			t.Errorf("recorded %v", perS)
		}
	}
	if err := g.AddPairs(rounds, "log", "peak"); err == nil {
		t.Error("a run without a second build counts as pairs")
	}
}

// Nothing is drawn from a file that is not whole.
func TestRecordingsThatAreNone(t *testing.T) {
	g, err := EmbeddedGateRecordings()
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*GateRecordings){
		"version":     func(g *GateRecordings) { g.Version = 2 },
		"no pairs":    func(g *GateRecordings) { g.Pairs = nil },
		"one round":   func(g *GateRecordings) { g.Rounds = g.Rounds[:1] },
		"short":       func(g *GateRecordings) { g.Pairs[0].PerS, g.Pairs[0].CPUNs = g.Pairs[0].PerS[:4], g.Pairs[0].CPUNs[:4] },
		"uneven":      func(g *GateRecordings) { g.Rounds[0].CPUNs = g.Rounds[0].CPUNs[1:] },
		"no progress": func(g *GateRecordings) { g.Rounds[0].PerS[2][1] = 0 },
	} {
		text, err := g.Encode()
		if err != nil {
			t.Fatal(err)
		}
		copied, err := ParseGateRecordings(text)
		if err != nil {
			t.Fatal(err)
		}
		spoil(copied)
		if text, err = copied.Encode(); err != nil {
			t.Fatal(err)
		}
		if _, err := ParseGateRecordings(text); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := ParseGateRecordings([]byte(`{"version":1,`)); err == nil {
		t.Error("half a file was accepted")
	}
}
