package uringprobe

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/bpf/attach"
	"github.com/nexuscore-labs/nexus/bpf/bpftest"
	"github.com/nexuscore-labs/nexus/bpf/probe"
	"github.com/nexuscore-labs/nexus/uring"
)

// The tests submit a prime number of requests and demand exactly that number.
func TestMain(m *testing.M) {
	bpftest.Main(m, map[string]bpftest.Workload{"nop": nops, "async": asyncReads, "pending": pending})
}

var rungs = []attach.Rung{attach.TpBTF, attach.RawTracepoint}

func nops(n int) (func() error, error) {
	return requests(n, func(s *uring.SQE) { s.Nop() })
}

// asyncReads forces the requests through io-wq, whose workers are threads of
// the cgroup too.
func asyncReads(n int) (func() error, error) {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	block := make([]byte, 512)
	return requests(n, func(s *uring.SQE) { s.Read(int(f.Fd()), block, 0).With(uring.Async) })
}

// pending leaves n requests behind that never complete.
func pending(n int) (func() error, error) {
	ring, err := uring.New(uring.Options{Entries: 64})
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
			ring.SQE().Read(pipe[0], block, 0)
		}
		_, err := ring.Submit()
		return err
	}, nil
}

// requests submits one request at a time and waits for it.
func requests(n int, prepare func(*uring.SQE)) (func() error, error) {
	ring, err := uring.New(uring.Options{Entries: 8})
	if err != nil {
		return nil, err
	}
	return func() error {
		for range n {
			prepare(ring.SQE())
			if _, err := ring.SubmitAndWait(1, time.Minute); err != nil {
				return err
			}
			var failed error
			ring.ForEach(func(c *uring.CQE) { failed = uring.Err(c) })
			if failed != nil {
				return failed
			}
		}
		return nil
	}, nil
}

func TestRequests(t *testing.T) {
	tests := []struct {
		workload, op string
		n, async     uint64
	}{
		{"nop", "nop", 97, 0},
		{"async", "read", 13, 13},
	}
	bpftest.EachRung(t, Open, rungs, rungs, func(t *testing.T, p *Probe) {
		for _, test := range tests {
			t.Run(test.workload, func(t *testing.T) {
				child := bpftest.Start(t, test.workload, int(test.n))
				m := bpftest.Measure(t, p, child, child)
				if got := m.Count(test.op, "ns"); got != test.n {
					t.Errorf("timed %d requests, want %d", got, test.n)
				}
				if inFlight(p) {
					t.Error("a completed request is still in the map")
				}
				for label, want := range map[string]uint64{
					"submitted": test.n, "submitted " + test.op: test.n, "to io-wq " + test.op: test.async,
					"unfinished": 0, "further completions": 0, "completion overflows": 0, "lost": 0,
				} {
					if got := m.Counter(label); got != want {
						t.Errorf("%s: %d, want %d", label, got, want)
					}
				}
			})
		}
	})
}

// inFlight tells whether the kernel's map holds any request.
func inFlight(p *Probe) bool {
	key, value := make([]byte, 8), make([]byte, 16)
	return p.Attached().Collection.Maps["inflights"].Iterate().Next(&key, &value)
}

// What is in flight at the end is counted, and a new trial starts without it.
func TestUnfinished(t *testing.T) {
	const n = 17
	bpftest.EachRung(t, Open, rungs, rungs, func(t *testing.T, p *Probe) {
		child := bpftest.Start(t, "pending", n)
		for range 2 {
			m := bpftest.Measure(t, p, child, child)
			if got := m.Counter("unfinished"); got != n {
				t.Errorf("%d requests are unfinished, want %d", got, n)
			}
		}
		if err := p.Start(child.CgroupID); err != nil {
			t.Fatal(err)
		}
		reading, err := probe.Stop(p)
		if err != nil {
			t.Fatal(err)
		}
		if inFlight(p) {
			t.Error("a request of an earlier trial is still in the map")
		}
		for _, c := range reading.Counters {
			if c.Value != 0 {
				t.Errorf("%s is %v after no work", c.Label, c.Value)
			}
		}
	})
}

func TestOtherCgroup(t *testing.T) {
	bpftest.EachRung(t, Open, rungs, rungs, func(t *testing.T, p *Probe) {
		child, other := bpftest.Start(t, "nop", 97), bpftest.Start(t, "nop", 97)
		m := bpftest.Measure(t, p, child, other)
		if len(m.Histograms) != 0 || m.Counter("submitted") != 0 {
			t.Errorf("counted requests of another cgroup: %+v", m.Counters)
		}
	})
}

// The table agrees with the kernel's own enumeration, as far as that goes.
func TestOpNamesEqualKernel(t *testing.T) {
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		t.Skipf("this kernel has no BTF: %v", err)
	}
	var ops *btf.Enum
	if err := kernel.TypeByName("io_uring_op", &ops); err != nil {
		t.Fatal(err)
	}
	for _, v := range ops.Values {
		name := strings.ToLower(strings.TrimPrefix(v.Name, "IORING_OP_"))
		if name != "last" && int(v.Value) < len(opNames) && opNames[v.Value] != name {
			t.Errorf("opcode %d is %q in the table, %q in the kernel", v.Value, opNames[v.Value], name)
		}
	}
}

func TestOpName(t *testing.T) {
	tests := map[int]string{0: "nop", 3: "fsync", 23: "write", 27: "recv", 47: "send_zc", 57: "listen", 71: "opcode 71", -1: "opcode -1"}
	for opcode, want := range tests {
		if got := OpName(opcode); got != want {
			t.Errorf("OpName(%d) = %q, want %q", opcode, got, want)
		}
	}
}
