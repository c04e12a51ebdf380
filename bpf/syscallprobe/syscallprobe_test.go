package syscallprobe

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/bpf/attach"
	"github.com/nexuscore-labs/nexus/bpf/bpftest"
)

// The tests let a child in a cgroup of its own make a prime number of calls and
// demand exactly that number.
func TestMain(m *testing.M) {
	bpftest.Main(m, map[string]bpftest.Workload{
		"fdatasync": fdatasync,
		"getppid":   getppid,
		"threads":   threads,
	})
}

var rungs = []attach.Rung{attach.TpBTF, attach.RawTracepoint, attach.Tracepoint}

// must are the rungs that a kernel with BTF always has.
var must = rungs[:2]

func fdatasync(n int) (func() error, error) {
	f, err := os.CreateTemp("", "syscallprobe")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, err
	}
	return func() error {
		for range n {
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

// threads makes the calls from n threads, all at once.
func threads(n int) (func() error, error) {
	return func() error {
		done := make(chan error)
		for range n {
			go func() {
				_, err := unix.Getsid(0)
				done <- err
			}()
		}
		for range n {
			if err := <-done; err != nil {
				return err
			}
		}
		return nil
	}, nil
}

func TestCounts(t *testing.T) {
	tests := []struct {
		workload, label string
		n               int
	}{
		{"fdatasync", "fdatasync", 23},
		{"getppid", "getppid", 10007},
		{"threads", "getsid", 13},
	}
	bpftest.EachRung(t, Open, rungs, must, func(t *testing.T, p *Probe) {
		for _, test := range tests {
			t.Run(test.workload, func(t *testing.T) {
				child := bpftest.Start(t, test.workload, test.n)
				m := bpftest.Measure(t, p, child, child)
				if got := m.Count(test.label, "ns"); got != uint64(test.n) {
					t.Errorf("counted %d calls of %s, want %d", got, test.label, test.n)
				}
				if lost := m.Counter("lost"); lost != 0 {
					t.Errorf("%d events were lost", lost)
				}
				// At the end the child is entering or inside its read of standard input.
				if n := m.Counter("unfinished"); n > uint64(test.n)+8 {
					t.Errorf("%d calls are unfinished", n)
				}
				if h := m.Histogram(test.label, "ns"); h != nil && (h.Sum == 0 || h.Max() == 0) {
					t.Errorf("the calls took no time: sum %d, max %d", h.Sum, h.Max())
				}
			})
		}
	})
}

// A second trial counts anew, and the work of another cgroup is not counted.
func TestOtherCgroup(t *testing.T) {
	bpftest.EachRung(t, Open, rungs, must, func(t *testing.T, p *Probe) {
		child, other := bpftest.Start(t, "getppid", 101), bpftest.Start(t, "getppid", 211)
		for trial := range 3 {
			m := bpftest.Measure(t, p, child, other)
			if got := m.Count("getppid", "ns"); got != 0 {
				t.Errorf("trial %d: counted %d calls of another cgroup", trial, got)
			}
			m = bpftest.Measure(t, p, child, child)
			if got := m.Count("getppid", "ns"); got != 101 {
				t.Errorf("trial %d: counted %d calls, want 101", trial, got)
			}
			// The child was already inside its read when the trial began, and is
			// inside the next when it ends.
			if got := m.Count("read", "ns"); got != 0 {
				t.Errorf("trial %d: timed %d calls that began before it", trial, got)
			}
		}
	})
}

func TestName(t *testing.T) {
	tests := map[int]string{
		unix.SYS_FDATASYNC:      "fdatasync",
		unix.SYS_IO_URING_ENTER: "io_uring_enter",
		numberMax - 1:           "syscall 511",
		-1:                      "syscall -1",
	}
	for number, want := range tests {
		if got := Name(number); got != want {
			t.Errorf("Name(%d) = %q, want %q", number, got, want)
		}
	}
}
