package lockprobe

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/bpf/attach"
	"github.com/nexuscore-labs/nexus/bpf/bpftest"
	"github.com/nexuscore-labs/nexus/bpf/probe"
)

// The tests have a lock held while a prime number of threads queue for it one
// after the other, and demand exactly that many waits of the right kind.

var rungs = []attach.Rung{attach.TpBTF, attach.RawTracepoint}

const waiters = 7

// needHold skips the test where locks can't be held at will.
func needHold(t *testing.T) {
	t.Helper()
	fd, err := openUffd()
	if err != nil {
		t.Skipf("no page fault can be withheld here: %v", err)
	}
	unix.Close(fd)
}

// measure is bpftest.Measure for workloads whose threads come and go.
func measure(t *testing.T, p *Probe, target, worker *bpftest.Process) bpftest.Measured {
	t.Helper()
	if err := p.Start(target.CgroupID); err != nil {
		t.Fatal(err)
	}
	worker.Step()
	reading, err := probe.Stop(p)
	if err != nil {
		t.Fatal(err)
	}
	return bpftest.Measured{Reading: reading}
}

func TestKindsOfWaits(t *testing.T) {
	needHold(t)
	for _, test := range []struct {
		workload string
		exact    map[string]uint64 // waits by label
		least    string            // a label that waits of the Go runtime may be added to
		writes   uint64
	}{
		{"write", map[string]uint64{InodeLock: waiters, PositionLock: 0}, RwsemWrite, waiters + 1},
		{"position", map[string]uint64{InodeLock: 0, PositionLock: waiters}, Mutex, waiters + 1},
		{"chmod", map[string]uint64{InodeLock: 0, PositionLock: 0}, RwsemWrite, 1},
		{"seek", map[string]uint64{InodeLock: 0, PositionLock: 0}, RwsemRead, 1},
	} {
		t.Run(test.workload, func(t *testing.T) {
			if test.workload == "seek" {
				needSharedSeek(t)
			}
			bpftest.EachRung(t, Open, rungs, rungs, func(t *testing.T, p *Probe) {
				child := bpftest.Start(t, test.workload, waiters)
				m := measure(t, p, child, child)
				for label, want := range test.exact {
					if got := m.Count(label, "ns"); got != want {
						t.Errorf("%s: %d waits, want %d", label, got, want)
					}
				}
				if got := m.Count(test.least, "ns"); got < waiters {
					t.Errorf("%s: %d waits, want at least %d", test.least, got, waiters)
				}
				// The writes of the child's protocol with the test count too.
				if got := m.Counter(Writes); got < test.writes {
					t.Errorf("%d writes, want at least %d", got, test.writes)
				}
				if lost := m.Counter(Lost); lost != 0 {
					t.Errorf("%d events were lost", lost)
				}
			})
		})
	}
}

// needSharedSeek skips the test where lseek(2) does not take the inode lock for
// read; that it does is known of these.
func needSharedSeek(t *testing.T) {
	t.Helper()
	var fs unix.Statfs_t
	if err := unix.Statfs(t.TempDir(), &fs); err != nil {
		t.Fatal(err)
	}
	if fs.Type != unix.EXT4_SUPER_MAGIC && fs.Type != unix.XFS_SUPER_MAGIC {
		t.Skipf("file system type %#x may not take the inode lock for read", fs.Type)
	}
}

// Who queues in order and is served in order is not overtaken, and while the
// first is sampled nobody else is.
func TestNobodyOvertakes(t *testing.T) {
	needHold(t)
	bpftest.EachRung(t, Open, rungs, rungs, func(t *testing.T, p *Probe) {
		child := bpftest.Start(t, "write", waiters)
		m := measure(t, p, child, child)
		for label, want := range map[string]uint64{Overtaken: 0, Sampled: 1, SampledOvertaken: 0, SampledOvertakings: 0} {
			if got := m.Counter(label); got != want {
				t.Errorf("%s: %d, want %d", label, got, want)
			}
		}
	})
}

