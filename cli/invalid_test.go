package cli

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/machine"
)

// small is a scenario of Day 7 that takes a second or two, with one gate.
const small = `version: 1
name: small
day: 7
title: Two logs for a moment
seed: 7
workload: {transport: unix, codec: frame, tenants: 8, popularity: uniform, record: 100B}
contenders:
  - name: seglog
  - name: fsync-append
sizes: {trials: 5, warmup: 20ms, duration: 150ms, timeout: 5s}
headline: peak
points:
  - {name: peak, arrival: closed, writers: 8, connections: 2}
thresholds:
  - {id: works, doc: It answers., class: gate, metric: throughput_per_s, point: peak, subject: seglog, compare: ">=", limit: 1, unit: per_s, coverage_min: 1}
validity: {oracle_coverage_min: 1, other_load_max: %s, steal_max: %s}
`

func writeSmall(t *testing.T, otherLoadMax, stealMax string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "small.yaml")
	if err := os.WriteFile(name, fmt.Appendf(nil, small, otherLoadMax, stealMax), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func requireInvalidRun(t *testing.T, code int, stdout, stderr, reason string) {
	t.Helper()
	if code != exitInvalid {
		t.Errorf("exit code %d, want %d\n%s\n%s", code, exitInvalid, stdout, stderr)
	}
	if !strings.Contains(stdout, "! INVALID: this measurement must not be trusted") || !strings.Contains(stdout, reason) {
		t.Errorf("no verdict with %q on standard output:\n%s", reason, stdout)
	}
	if !strings.Contains(stderr, "is invalid and repeated: ") && !strings.Contains(stderr, ": invalid: ") {
		t.Errorf("progress does not tell of invalid trials:\n%s", stderr)
	}
}

// A program that burns the pinned CPUs makes the run invalid.
func TestOtherLoadEndsARunWithCode5(t *testing.T) {
	requireRun(t)
	plan, err := machine.PlanCPUs()
	if err != nil {
		t.Fatal(err)
	}
	for _, cpu := range append(plan.Contender, plan.Generator...) {
		hog := exec.Command("sh", "-c", "while :; do :; done")
		if err := hog.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			_ = hog.Process.Kill()
			_ = hog.Wait() // reports the kill
		}()
		var set unix.CPUSet
		set.Set(cpu)
		if err := unix.SchedSetaffinity(hog.Process.Pid, &set); err != nil {
			t.Fatal(err)
		}
	}
	code, stdout, stderr := runNexus(t, "run", writeSmall(t, "0.05", "1"), "--out", filepath.Join(t.TempDir(), "runs"))
	requireInvalidRun(t, code, stdout, stderr, "other load: other programs used ")
}

// A hypervisor that takes a third of the time makes the run invalid. Nobody can
// be asked to do that here, so the run gets a mount namespace of its own in
// which /proc/stat tells of it.
func TestStealEndsARunWithCode5(t *testing.T) {
	requireRun(t)
	if os.Geteuid() != 0 {
		t.Skip("a mount namespace needs root")
	}
	dir := t.TempDir()
	fake := filepath.Join(dir, "stat")
	began := time.Now()
	// Always as long, so that it can be overwritten in place: a reader sees a
	// whole file at any time.
	stat := func() []byte {
		var b strings.Builder
		for cpu := range 64 {
			fmt.Fprintf(&b, "cpu%d 0 0 0 0 0 0 0 %012d\n", cpu, time.Since(began).Milliseconds()/30)
		}
		return []byte(b.String())
	}
	if err := os.WriteFile(fake, stat(), 0o644); err != nil {
		t.Fatal(err)
	}
	script := `mount --bind "$1" /proc/stat && shift && exec "$@"`
	cmd := nexus(t, "run", writeSmall(t, "1", "0.05"), "--out", filepath.Join(dir, "runs"))
	cmd.Args = append([]string{"sh", "-c", script, "sh", fake}, cmd.Args...)
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Path = shell
	// A new user namespace is not needed; private, so that the mount stays inside.
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Skipf("no mount namespace here: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for running := true; running; {
		select {
		case <-ended:
			running = false
		case <-time.After(5 * time.Millisecond):
			file, err := os.OpenFile(fake, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := file.WriteAt(stat(), 0); err != nil {
				t.Error(err)
			}
			if err := file.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	requireInvalidRun(t, cmd.ProcessState.ExitCode(), out.String(), errs.String(), "steal: the hypervisor took ")
}

// Limits that let more through are in the result, as a warning.
func TestLoosenedLimitsAreSaid(t *testing.T) {
	requireRun(t)
	_, stdout, stderr := runNexus(t, "run", writeSmall(t, "1", "1"), "--out", filepath.Join(t.TempDir(), "runs"))
	for _, who := range []string{"other programs", "the hypervisor"} {
		if want := "warning: the scenario lets " + who; !strings.Contains(stdout, want) {
			t.Errorf("no %q:\n%s\n%s", want, stdout, stderr)
		}
	}
}
