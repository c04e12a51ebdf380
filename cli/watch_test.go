package cli

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/nexuscore-labs/nexus/machine"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/scenarios"
)

var updateFrames = flag.Bool("update", false, "rewrite the golden frames in testdata")

var watchStart = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// watchedRun is an invented run in mid-flight: its numbers were not measured.
func watchedRun() []scenarios.Progress {
	at := func(s int) time.Time { return watchStart.Add(time.Duration(s) * time.Second) }
	value := 31.4
	lines := []scenarios.Progress{
		{At: at(0), Kind: scenarios.EventPlan, Total: 70, ETANs: 60e9, Run: &scenarios.ProgressRun{
			Title: "Day 7: Append-only segment log", Scenario: "writers", Mode: "quick", Folder: "runs/day07-x-quick",
			Contenders: []scenarios.ProgressContend{{Name: "seglog", Role: "subject", Trials: 20}, {Name: "fsync-append", Role: "baseline", Trials: 10}, {Name: "pebble", Role: "peer", Trials: 5}},
		}},
		{At: at(1), Kind: scenarios.EventTrialFinished, Done: 1, Total: 70, ETANs: 58e9, Contender: "seglog", Point: "saturation/writers=256", Trial: &scenarios.ProgressTrial{
			Status: "ok", PerS: 102_400, Latency: reports.Latency{Count: 10, P50: 2_100_000, P99: 8_400_000, P999: 12_000_000},
			ShapeFrom: 40, Shape: []int64{1, 2, 9, 30, 18, 4, 1}, Events: []string{"segment rolled"},
			StagesOf: scenarios.StagesOfThreads, Stages: []scenarios.ProgressStage{{Name: "on CPU", Share: 0.34}, {Name: "run queue", Share: 0.04}, {Name: "off CPU", Share: 0.62}},
		}},
		{At: at(2), Kind: scenarios.EventTrialFinished, Done: 2, Total: 70, ETANs: 57e9, Contender: "fsync-append", Point: "saturation/writers=256", Trial: &scenarios.ProgressTrial{
			Status: "ok", PerS: 3300, Latency: reports.Latency{Count: 10, P50: 70_000_000, P99: 120_000_000, P999: 190_000_000}, ShapeFrom: 50, Shape: []int64{5, 20, 8, 1},
		}},
		{At: at(3), Kind: scenarios.EventTrialFinished, Done: 2, Total: 70, Contender: "seglog", Point: "tenants/n=1000", Trial: &scenarios.ProgressTrial{ // no rate to set beside the others'
			Status: "ok", PerS: 7, Latency: reports.Latency{Count: 10, P50: 7, P99: 7, P999: 7},
		}},
		{At: at(3), Kind: scenarios.EventNote, Contender: "pebble", Point: "saturation/writers=256", Message: "pebble at saturation/writers=256, round 0 is invalid and repeated: other load: other programs used 12.1% of the contender's CPUs [1], at most 5% are allowed: cc1 (pid 77)"},
		{At: at(4), Kind: scenarios.EventGates, Done: 2, Total: 70, Gates: []scenarios.ProgressGate{
			{ID: "throughput-vs-fsync", Status: "inconclusive", Value: &value, Limit: 20, Compare: ">=", Unit: "ratio"},
			{ID: "p99-vs-fsync", Status: "not_measured", Limit: 0.2, Compare: "<=", Unit: "ratio"},
		}},
		{At: at(5), Kind: scenarios.EventTrialStarted, Done: 2, Total: 70, ETANs: 55e9, Contender: "pebble", Point: "saturation/writers=256", Attempt: 1},
	}
	for i := range 8 {
		lines = append(lines, scenarios.Progress{At: at(5), Kind: scenarios.EventTick, Contender: "pebble", Tick: &scenarios.ProgressTick{
			OffsetNs: int64(i+1) * 250e6, PerS: 30_000 + 4000*float64(i%5), P50Ns: 5_200_000, P99Ns: 21_000_000}})
	}
	return lines
}

func stateOf(lines []scenarios.Progress) *watchState {
	s := &watchState{}
	for _, p := range lines {
		s.apply(p)
	}
	return s
}

