package schedprobe

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/bpf/attach"
	"github.com/nexuscore-labs/nexus/bpf/bpftest"
	"github.com/nexuscore-labs/nexus/uring"
)

// The tests compare the probe with the kernel's own accounts in
// /proc/PID/task/*/status, over work whose least number of switches is known.
func TestMain(m *testing.M) {
	bpftest.Main(m, map[string]bpftest.Workload{"pingpong": pingpong, "spin": spin, "workers": workers})
}

var rungs = []attach.Rung{attach.TpBTF, attach.RawTracepoint}

// pingpong sends a byte to and fro between two threads n times, so each of them
// has to wait n times.
func pingpong(n int) (func() error, error) {
	var there, back [2]int
	for _, p := range []*[2]int{&there, &back} {
		if err := unix.Pipe(p[:]); err != nil {
			return nil, err
		}
	}
	go func() {
		runtime.LockOSThread()
		var b [1]byte
		for {
			if _, err := unix.Read(there[0], b[:]); err != nil {
				panic(err)
			}
			if _, err := unix.Write(back[1], b[:]); err != nil {
				panic(err)
			}
		}
	}()
	return func() error {
		var b [1]byte
		for range n {
			if _, err := unix.Write(there[1], b[:]); err != nil {
				return err
			}
			if _, err := unix.Read(back[0], b[:]); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// spin yields the CPU n times.
func spin(n int) (func() error, error) {
	return func() error {
		for range n {
			if _, _, errno := unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0); errno != 0 {
				return errno
			}
		}
		return nil
	}, nil
}

// workers has n reads done by io_uring's worker threads, which are threads of
// the process and its cgroup.
func workers(n int) (func() error, error) {
	ring, err := uring.New(uring.Options{Entries: 8})
	if err != nil {
		return nil, err
	}
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil {
		return nil, err
	}
	block := make([]byte, 1)
	return func() error {
		for range n {
			ring.SQE().Read(pipe[0], block, 0).With(uring.Async)
			if _, err := ring.Submit(); err != nil {
				return err
			}
			if _, err := unix.Write(pipe[1], block); err != nil {
				return err
			}
			if _, err := ring.SubmitAndWait(1, time.Minute); err != nil {
				return err
			}
			ring.ForEach(func(*uring.CQE) {})
		}
		return nil
	}, nil
}

func TestSwitches(t *testing.T) {
	const n = 503
	bpftest.EachRung(t, Open, rungs, rungs, func(t *testing.T, p *Probe) {
		for _, workload := range []string{"pingpong", "spin", "workers"} {
			t.Run(workload, func(t *testing.T) {
				child := bpftest.Start(t, workload, n)
				m := bpftest.Measure(t, p, child, child)
				voluntary, involuntary := m.Counter("voluntary switches"), m.Counter("involuntary switches")
				between(t, "voluntary switches", voluntary, m.Least.Voluntary, m.Most.Voluntary)
				between(t, "involuntary switches", involuntary, m.Least.Involuntary, m.Most.Involuntary)
				if workload == "pingpong" {
					checkPingPong(t, &m, n)
				}
				if lost := m.Counter("lost"); lost != 0 {
					t.Errorf("%d events were lost", lost)
				}
			})
		}
	})
}

// checkPingPong looks for a wait, a wake-up and a stay on a CPU for every byte.
// Whether one waits depends on the other being slower, so a few may not.
func checkPingPong(t *testing.T, m *bpftest.Measured, n uint64) {
	t.Helper()
	switches := m.Counter("voluntary switches") + m.Counter("involuntary switches")
	if switches < n {
		t.Errorf("%d switches for %d round trips", switches, n)
	}
	runnable := m.Count("woken", "ns") + m.Count("preempted", "ns")
	// Each thread's last leave and first arrival may be on either side, and some
	// systems run no tracing programs in a guarded process of theirs, so that a
	// switch or wake-up from there is not seen.
	const edges = 64
	between(t, "waits for a CPU", runnable, switches-min(switches, edges), switches+edges)
	between(t, "stays on a CPU", m.Count("slice", "ns"), switches-min(switches, edges), switches+edges)
	waits := m.Count("voluntary", "ns")
	voluntary := m.Counter("voluntary switches")
	between(t, "waits", waits, voluntary-min(voluntary, edges), voluntary+edges)
	if off, queued := m.Histogram("voluntary", "ns"), m.Histogram("woken", "ns"); off != nil && queued != nil && off.Mean() < queued.Mean() {
		t.Errorf("off the CPU for %.0f ns but in its queue for %.0f ns", off.Mean(), queued.Mean())
	}
}

func TestOtherCgroup(t *testing.T) {
	bpftest.EachRung(t, Open, rungs, rungs, func(t *testing.T, p *Probe) {
		child, other := bpftest.Start(t, "pingpong", 101), bpftest.Start(t, "pingpong", 211)
		m := bpftest.Measure(t, p, child, other)
		between(t, "voluntary switches", m.Counter("voluntary switches"), m.Least.Voluntary, m.Most.Voluntary)
	})
}

func between(t *testing.T, what string, got, least, most uint64) {
	t.Helper()
	if got < least || got > most {
		t.Errorf("%s: %d, want %d to %d", what, got, least, most)
	}
}