func TestOvertakings(t *testing.T) {
	needHold(t)
	needFIFO(t)
	const n = 13
	bpftest.EachRung(t, Open, rungs, rungs, func(t *testing.T, p *Probe) {
		child := bpftest.Start(t, "overtake", n)
		m := measure(t, p, child, child)
		for label, want := range map[string]uint64{Overtaken: 1, Sampled: 1, SampledOvertaken: 1, SampledOvertakings: n} {
			if got := m.Counter(label); got != want {
				t.Errorf("%s: %d, want %d", label, got, want)
			}
		}
		// An overtaker that the scheduler wants off its CPU queues and steals
		// the lock from there, which is a wait of its own.
		if got := m.Count(InodeLock, "ns"); got < 1 {
			t.Errorf("%d waits for the inode lock, want at least 1", got)
		}
		if h := m.Histogram(Overtakings, "count"); h == nil || h.Count() != 1 || h.Sum != n {
			t.Errorf("overtakings %+v, want one of %d", h, n)
		}
	})
}

func needFIFO(t *testing.T) {
	t.Helper()
	if len(allowedCPUs()) < 2 {
		t.Skip("needs two CPUs, one of them to keep a woken waiter off")
	}
	refused := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		refused <- setFIFO()
	}()
	if err := <-refused; err != nil {
		t.Skipf("SCHED_FIFO is refused here: %v", err)
	}
}

func TestUncontended(t *testing.T) {
	const n = 101
	bpftest.EachRung(t, Open, rungs, rungs, func(t *testing.T, p *Probe) {
		child := bpftest.Start(t, "alone", n)
		m := measure(t, p, child, child)
		if got := m.Counter(Writes); got < n {
			t.Errorf("%d writes, want at least %d", got, n)
		}
		if got := m.Count(InodeLock, "ns") + m.Count(PositionLock, "ns"); got != 0 {
			t.Errorf("%d waits of a lone writer", got)
		}
	})
}

func TestOtherCgroup(t *testing.T) {
	needHold(t)
	bpftest.EachRung(t, Open, rungs, rungs, func(t *testing.T, p *Probe) {
		child, other := bpftest.Start(t, "write", waiters), bpftest.Start(t, "write", waiters)
		m := measure(t, p, child, other)
		if len(m.Histograms) != 0 || m.Counter(Writes) != 0 {
			t.Errorf("counted %+v of another cgroup", m.Reading)
		}
	})
}

// StartProcess counts this process and no other.
func TestProcess(t *testing.T) {
	needHold(t)
	bpftest.EachRung(t, Open, rungs, rungs, func(t *testing.T, p *Probe) {
		other := bpftest.Start(t, "write", waiters)
		fds, err := openTemp(openEach, 3+1)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.StartProcess(); err != nil {
			t.Fatal(err)
		}
		other.Step()
		write := func(fd int) error { _, err := unix.Write(fd, []byte("x")); return err }
		if err := blockAll(fds, unix.SYS_WRITE, write); err != nil {
			t.Fatal(err)
		}
		reading, err := probe.Stop(p)
		if err != nil {
			t.Fatal(err)
		}
		m := bpftest.Measured{Reading: reading}
		if got := m.Count(InodeLock, "ns"); got != 3 {
			t.Errorf("%d waits for the inode lock, want 3", got)
		}
	})
}

// A second measurement starts from nothing.
func TestStartForgets(t *testing.T) {
	needHold(t)
	p, err := Open(probe.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	child := bpftest.Start(t, "write", waiters)
	for range 2 {
		m := measure(t, p, child, child)
		if got := m.Count(InodeLock, "ns"); got != waiters {
			t.Errorf("%d waits for the inode lock, want %d", got, waiters)
		}
		if got := m.Counter(Sampled); got != 1 {
			t.Errorf("%d sampled, want 1", got)
		}
	}
}

// What the probe adds to an uncontended write, off and on.
func BenchmarkWrite(b *testing.B) {
	for _, state := range []string{"detached", "off", "on"} {
		b.Run(state, func(b *testing.B) {
			write := openNull(b, state)
			for b.Loop() {
				write()
			}
		})
	}
}

func TestBenchmarkWrite(t *testing.T) {
	for _, state := range []string{"detached", "off", "on"} {
		t.Run(state, func(t *testing.T) { openNull(t, state)() })
	}
}

func openNull(tb testing.TB, state string) (write func()) {
	if state != "detached" {
		p, err := Open(probe.Options{})
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { p.Close() })
		if state == "on" {
			if err := p.StartProcess(); err != nil {
				tb.Fatal(err)
			}
		}
	}
	fd, err := unix.Open("/dev/null", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { unix.Close(fd) })
	buf := []byte("x")
	return func() {
		if _, err := unix.Write(fd, buf); err != nil {
			tb.Fatal(err)
		}
	}
}