// Frames at common sizes are as they were looked at; -update writes them anew.
func TestWatchFrames(t *testing.T) {
	dead := watchedRun()
	dead[0].Run.Owner = &machine.Owner{PID: 1 << 30, StartTicks: 1}
	if self, err := machine.OwnerOf(os.Getpid()); err == nil {
		dead[0].Run.Owner.BootID, dead[0].Run.Owner.PIDNS = self.BootID, self.PIDNS
	}
	ended := append(watchedRun(), scenarios.Progress{At: watchStart.Add(time.Minute), Kind: scenarios.EventDone, Done: 70, Total: 70, Verdict: "invalid", ExitCode: 5,
		Message: "seglog at saturation/writers=256: 2 of 5 trials are valid: steal: the hypervisor took 31.0% of CPU 0's time, at most 5% are allowed"})
	for name, lines := range map[string][]scenarios.Progress{"running": watchedRun(), "killed": dead, "ended": ended, "empty": nil} {
		for _, size := range [][2]int{{80, 24}, {120, 40}, {40, 12}} {
			got := stateOf(lines).render(watchStart.Add(10*time.Second), size[0], size[1], false)
			if len(got) > size[1] {
				t.Errorf("%s: %d lines in %d", name, len(got), size[1])
			}
			for _, line := range got {
				if n := utf8.RuneCountInString(line); n > size[0] {
					t.Errorf("%s: %d columns in %d: %q", name, n, size[0], line)
				}
			}
			path := filepath.Join("testdata", "watch", fmt.Sprintf("%s-%dx%d.txt", name, size[0], size[1]))
			text := strings.Join(got, "\n") + "\n"
			if *updateFrames {
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want, err := os.ReadFile(path); err != nil || string(want) != text {
				t.Errorf("%s is not what is drawn (%v); look at it and run with -update:\n%s", path, err, text)
			}
		}
	}
}

// Colour adds escapes and nothing else.
func TestWatchColourOnlyPaints(t *testing.T) {
	s := stateOf(watchedRun())
	plain := strings.Join(s.render(watchStart, 80, 24, false), "\n")
	painted := strings.Join(s.render(watchStart, 80, 24, true), "\n")
	for _, code := range []string{paintBold, paintFaint, paintGood, paintBad, paintUnsure, paintBar} {
		painted = strings.ReplaceAll(painted, "\x1b["+code+"m", "")
	}
	if painted = strings.ReplaceAll(painted, "\x1b[0m", ""); painted != plain || strings.Contains(plain, "\x1b") {
		t.Errorf("painted:\n%s\nplain:\n%s", painted, plain)
	}
}

// A watcher without a terminal follows a run to its end and takes over its
// exit code; one that dies costs the run nothing; watching a run that has
// ended, or that was killed, says so.
func TestWatchFollowsARun(t *testing.T) {
	requireRun(t)
	runs := filepath.Join(t.TempDir(), "runs")
	run := nexus(t, "run", writeSmall(t, "1", "1"), "--out", runs, "--quiet")
	var out bytes.Buffer
	run.Stdout = &out
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	folder := ""
	deadline := time.Now().Add(time.Minute)
	for folder == "" {
		found, err := filepath.Glob(filepath.Join(runs, "*", scenarios.ProgressFile))
		if err != nil {
			t.Fatal(err)
		}
		if len(found) == 1 {
			folder = filepath.Dir(found[0])
		}
		if time.Now().After(deadline) {
			t.Fatal("the run tells no progress")
		}
		time.Sleep(5 * time.Millisecond)
	}
	dies := nexus(t, "watch", folder)
	if err := dies.Start(); err != nil {
		t.Fatal(err)
	}
	if err := dies.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = dies.Wait() // reports the kill
	code, stdout, stderr := runNexus(t, "watch", runs)
	_ = run.Wait() // its exit code is looked at
	if want := run.ProcessState.ExitCode(); code != want || !strings.Contains(stdout, "ended: ") {
		t.Errorf("watch ended with %d, the run with %d:\n%s\n%s\n%s", code, want, stdout, stderr, out.String())
	}
	code, stdout, _ = runNexus(t, "watch", folder, "--json")
	if want := run.ProcessState.ExitCode(); code != want || strings.Count(stdout, "\n") < 12 || !strings.Contains(stdout, `"kind":"trial_finished"`) {
		t.Errorf("watch --json of the ended run: %d\n%s", code, stdout)
	}
	// The same file without its end, and with a half line, is that of a killed run.
	text, err := os.ReadFile(filepath.Join(folder, scenarios.ProgressFile))
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.TrimSpace(text)
	if err := os.WriteFile(filepath.Join(folder, scenarios.ProgressFile), text[:len(text)-10], 0o644); err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr = runNexus(t, "watch", folder); code != scenarios.ExitInterrupted || !strings.Contains(stderr, "was killed") {
		t.Errorf("watch of a killed run: %d\n%s\n%s", code, stdout, stderr)
	}
	for _, nothing := range []string{t.TempDir(), filepath.Join(t.TempDir(), "absent")} {
		if code, _, stderr = runNexus(t, "watch", nothing); code != exitUsage || !strings.Contains(stderr, "run to watch") {
			t.Errorf("watch %s: %d %s", nothing, code, stderr)
		}
	}
}

// In a terminal, q ends the watching and leaves the run alone.
func TestWatchInATerminal(t *testing.T) {
	script, err := exec.LookPath("script")
	if err != nil {
		t.Fatal("script(1), of the essential package bsdutils, makes the terminal: ", err)
	}
	dir := t.TempDir()
	line := fmt.Sprintf(`{"kind":"plan","total":3,"run":{"title":"a run","folder":%q}}`+"\n", dir)
	if err := os.WriteFile(filepath.Join(dir, scenarios.ProgressFile), []byte(line), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(script, "-qec", os.Args[0]+" watch "+dir, "/dev/null")
	cmd.Env = append(os.Environ(), beNexus+"=1")
	keys, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for deadline := time.After(time.Minute); ; {
		select {
		case err := <-ended:
			if text := out.String(); err != nil || !strings.Contains(text, screenOpen) || !strings.Contains(text, screenClose) || !strings.Contains(text, "a run") {
				t.Errorf("%v: %q", err, text)
			}
			return
		case <-deadline:
			_ = cmd.Process.Kill()
			t.Fatalf("q did not end it: %q", out.String())
		case <-time.After(100 * time.Millisecond):
			_, _ = keys.Write([]byte("q")) // until it listens
		}
	}
}
