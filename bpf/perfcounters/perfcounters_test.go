package perfcounters

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/bpf/attach"
	"github.com/nexuscore-labs/nexus/bpf/bpftest"
	"github.com/nexuscore-labs/nexus/bpf/probe"
)

// The tests compare the counters with the kernel's own accounts in /proc.
func TestMain(m *testing.M) {
	bpftest.Main(m, map[string]bpftest.Workload{"touch": touch, "burn": burn})
}

func touch(n int) (func() error, error) {
	page := unix.Getpagesize()
	return func() error {
		mem, err := unix.Mmap(-1, 0, n*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			return err
		}
		if err := unix.Madvise(mem, unix.MADV_NOHUGEPAGE); err != nil && err != unix.EINVAL {
			return err
		}
		for i := range n {
			mem[i*page] = 1
		}
		return unix.Munmap(mem)
	}, nil
}

// burn uses n milliseconds of CPU time.
func burn(n int) (func() error, error) {
	return func() error {
		var from, now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &from); err != nil {
			return err
		}
		for now = from; now.Nano()-from.Nano() < int64(n)*int64(time.Millisecond); {
			if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

func open(t *testing.T) *Probe {
	t.Helper()
	p, err := Open(probe.Options{})
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		t.Skipf("perf events need CAP_PERFMON: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func TestFaultsAndSwitches(t *testing.T) {
	const n = 1009
	p := open(t)
	child := bpftest.Start(t, "touch", n)
	m := bpftest.Measure(t, p, child, child)
	faults := m.Counter("minor faults") + m.Counter("major faults")
	if faults < m.Least.Faults || faults > m.Most.Faults || faults < n {
		t.Errorf("counted %d faults, the kernel %d to %d, the work was %d", faults, m.Least.Faults, m.Most.Faults, n)
	}
	switches := m.Counter("context switches")
	if least, most := m.Least.Voluntary+m.Least.Involuntary, m.Most.Voluntary+m.Most.Involuntary; switches < least || switches > most {
		t.Errorf("counted %d switches, the kernel %d to %d", switches, least, most)
	}
}

func TestCPUTime(t *testing.T) {
	const burnMs = 37
	p := open(t)
	child := bpftest.Start(t, "burn", burnMs)
	began := time.Now()
	m := bpftest.Measure(t, p, child, child)
	elapsed := time.Since(began)
	got := time.Duration(m.Counter("cpu time"))
	if got < burnMs*time.Millisecond || got > elapsed {
		t.Errorf("counted %v of CPU time, want %d ms to %v", got, burnMs, elapsed)
	}
}

func TestOtherCgroup(t *testing.T) {
	p := open(t)
	child, other := bpftest.Start(t, "touch", 101), bpftest.Start(t, "touch", 1009)
	m := bpftest.Measure(t, p, child, other)
	if got := m.Counter("minor faults") + m.Counter("major faults"); got > m.Most.Faults {
		t.Errorf("counted %d faults, the idle cgroup had at most %d", got, m.Most.Faults)
	}
}

// Without a PMU the counters say so; with one they count.
func TestHardware(t *testing.T) {
	p := open(t)
	child := bpftest.Start(t, "burn", 3)
	m := bpftest.Measure(t, p, child, child)
	_, err := unix.PerfEventOpen(attr(hardware[0]), 0, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
	absent := slices.ContainsFunc(m.NotMeasured, func(s string) bool { return strings.HasPrefix(s, NoHardware) })
	counted := slices.ContainsFunc(m.Counters, func(c probe.Counter) bool { return c.Label == "cycles" })
	if absent != (err != nil) || counted == absent {
		t.Errorf("opening cycles: %v; said absent: %v; counted: %v", err, absent, counted)
	}
	if counted && (m.Counter("cycles") == 0 || m.Counter("instructions") == 0) {
		t.Errorf("a busy process had %d cycles and %d instructions", m.Counter("cycles"), m.Counter("instructions"))
	}
}

func TestRefusals(t *testing.T) {
	if _, err := Open(probe.Options{Rung: attach.Kprobe}); !errors.Is(err, attach.ErrNoRung) {
		t.Errorf("a rung that perf counters lack: %v", err)
	}
	p := open(t)
	if err := p.Start(1 << 60); err == nil {
		t.Error("a cgroup that does not exist was accepted")
	}
	if len(p.open) != 0 {
		t.Errorf("%d counters stayed open", len(p.open))
	}
}

func TestParseCPUs(t *testing.T) {
	tests := map[string][]int{
		"0": {0}, "0-3": {0, 1, 2, 3}, "0-1,4,6-7": {0, 1, 4, 6, 7},
		"": nil, "3-1": nil, "a": nil, "0-": nil, "0-99999": nil, "0,,1": nil,
	}
	for list, want := range tests {
		got, err := parseCPUs(list)
		if !slices.Equal(got, want) || (err != nil) != (want == nil) {
			t.Errorf("parseCPUs(%q) = %v, %v; want %v", list, got, err, want)
		}
	}
}

func FuzzParseCPUs(f *testing.F) {
	f.Add("0-3,5")
	f.Add("8191")
	f.Fuzz(func(t *testing.T, list string) {
		cpus, err := parseCPUs(list)
		if err != nil {
			return
		}
		if len(cpus) == 0 || len(cpus) > cpuMax {
			t.Fatalf("%q gave %d CPUs", list, len(cpus))
		}
		for _, cpu := range cpus {
			if cpu < 0 || cpu >= cpuMax {
				t.Fatalf("%q gave CPU %d", list, cpu)
			}
		}
	})
}
