package bpf

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/bpf/attach"
	"github.com/nexuscore-labs/nexus/bpf/bpftest"
)

// The tests of the suite look at what the probes make together: one workload
// seen by all of them, trial after trial, and nothing left at the end.
func TestMain(m *testing.M) {
	bpftest.Main(m, map[string]bpftest.Workload{"append": appendDurably, "getppid": getppid})
}

// appendDurably overwrites a block of one file and makes it durable, n times.
func appendDurably(n int) (func() error, error) {
	f, err := os.CreateTemp("", "suite")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, err
	}
	block := make([]byte, 4096)
	return func() error {
		for range n {
			if _, err := unix.Pwrite(int(f.Fd()), block, 0); err != nil {
				return err
			}
			if err := unix.Fdatasync(int(f.Fd())); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

func getppid(n int) (func() error, error) {
	return func() error {
		for range n {
			unix.Getppid()
		}
		return nil
	}, nil
}

func needRoot(t testing.TB) {
	t.Helper()
	if unix.Geteuid() != 0 {
		t.Skip("BPF tracing programs need root")
	}
}

func openSuite(t testing.TB, opts Options) *Suite {
	t.Helper()
	needRoot(t)
	s, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func count(s Snapshot, probe, label, unit string) uint64 {
	for i := range s.Histograms {
		if h := &s.Histograms[i]; h.Probe == probe && h.Label == label && h.Unit == unit {
			return h.Count()
		}
	}
	return 0
}

func TestSuiteTrials(t *testing.T) {
	s := openSuite(t, Options{})
	a, b := bpftest.Start(t, "append", 23), bpftest.Start(t, "append", 41)
	for trial, step := range []struct {
		target, worker *bpftest.Process
		want           uint64
	}{{a, a, 23}, {b, b, 41}, {a, b, 0}, {b, b, 41}, {a, a, 23}} {
		if err := s.Start(step.target.CgroupID); err != nil {
			t.Fatal(err)
		}
		step.worker.Step()
		snapshot, err := s.Stop()
		if err != nil {
			t.Fatal(err)
		}
		for _, call := range []string{"pwrite64", "fdatasync"} {
			if got := count(snapshot, "syscall", call, "ns"); got != step.want {
				t.Errorf("trial %d: counted %d calls of %s, want %d", trial, got, call, step.want)
			}
		}
		for _, c := range snapshot.Counters {
			if c.Label == "lost" && c.Value != 0 {
				t.Errorf("trial %d: probe %s lost %v events", trial, c.Probe, c.Value)
			}
		}
	}
}

// Every probe is either attached or named as missing with its reason.
func TestSuiteIsComplete(t *testing.T) {
	for _, rung := range []string{"", string(attach.TpBTF), string(attach.RawTracepoint)} {
		s := openSuite(t, Options{Rung: rung})
		for _, name := range Probes() {
			attached := slices.ContainsFunc(s.Attachments(), func(a Attachment) bool { return a.Probe == name })
			missing := slices.ContainsFunc(s.Missing(), func(m string) bool {
				return strings.HasPrefix(m, name+": ") && !strings.HasPrefix(m, name+": in part: ")
			})
			if attached == missing {
				t.Errorf("rung %q: probe %s: attached %v, missing %v", rung, name, attached, missing)
			}
		}
		for _, a := range s.Attachments() {
			if rung != "" && a.Rung != rung {
				t.Errorf("rung %q was forced, %s %s is attached by %s", rung, a.Probe, a.Program, a.Rung)
			}
			if a.Program == "" || a.Rung == "" {
				t.Errorf("an attachment without a name: %+v", a)
			}
		}
	}
}

func TestSuiteRefusals(t *testing.T) {
	needRoot(t)
	if _, err := Open(Options{Probes: []string{"sched", "schedd"}}); err == nil || !strings.Contains(err.Error(), `"schedd"`) {
		t.Errorf("an unknown probe: %v", err)
	}
	if _, err := Open(Options{Rung: "ladder"}); !errors.Is(err, attach.ErrNoRung) {
		t.Errorf("an unknown rung: %v", err)
	}
	s := openSuite(t, Options{Probes: []string{"fault"}})
	if _, err := s.Stop(); err == nil {
		t.Error("a suite that was not started was stopped")
	}
	if err := s.Start(0); err == nil {
		t.Error("cgroup 0 was accepted")
	}
	if err := s.Start(1); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(1); err == nil {
		t.Error("a running suite was started")
	}
	if _, err := s.Stop(); err != nil {
		t.Error(err)
	}
}

func TestCgroupID(t *testing.T) {
	if _, err := CgroupID(t.TempDir()); err == nil {
		t.Error("a folder outside cgroup2 has an id")
	}
	if _, err := CgroupID("/nonexistent"); err == nil {
		t.Error("a folder that does not exist has an id")
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	needRoot(t)
	before := descriptors(t)
	for range 2 {
		s, err := Open(Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Start(1); err != nil { // the root cgroup
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d BPF and perf descriptors are open, %d were before", after, before)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, fd := range fds {
		target, err := os.Readlink(fd)
		if err == nil && (strings.Contains(target, "bpf") || strings.Contains(target, "perf_event")) {
			n++
		}
	}
	return n
}
