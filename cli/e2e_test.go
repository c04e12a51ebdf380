package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nexuscore-labs/nexus/machine"
)

// TestMain builds nothing: the test binary is nexus itself when this is set,
// so contenders' processes run the code under test.
const beNexus = "NEXUS_TEST_BE_NEXUS"

func TestMain(m *testing.M) {
	if os.Getenv(beNexus) != "" {
		os.Exit(Main(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// nexus prepares a command line that runs in its own process.
func nexus(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), beNexus+"=1")
	return cmd
}

// run returns the exit code and both outputs.
func runNexus(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := nexus(t, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		code = exit.ExitCode()
	case err != nil:
		t.Fatal(err)
	}
	return code, out.String(), errs.String()
}

// tiny are overrides that make a run of Day 7 as small as one can be: it tests
// the path, not the numbers.
func tiny(t *testing.T) []string {
	t.Helper()
	args := []string{"run", "day07", "--out", filepath.Join(t.TempDir(), "runs")}
	for _, set := range []string{
		"sizes.trials=2", "sizes.duration=60ms", "sizes.warmup=20ms", "probe_overhead.trials=1", "probe_overhead.duration=200ms",
		"checks.crash.points=5", "checks.crash.kills=1", "checks.recovery.log_bytes=8MiB",
		"checks.append-allocations.records=500", "checks.wasm.records=500", "checks.claims-scale.tenants=2000",
		"validity.other_load_max=1", "validity.steal_max=1", // other tests run beside
	} {
		args = append(args, "--set", set)
	}
	return args
}

// requireRun skips where no lab can run at all.
func requireRun(t *testing.T) {
	t.Helper()
	missing, err := machine.Needs(t.Context(), []string{"io_uring"}, machine.DoctorOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if len(missing) > 0 {
		t.Skipf("no lab can run here: %v", missing)
	}
}

func TestRunKeepsItsOutputContract(t *testing.T) {
	requireRun(t)
	code, stdout, stderr := runNexus(t, append(tiny(t), "--json")...)
	if code != exitPass && code != exitFail && code != exitInvalid {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	var result map[string]json.RawMessage
	if err := json.Unmarshal([]byte(stdout), &result); err != nil {
		t.Fatalf("standard output is not one JSON object: %v\n%s", err, stdout)
	}
	for _, key := range []string{"schema_version", "day", "verdict", "contenders", "gates", "lesson_thresholds", "claims",
		"oracle", "measured_by", "not_measured", "environment", "artifacts"} {
		if _, there := result[key]; !there {
			t.Errorf("the result has no %q", key)
		}
	}
	var oracle struct{ Checked, Wrong, Lost, Phantom uint64 }
	if err := json.Unmarshal(result["oracle"], &oracle); err != nil {
		t.Fatal(err)
	}
	if oracle.Checked == 0 || oracle.Wrong+oracle.Lost+oracle.Phantom > 0 {
		t.Errorf("oracle: %+v", oracle)
	}
	var contenders []struct {
		Name, Role, Version string
		ThroughputPerS      *float64                        `json:"throughput_per_s"`
		LatencyNs           *struct{ P50, P99, P999 int64 } `json:"latency_ns"`
	}
	if err := json.Unmarshal(result["contenders"], &contenders); err != nil {
		t.Fatal(err)
	}
	if len(contenders) == 0 {
		t.Error("no contenders")
	}
	for _, c := range contenders {
		if c.Version == "" || c.Role == "" {
			t.Errorf("contender %s has no version or role", c.Name)
		}
		// The slowest may answer nothing within so short a trial.
		if c.Name != "seglog" && c.Name != "fsync-append" {
			continue
		}
		if c.ThroughputPerS == nil || *c.ThroughputPerS <= 0 || c.LatencyNs == nil || c.LatencyNs.P50 <= 0 {
			t.Errorf("contender %s has no throughput or latency", c.Name)
		}
	}
}

func TestInterruptedRunLeavesNothingAndResumes(t *testing.T) {
	requireRun(t)
	args := tiny(t)
	runs := args[3]
	cmd := nexus(t, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitForTrials(t, runs, 3)
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 130 {
		t.Fatalf("interrupted run ended with %v, want exit code 130\n%s", err, stderr.String())
	}
	if !strings.Contains(stderr.String(), "--resume") {
		t.Errorf("the interrupted run does not say how to go on:\n%s", stderr.String())
	}
	left, err := machine.Leftovers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range left {
		if l.PID == cmd.Process.Pid {
			t.Errorf("left behind: %s", l)
		}
	}
	folders, err := filepath.Glob(filepath.Join(runs, "*"))
	if err != nil || len(folders) != 1 {
		t.Fatalf("run folders %v, error %v", folders, err)
	}
	code, _, errs := runNexus(t, "run", "--resume", folders[0])
	if code != exitPass && code != exitFail && code != exitInvalid {
		t.Fatalf("resumed run: exit code %d\n%s", code, errs)
	}
}

func TestKilledRunLeavesNothing(t *testing.T) {
	requireRun(t)
	args := tiny(t)
	cmd := nexus(t, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitForTrials(t, args[3], 2)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	var left []machine.Leftover
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		all, err := machine.Leftovers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		left = left[:0]
		for _, l := range all {
			if l.PID == cmd.Process.Pid {
				left = append(left, l)
			}
		}
		if len(left) == 0 {
			return
		}
	}
	t.Fatalf("30 s after kill -9 there is still: %v", left)
}

// waitForTrials waits until the run has finished so many trials.
func waitForTrials(t *testing.T, runs string, count int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		found, err := filepath.Glob(filepath.Join(runs, "*", "trials", "*.json"))
		if err != nil {
			t.Fatal(err)
		}
		if len(found) >= count {
			return
		}
	}
	t.Fatal("no trial finished within a minute")
}

func TestUsageErrorsSayWhatToDo(t *testing.T) {
	tests := []struct {
		args []string
		code int
		say  string
	}{
		{[]string{"run"}, exitUsage, "nexus run day07"},
		{[]string{"run", "day99"}, exitUsage, "day07"},
		{[]string{"run", "day07", "--mode", "fast"}, exitUsage, "quick or full"},
		{[]string{"rum", "day07"}, exitUsage, "unknown command"},
		{[]string{"run", "nowhere.yaml"}, exitUsage, "nowhere.yaml"},
		{[]string{"report", "/nowhere"}, exitUsage, "/nowhere"},
		{[]string{"setup", "--for", "fun"}, exitUsage, "run, generate"},
		{[]string{"claims", "day99"}, exitUsage, "day07"},
		{[]string{"list", "extra"}, exitUsage, "extra"},
	}
	for _, test := range tests {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := Main(test.args, &stdout, &stderr)
			if code != test.code || !strings.Contains(stderr.String(), test.say) {
				t.Errorf("exit code %d, says %q; want %d and %q", code, stderr.String(), test.code, test.say)
			}
			if stdout.Len() > 0 {
				t.Errorf("an error wrote to standard output: %q", stdout.String())
			}
		})
	}
}
