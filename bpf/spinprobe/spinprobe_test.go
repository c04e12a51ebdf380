package spinprobe

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/bpf/attach"
	"github.com/nexuscore-labs/nexus/bpf/bpftest"
	"github.com/nexuscore-labs/nexus/bpf/probe"
)

// The tests hold the probe to its account: every call of the cgroup is held up, and
// none for less than asked. How much longer it takes is the machine's affair.
func TestMain(m *testing.M) {
	bpftest.Main(m, map[string]bpftest.Workload{"getppid": func(n int) (func() error, error) {
		return func() error {
			for range n {
				unix.Getppid()
			}
			return nil
		}, nil
	}})
}

func TestSpent(t *testing.T) {
	if unix.Geteuid() != 0 {
		t.Skip("BPF tracing programs need root")
	}
	const n, perCall = 1009, 700 * time.Nanosecond
	open := func(opts probe.Options) (*Probe, error) { return Open(opts, perCall) }
	bpftest.EachRung(t, open, []attach.Rung{attach.TpBTF, attach.RawTracepoint}, nil, func(t *testing.T, p *Probe) {
		child, other := bpftest.Start(t, "getppid", n), bpftest.Start(t, "getppid", n)
		m := bpftest.Measure(t, p, child, child)
		events, ns := m.Counter("calls held up"), m.Counter("spent")
		if events < n || ns < events*uint64(perCall.Nanoseconds()) {
			t.Errorf("%d calls held up for %d ns, want %d or more of %s or more", events, ns, n, perCall)
		}
		m = bpftest.Measure(t, p, child, other)
		if got := m.Counter("calls held up"); got >= n {
			t.Errorf("another cgroup's %d calls were held up", got)
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	for _, d := range []time.Duration{-1, SpinMax + 1} {
		if _, err := Open(probe.Options{}, d); err == nil {
			t.Errorf("%s was accepted", d)
		}
	}
}
