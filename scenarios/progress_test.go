package scenarios

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nexuscore-labs/nexus/loadgen"
)

// A run tells its progress: the plan, every trial, the gates after every round,
// and how it ended.
func TestProgressOfARun(t *testing.T) {
	s := gatedScenario()
	runs := t.TempDir()
	folder := ""
	result, err := runTest(t, Options{Scenario: s, RunsDir: runs, Progress: func(e Event) {
		if e.Folder != "" {
			folder = e.Folder
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	reader, err := OpenProgress(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	lines, err := reader.Next()
	if err != nil || reader.Malformed > 0 || len(lines) < 2 {
		t.Fatalf("%d lines, %d malformed: %v", len(lines), reader.Malformed, err)
	}
	count := map[EventKind]int{}
	for _, p := range lines {
		count[p.Kind]++
		if p.Kind == EventTrialFinished && p.Trial.Status == trialOK {
			sum := int64(0)
			for _, n := range p.Trial.Shape {
				sum += n
			}
			if uint64(sum) != p.Trial.Latency.Count || sum == 0 {
				t.Errorf("the shape holds %d of %d latencies", sum, p.Trial.Latency.Count)
			}
		}
	}
	first, last := lines[0], lines[len(lines)-1]
	if first.Kind != EventPlan || first.Run == nil || first.Run.Owner == nil || first.Run.Owner.PID != os.Getpid() || first.Run.Contenders[0].Trials != 5 {
		t.Errorf("the first line is %+v", first)
	}
	if last.Kind != EventDone || last.Verdict != string(result.Verdict) || last.ExitCode != ExitCode(result, nil) || last.Gates[0].ID != "works" {
		t.Errorf("the last line is %+v", last)
	}
	if count[EventTrialFinished] != 5 || count[EventGates] != 5 {
		t.Errorf("events: %v", count)
	}
}

// What is read does not depend on where the writes were cut, on what is broken
// between them, nor on a line that never ends.
func TestProgressReaderSurvivesAnything(t *testing.T) {
	dir := t.TempDir()
	file, err := os.Create(filepath.Join(dir, ProgressFile))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	reader, err := OpenProgress(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	text := `{"kind":"plan","total":3}` + "\n" + `{"kind":"tick","tick":{"per_s":5}}` + "\n\n" + "{broken\n" + "\x00\x00\n" + strings.Repeat("x", 3*progressLineMax) + "\n" + `{"kind":"done","done":3,"total":3}` + "\n" + `{"kind":"ti`
	var got []Progress
	for len(text) > 0 {
		n := min(len(text), 1+len(text)/7)
		if _, err := io.WriteString(file, text[:n]); err != nil {
			t.Fatal(err)
		}
		text = text[n:]
		more, err := reader.Next()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, more...)
	}
	if len(got) != 3 || got[0].Total != 3 || got[1].Tick.PerS != 5 || got[2].Kind != EventDone || reader.Malformed != 3 {
		t.Errorf("%d malformed, got %+v", reader.Malformed, got)
	}
}

// A run that goes on after a kill in mid-line starts a line of its own, and a
// file that is full takes the end only.
func TestJournalAppendsAndIsBounded(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ProgressFile), []byte(`{"kind":"plan"}`+"\n"+`{"kind":"tri`), 0o644); err != nil {
		t.Fatal(err)
	}
	j, err := openJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	j.event(Event{Kind: EventNote, Message: "on"})
	j.bytes = progressBytesMax + 1
	j.event(Event{Kind: EventNote, Message: "too much"})
	j.append(Progress{Kind: EventDone})
	if err := j.file.Close(); err != nil {
		t.Fatal(err)
	}
	reader, err := OpenProgress(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	lines, err := reader.Next()
	if err != nil || len(lines) != 3 || lines[1].Message != "on" || lines[2].Kind != EventDone || reader.Malformed != 1 {
		t.Errorf("%+v, %d malformed, %v", lines, reader.Malformed, err)
	}
	if _, err := OpenProgress(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an empty folder: %v", err)
	}
}

// Ticks are joined, and none of their answers is lost.
func TestJournalJoinsTicks(t *testing.T) {
	dir := t.TempDir()
	j, err := openJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	j.event(Event{Kind: EventTrialStarted})
	const ticks, answers = 100, 70
	for i := range ticks {
		j.event(Event{Kind: EventTick, Tick: loadgen.Tick{OffsetNs: int64(i+1) * int64(100*time.Millisecond), Completed: answers}})
	}
	if err := j.file.Close(); err != nil {
		t.Fatal(err)
	}
	reader, err := OpenProgress(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	lines, err := reader.Next()
	if err != nil || len(lines) < 20 || len(lines) > ticks/2+2 {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	for _, p := range lines[1:] {
		if p.Tick.PerS < answers*10-1e-6 || p.Tick.PerS > answers*10+1e-6 {
			t.Errorf("rate %g, want %d", p.Tick.PerS, answers*10)
		}
	}
}

func FuzzParseProgress(f *testing.F) {
	whole, err := json.Marshal(Progress{Kind: EventTrialFinished, Trial: &ProgressTrial{Shape: []int64{1, 2}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte(`{"kind":"tick","tick":{"per_s":1e308}}`))
	f.Add([]byte(`{"kind":"done","verdict":"pass"`))
	f.Fuzz(func(t *testing.T, line []byte) {
		p, err := ParseProgress(line)
		if err == nil && p.Kind == "" {
			t.Error("a line without an event was taken")
		}
	})
}
