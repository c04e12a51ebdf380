package scenarios

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nexuscore-labs/nexus/loadgen"
	"github.com/nexuscore-labs/nexus/machine"
	"github.com/nexuscore-labs/nexus/reports"
)

// leftovers returns the cgroups and temporary folders that bear pid's name.
func leftovers(t *testing.T, pid int) []string {
	t.Helper()
	var found []string
	for _, base := range append(machine.TempBases(), "/sys/fs/cgroup", "/sys/fs/cgroup/unified") {
		names, err := filepath.Glob(filepath.Join(base, machine.CgroupPrefix+strconv.Itoa(pid)+"-*"))
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, names...)
	}
	return found
}

// runTest runs a scenario and checks that nothing is left.
func runTest(t *testing.T, o Options) (*reports.Result, error) {
	t.Helper()
	return runLimited(t, o, limitsDefault)
}

func runLimited(t *testing.T, o Options, within limits) (*reports.Result, error) {
	t.Helper()
	if o.RunsDir == "" {
		o.RunsDir = t.TempDir()
	}
	if o.Lab == nil {
		o.Lab = testLab()
	}
	result, err := run(context.Background(), o, within, loadgen.Run)
	if left := leftovers(t, os.Getpid()); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	return result, err
}

// An honest run: every trial is there and ok, the oracle saw every answer, the
// result is valid and stored, and the ratio is measured.
func TestRunHonest(t *testing.T) {
	s := testScenario("honest", "slow", "peer")
	s.Overhead = &Overhead{Contender: "honest", Point: "peak", Trials: 5, Duration: 200 * time.Millisecond}
	s.Thresholds = []Threshold{
		{ID: "faster", Class: ClassGate, Metric: "throughput_per_s", Point: "peak", Subject: "honest", Against: "slow", Compare: ">=", Limit: 1.5, Unit: "ratio", CoverageMin: 1},
		{ID: "lost", Class: ClassGate, Metric: "oracle_lost", Compare: "==", Limit: 0, Unit: "count"},
		{ID: "served", Class: ClassLesson, Metric: "system.served_count", Point: "peak", Subject: "honest", Compare: ">=", Limit: 1, Unit: "count"},
	}
	var finished, ticks int
	runs := t.TempDir()
	folder := ""
	result, err := runTest(t, Options{Scenario: s, RunsDir: runs, Progress: func(e Event) {
		switch e.Kind {
		case EventPlan:
			folder = e.Folder
		case EventTrialFinished:
			finished++
		case EventTick:
			ticks++
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := result.Validate(); err != nil {
		t.Errorf("the result contradicts itself: %v", err)
	}
	if finished != 20 {
		t.Errorf("%d trials finished, want 3 contenders × 5 + 5 that cost the probes", finished)
	}
	for _, trial := range result.Trials {
		if trial.Status == trialFailed {
			t.Errorf("%s failed: %s", trial.Contender, trial.Reason)
		}
		if trial.Status == trialOK && trial.Oracle.Checked < trial.Counts.Completed {
			t.Errorf("%s: the oracle saw %d of %d answers", trial.Contender, trial.Oracle.Checked, trial.Counts.Completed)
		}
		if trial.Status == trialOK && trial.System["served_count"] < float64(trial.Counts.Completed) {
			t.Errorf("%s served %g, completed %d", trial.Contender, trial.System["served_count"], trial.Counts.Completed)
		}
		// Where this process was late to read it, that is said.
		if trial.Status == trialOK && trial.Resources.UserNs+trial.Resources.SystemNs <= 0 && !strings.Contains(strings.Join(result.NotMeasured, "\n"), "resources of some trials") {
			t.Errorf("%s used no CPU time", trial.Contender)
		}
	}
	stored, err := reports.Load(filepath.Join(folder, fileResult))
	if err != nil || stored.Verdict != result.Verdict {
		t.Errorf("stored verdict %v (%v), returned %s", stored, err, result.Verdict)
	}
	if result.Oracle.Checked == 0 || len(result.Points) != 3 || len(result.Gates) != 2 || len(result.LessonThresholds) != 1 {
		t.Errorf("oracle %+v, %d points, %d gates", result.Oracle, len(result.Points), len(result.Gates))
	}
	for _, g := range append(result.Gates, result.LessonThresholds...) {
		if g.Status == statusNotMeasured {
			t.Errorf("%s: %s: %s", g.ID, g.Status, g.Why)
		}
	}
}

// Every way to go wrong fails its trial, names the reason, and is exit code 4;
// what is the machine's fault is 3 and ends the run.
func TestRunMisbehaviour(t *testing.T) {
	cases := []struct {
		contender string
		code      int
		reason    string
	}{
		{"crash", ExitContender, "about to crash"},
		{"panic", ExitContender, "out of ideas"},
		{"hang", ExitContender, "was not ready after 500ms"},
		{"liar", ExitContender, "lost"},
		{"wrong", ExitContender, "wrong answers"},
		{"dies", ExitContender, "last words"},
		{"deaf", ExitContender, "did not stop within 500ms"},
		{"mute", ExitContender, "no right answer"},
		{"occupied", ExitEnvironment, "address already in use"},
	}
	for _, c := range cases {
		t.Run(c.contender, func(t *testing.T) {
			s := testScenario(c.contender)
			s.Points[0].Timeout = 100 * time.Millisecond
			within := limitsDefault
			switch c.contender { // the limits that these two are there to meet
			case "hang":
				within.ready = 500 * time.Millisecond
			case "deaf":
				within.stop = 500 * time.Millisecond
			}
			result, err := runLimited(t, Options{Scenario: s}, within)
			if code := ExitCode(result, err); code != c.code {
				t.Errorf("exit code %d, want %d (%v)", code, c.code, err)
			}
			text := ""
			if err != nil {
				text = err.Error()
			} else {
				failed := 0
				for _, trial := range result.Trials {
					text += trial.Reason
					if trial.Status == trialFailed {
						failed++
					}
				}
				if failed != failuresMax {
					t.Errorf("%d failed trials, want the contender given up after %d", failed, failuresMax)
				}
				if result.Verdict != reports.VerdictFail {
					t.Errorf("verdict %s", result.Verdict)
				}
			}
			if !strings.Contains(text, c.reason) {
				t.Errorf("no %q in: %s", c.reason, text)
			}
		})
	}
}

// interrupted starts a run in another process, sends it a signal after its
// first trial, and returns its folder, its exit code and its pid.
func interrupted(t *testing.T, runs string, sig syscall.Signal) (folder string, code, pid int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "run-interrupted", runs)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	sent := false
	for lines.Scan() {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		if word == "folder" {
			folder = rest
		}
		if word == "trial" && !sent {
			sent = true
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait() // its exit code is what the test looks at
	if sig == syscall.SIGINT && !strings.Contains(stderr.String(), "--resume "+folder) {
		t.Errorf("no hint how to go on: %s", &stderr)
	}
	return folder, cmd.ProcessState.ExitCode(), cmd.Process.Pid
}

// SIGINT stops the contender, leaves nothing but the run's folder, and keeps
// the finished trials; --resume repeats none of them and finishes the plan.
func TestInterruptAndResume(t *testing.T) {
	folder, code, pid := interrupted(t, t.TempDir(), syscall.SIGINT)
	if code != ExitInterrupted {
		t.Errorf("exit code %d, want %d", code, ExitInterrupted)
	}
	if left := leftovers(t, pid); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	early, err := reports.Load(filepath.Join(folder, fileResult))
	if err != nil || early.Verdict != reports.VerdictInvalid || len(early.Trials) == 0 {
		t.Fatalf("result of the interrupted run: %+v, %v", early, err)
	}
	finishedBefore := map[string]time.Time{}
	files, err := filepath.Glob(filepath.Join(folder, dirTrials, "*.json"))
	if err != nil || len(files) == 0 || len(files) == 10 {
		t.Fatalf("%d finished trials, want some but not all (%v)", len(files), err)
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		finishedBefore[file] = info.ModTime()
	}
	s, err := LoadResumed(folder)
	if err != nil {
		t.Fatal(err)
	}
	result, err := runTest(t, Options{Scenario: s, Resume: folder})
	if err != nil {
		t.Fatal(err)
	}
	slots := map[[2]any]int{}
	for _, trial := range result.Trials {
		if trial.Status != trialInvalid {
			slots[[2]any{trial.Contender, trial.Round}]++
		}
	}
	for key, n := range slots {
		if n != 1 {
			t.Errorf("%v was measured %d times", key, n)
		}
	}
	for file, before := range finishedBefore {
		if info, err := os.Stat(file); err != nil || info.ModTime() != before {
			t.Errorf("%s was repeated (%v)", file, err)
		}
	}
	if files, _ := filepath.Glob(filepath.Join(folder, dirTrials, "*.json")); len(files) != 10 {
		t.Errorf("%d trial files at the end, want 10", len(files))
	}
}

// A killed run leaves its cgroup and folder under its pid's name, its contender
// dies with it, and resuming works all the same.
func TestKillAndResume(t *testing.T) {
	folder, _, pid := interrupted(t, t.TempDir(), syscall.SIGKILL)
	left := leftovers(t, pid)
	if len(left) == 0 {
		t.Log("killed between two trials: nothing was left")
	}
	for _, path := range left {
		if strings.HasPrefix(path, "/sys/fs/cgroup") {
			deadline := time.Now().Add(10 * time.Second)
			for syscall.Rmdir(path) != nil {
				if time.Now().After(deadline) {
					t.Fatalf("%s can't be removed: the contender outlived the run", path)
				}
				time.Sleep(time.Millisecond)
			}
			continue
		}
		owner, err := machine.ReadOwner(path)
		if err != nil || owner.PID != pid || owner.Liveness() != machine.Dead {
			t.Errorf("owner of %s: %+v %s (%v)", path, owner, owner.Liveness(), err)
		}
		if err := os.RemoveAll(path); err != nil {
			t.Error(err)
		}
	}
	if result, err := runTest(t, Options{Resume: folder}); err != nil || len(result.Trials) < 10 {
		t.Errorf("resume after a kill: %v", err)
	}
}

// Resuming is refused when what made the trials has changed.
func TestResumeRefuses(t *testing.T) {
	folder, _, _ := interrupted(t, t.TempDir(), syscall.SIGINT)
	other := testScenario("honest")
	cases := map[string]Options{
		"the scenario":               {Scenario: other, Resume: folder},
		"the nexus binary":           {Resume: folder, Self: "/bin/true"},
		"the environment's kernel":   {Resume: folder, Environment: reports.Environment{Kernel: "7.0"}},
		"no such file":               {Resume: filepath.Join(folder, "absent")},
		"the environment's cpu_plan": {Resume: folder, CPUs: machine.CPUPlan{Generator: []int{0}, Contender: []int{0}, System: []int{9}}},
	}
	for want, o := range cases {
		_, err := runTest(t, o)
		if err == nil || ExitCode(nil, err) != ExitUsage || !strings.Contains(err.Error(), want) {
			t.Errorf("want a refusal that names %q, got %v", want, err)
		}
	}
}

// Folders: none is used twice, one that can't be written is exit code 3.
func TestRunFolders(t *testing.T) {
	runs := t.TempDir()
	now := time.Now()
	seen := map[string]bool{}
	for range 3 {
		f, err := newFolder(runs, "day07", ModeQuick, now)
		if err != nil {
			t.Fatal(err)
		}
		defer f.close()
		if seen[f.path] {
			t.Errorf("%s was given twice", f.path)
		}
		seen[f.path] = true
		if _, err := openFolder(f.path); err == nil {
			t.Errorf("%s was opened without run.json", f.path)
		}
		if _, err := lockFolder(f.path); ExitCode(nil, err) != ExitUsage {
			t.Errorf("a second process got the lock of %s (%v)", f.path, err)
		}
	}
	_, err := newFolder("/proc/nexus-runs", "day07", ModeQuick, now)
	var known *Error
	if !errors.As(err, &known) || known.Code != ExitEnvironment || known.Hint == "" {
		t.Errorf("a folder that can't be made: %v", err)
	}
}

// An invalid trial is repeated, twice at most, as long as few are, and too many
// make the run invalid.
func TestInvalidTrials(t *testing.T) {
	s := testScenario("honest")
	s.Thresholds = []Threshold{{ID: "x", Class: ClassGate, Metric: "throughput_per_s", Point: "peak", Subject: "honest", Compare: ">=", Limit: 1, Unit: "per_s"}}
	for name, invalid := range map[string]func(call int) bool{
		"one":  func(call int) bool { return call == 1 },
		"all":  func(int) bool { return true },
		"none": func(int) bool { return false },
	} {
		calls := 0
		drive := func(ctx context.Context, c loadgen.Config) (*loadgen.Result, error) {
			result, err := loadgen.Run(ctx, c)
			if result != nil {
				result.Invalid = nil
				if invalid(calls) {
					result.Invalid = []string{"planted"}
				}
			}
			calls++
			return result, err
		}
		result, err := run(context.Background(), Options{Lab: testLab(), Scenario: s, RunsDir: t.TempDir()}, limitsDefault, drive)
		if err != nil {
			t.Fatal(err)
		}
		attempts := map[int][]string{}
		for _, trial := range result.Trials {
			attempts[trial.Round] = append(attempts[trial.Round], trial.Status)
		}
		repeats := 0
		for round, statuses := range attempts {
			last := len(statuses) - 1
			repeats += last
			for _, status := range statuses[:last] {
				if status != trialInvalid {
					t.Errorf("%s: round %d repeated a trial that was %s", name, round, status)
				}
			}
			if last > repeatsMax {
				t.Errorf("%s: round %d has %d attempts", name, round, last+1)
			}
		}
		// The machine itself may make trials invalid too, so these are bounds.
		if calls != len(result.Trials) || calls != 5+repeats || repeats > repeatsMax {
			t.Errorf("%s: %d trials driven, %d recorded, %d repeats", name, calls, len(result.Trials), repeats)
		}
		switch {
		case name == "all" && (ExitCode(result, nil) != ExitInvalid || repeats != repeatsMax):
			t.Errorf("all invalid: exit code %d after %d repeats (%v)", ExitCode(result, nil), repeats, result.Reasons)
		case name == "one" && (repeats == 0):
			t.Errorf("an invalid trial was not repeated: %v", attempts)
		}
	}
}

// Names that the lab doesn't have are complaints about the scenario.
func TestUnknownToLab(t *testing.T) {
	s := testScenario("honets")
	s.Checks["crash-point"] = Numbers{}
	_, err := runTest(t, Options{Scenario: s})
	for _, want := range []string{`no contender "honets"`, `did you mean "honest"?`, `no check "crash-point"`} {
		if err == nil || !strings.Contains(err.Error(), want) || ExitCode(nil, err) != ExitUsage {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}
