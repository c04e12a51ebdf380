package reports

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func historyEntry(at int, value float64) *HistoryEntry {
	return &HistoryEntry{Version: HistoryVersion, StartedAt: gateDay.Add(time.Duration(at) * time.Hour), Lab: "day07", Scenario: "writers", ScenarioHash: "h", Mode: "quick", Machine: "m",
		Series: []HistorySeries{{Subject: "seglog", Point: "p", Metric: "throughput", Higher: true, Value: value}}}
}

func TestHistoryKeepsEachRunOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	for _, c := range []struct{ at, added int }{{1, 1}, {1, 0}, {2, 1}} {
		added, err := AppendHistory(path, historyEntry(c.at, 1))
		if err != nil || added != c.added {
			t.Fatalf("run %d: %d added (%v), want %d", c.at, added, err, c.added)
		}
	}
	entries, broken, err := LoadHistory(path)
	if err != nil || len(entries) != 2 || broken != 0 {
		t.Fatalf("%d entries, %d broken, %v", len(entries), broken, err)
	}
}

// A crash while appending leaves a part of a line: it costs that run only.
func TestHistorySurvivesATornLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	if _, err := AppendHistory(path, historyEntry(1, 1), historyEntry(2, 1)); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text[:len(text)-20], 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := AppendHistory(path, historyEntry(3, 1)); err != nil {
		t.Fatal(err)
	}
	entries, broken, err := LoadHistory(path)
	if err != nil || len(entries) != 2 || broken != 1 {
		t.Fatalf("%d entries, %d broken, %v; want runs 1 and 3", len(entries), broken, err)
	}
}

func TestHistoryRefusesOtherVersions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	if err := os.WriteFile(path, []byte(`{"version": 2}`+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := LoadHistory(path); err == nil {
		t.Error("a line of version 2 was read")
	}
	if _, err := AppendHistory(path, historyEntry(1, 1)); err == nil {
		t.Error("a line was appended behind one of version 2")
	}
}

func TestHistoryIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	var many []*HistoryEntry
	for i := range 60 {
		e := historyEntry(i, 1)
		e.NexusVersion = strings.Repeat("v", 200<<10)
		many = append(many, e)
	}
	for _, e := range many {
		if _, err := AppendHistory(path, e); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() > historyBytesMax {
		t.Fatalf("%d bytes (%v), at most %d", info.Size(), err, historyBytesMax)
	}
	entries, broken, err := LoadHistory(path)
	if err != nil || broken > 0 || len(entries) == 0 || !entries[len(entries)-1].sameRun(many[59]) {
		t.Fatalf("%d entries, %d broken, %v; the newest must be there", len(entries), broken, err)
	}
}

func TestTrendFindsAPlantedStep(t *testing.T) {
	var entries []*HistoryEntry
	noise := []float64{1, 1.01, 0.99, 1.005, 0.995, 1.012, 0.99, 1.003, 0.998, 1.001}
	for i := range 20 {
		value := 100 * noise[i%10]
		if i >= 10 {
			value *= 0.9
		}
		entries = append(entries, historyEntry(i, value))
	}
	other := historyEntry(30, 7)
	other.Machine, other.Scenario = "another", "elsewhere"
	trend, err := NewTrend(append([]*HistoryEntry{other}, entries...), 0, TrendOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s := trend.Series[0]
	if len(s.Values) != 20 || len(s.Changes) != 1 || s.Changes[0].Index != 10 || s.Changes[0].Verdict != Regressed {
		t.Fatalf("%d values, changes %+v; want a regression at 10", len(s.Values), s.Changes)
	}
	page, err := trend.HTML()
	if err != nil || !strings.Contains(string(page), "<svg") || !strings.Contains(string(page), Regressed) {
		t.Errorf("the page lacks the chart or the change (%v)", err)
	}
	if _, err := NewTrend(nil, 0, TrendOptions{}); err == nil {
		t.Error("an empty history has a trend")
	}
}
