package blockprobe

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/bpf/attach"
	"github.com/nexuscore-labs/nexus/bpf/bpftest"
)

// The tests write and read a prime number of blocks past the page cache, one at
// a time so that nothing can be merged, and demand exactly that number.
func TestMain(m *testing.M) {
	bpftest.Main(m, map[string]bpftest.Workload{"write": direct(true), "read": direct(false), "flush": flush})
}

const blockLen = 4096

var rungs = []attach.Rung{attach.TpBTF, attach.RawTracepoint}

// direct overwrites or reads n blocks of a file that already has them.
func direct(write bool) bpftest.Workload {
	return func(n int) (func() error, error) {
		fd, block, err := prepare(n)
		if err != nil {
			return nil, err
		}
		return func() error {
			for i := range n {
				op := unix.Pread
				if write {
					op = unix.Pwrite
				}
				if _, err := op(fd, block, int64(i)*blockLen); err != nil {
					return err
				}
			}
			return nil
		}, nil
	}
}

// flush writes a block through the page cache and makes it durable, n times.
func flush(n int) (func() error, error) {
	f, err := os.CreateTemp("", "blockprobe")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, err
	}
	return func() error {
		for range n {
			if _, err := f.Write(make([]byte, blockLen)); err != nil {
				return err
			}
			if err := f.Sync(); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

func prepare(n int) (int, []byte, error) {
	f, err := os.CreateTemp("", "blockprobe")
	if err != nil {
		return 0, nil, err
	}
	defer f.Close()
	defer os.Remove(f.Name())
	if _, err := f.Write(make([]byte, n*blockLen)); err != nil {
		return 0, nil, err
	}
	if err := f.Sync(); err != nil {
		return 0, nil, err
	}
	fd, err := unix.Open(f.Name(), unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, nil, err
	}
	// O_DIRECT wants aligned memory; a mapping is.
	block, err := unix.Mmap(-1, 0, blockLen, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	return fd, block, err
}

// needDisk skips the test where temporary files are not on a block device.
func needDisk(t *testing.T) {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Stat(os.TempDir(), &stat); err != nil {
		t.Fatal(err)
	}
	if unix.Major(stat.Dev) == 0 {
		t.Skipf("%s is on no block device (device %d:%d)", os.TempDir(), unix.Major(stat.Dev), unix.Minor(stat.Dev))
	}
}

func TestDirect(t *testing.T) {
	needDisk(t)
	const n = 31
	bpftest.EachRung(t, Open, rungs, rungs, func(t *testing.T, p *Probe) {
		for _, op := range []string{"write", "read"} {
			t.Run(op, func(t *testing.T) {
				child := bpftest.Start(t, op, n)
				m := measure(t, p, child)
				timed, unfinished := m.Count(op, "ns"), m.Counter("unfinished")
				if timed != n {
					t.Errorf("timed %d requests, want %d; %d unfinished", timed, n, unfinished)
				}
				if h := m.Histogram(op, "bytes"); h == nil || h.Sum != n*blockLen || h.Count() != n {
					t.Errorf("the sizes are not %d times %d", n, blockLen)
				}
				if lost, failed := m.Counter("lost"), m.Counter("errors"); lost+failed != 0 {
					t.Errorf("%d events were lost, %d failed", lost, failed)
				}
			})
		}
	})
}

// measure repeats until every request that was issued was also seen to complete.
// Completions come in interrupts, and some systems run no tracing programs while
// a guarded process of theirs is the one interrupted: the probe shows such a
// loss as unfinished.
func measure(t *testing.T, p *Probe, child *bpftest.Process) bpftest.Measured {
	t.Helper()
	const attempts = 5
	for attempt := 1; ; attempt++ {
		m := bpftest.Measure(t, p, child, child)
		if m.Counter("unfinished") == 0 || attempt == attempts {
			return m
		}
		t.Logf("attempt %d: %d completions were not seen", attempt, m.Counter("unfinished"))
	}
}

// fsync of a grown file writes data from the cgroup itself and leaves journal
// and flush to the kernel, under labels of their own.
func TestFsync(t *testing.T) {
	needDisk(t)
	const n = 11
	bpftest.EachRung(t, Open, rungs, rungs, func(t *testing.T, p *Probe) {
		child := bpftest.Start(t, "flush", n)
		m := measure(t, p, child)
		if got := m.Histogram("write", "bytes"); got == nil || got.Sum < n*blockLen {
			t.Errorf("the cgroup wrote less than %d bytes", n*blockLen)
		}
		for _, h := range m.Histograms {
			t.Logf("%s (%s): %d, sum %d", h.Label, h.Unit, h.Count(), h.Sum)
		}
	})
}

func TestOtherCgroup(t *testing.T) {
	needDisk(t)
	bpftest.EachRung(t, Open, rungs, rungs, func(t *testing.T, p *Probe) {
		child, other := bpftest.Start(t, "write", 31), bpftest.Start(t, "write", 31)
		m := bpftest.Measure(t, p, child, other)
		for _, op := range ops {
			if got := m.Count(op, "ns"); got != 0 {
				t.Errorf("counted %d %s requests of another cgroup", got, op)
			}
		}
	})
}

// The slots are dealt out by block.h; each label has one, and each slot at most one.
func TestLabels(t *testing.T) {
	seen := map[uint32]string{}
	for _, l := range labels() {
		if other, found := seen[l.Slot]; found {
			t.Errorf("%s and %s share slot %d", l.Label, other, l.Slot)
		}
		seen[l.Slot] = l.Label
	}
	if want := 2*len(ops)*len(origins) + len(origins); len(seen) != want {
		t.Errorf("%d slots, want %d", len(seen), want)
	}
}
