package faultprobe

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/bpf/attach"
	"github.com/nexuscore-labs/nexus/bpf/bpftest"
	"github.com/nexuscore-labs/nexus/bpf/probe"
)

// The tests touch a prime number of fresh pages and compare with the kernel's
// own account of the process in /proc/PID/stat.
func TestMain(m *testing.M) {
	bpftest.Main(m, map[string]bpftest.Workload{"write": touch(true), "read": touch(false)})
}

var rungs = []attach.Rung{attach.TpBTF, attach.RawTracepoint, attach.Tracepoint, attach.Fentry, attach.Kprobe}

var sink byte

// touch maps fresh pages in every step and accesses each of n once.
func touch(write bool) bpftest.Workload {
	return func(n int) (func() error, error) {
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
				if write {
					mem[i*page] = 1
				} else {
					sink += mem[i*page]
				}
			}
			return unix.Munmap(mem)
		}, nil
	}
}

func total(m *bpftest.Measured) uint64 {
	var sum uint64
	for _, label := range labels {
		sum += m.Counter(label)
	}
	return sum
}

func TestFaults(t *testing.T) {
	const n = 1009
	bpftest.EachRung(t, Open, rungs, nil, func(t *testing.T, p *Probe) {
		for _, access := range []string{"read", "write"} {
			t.Run(access, func(t *testing.T) {
				child := bpftest.Start(t, access, n)
				child.Step() // the runtime's own first faults
				m := bpftest.Measure(t, p, child, child)
				got := m.Counter("user " + access)
				if m.Least == m.Most && m.Least.Faults == n && got != n {
					t.Errorf("counted %d faults, want %d", got, n)
				}
				// Neighbours of a fault around or the runtime may add some.
				if got < n {
					t.Errorf("counted %d faults on %d fresh pages", got, n)
				}
				if all := total(&m); all < m.Least.Faults || all > m.Most.Faults {
					t.Errorf("counted %d faults of all kinds, the kernel %d to %d", all, m.Least.Faults, m.Most.Faults)
				}
				if lost := m.Counter("lost"); lost != 0 {
					t.Errorf("%d events were lost", lost)
				}
			})
		}
	})
}

func TestOtherCgroup(t *testing.T) {
	bpftest.EachRung(t, Open, rungs, nil, func(t *testing.T, p *Probe) {
		child, other := bpftest.Start(t, "write", 101), bpftest.Start(t, "write", 211)
		m := bpftest.Measure(t, p, child, other)
		if all := total(&m); all < m.Least.Faults || all > m.Most.Faults {
			t.Errorf("counted %d faults, the idle cgroup had %d to %d", all, m.Least.Faults, m.Most.Faults)
		}
	})
}

// Some rung has to work wherever BPF does.
func TestSomeRung(t *testing.T) {
	p, err := Open(probe.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}
