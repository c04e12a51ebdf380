package bpftest

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/nexuscore-labs/nexus/bpf/attach"
	"github.com/nexuscore-labs/nexus/bpf/probe"
)

// Measured is one reading with the kernel's own accounts around it.
type Measured struct {
	probe.Reading
	// Least and Most bound what the kernel counted while the probe was on: the
	// accounts are read on both sides of starting and of stopping it.
	Least, Most Usage
}

// Measure runs one step of the worker while p counts the events of target.
func Measure(t testing.TB, p probe.Probe, target, worker *Process) Measured {
	t.Helper()
	before := target.Usage()
	if err := p.Start(target.CgroupID); err != nil {
		t.Fatal(err)
	}
	started := target.Usage()
	worker.Step()
	stopping := target.Usage()
	reading, err := probe.Stop(p)
	if err != nil {
		t.Fatal(err)
	}
	after := target.Usage()
	return Measured{Reading: reading, Least: minus(stopping, started), Most: minus(after, before)}
}

func minus(a, b Usage) Usage {
	return Usage{a.Voluntary - b.Voluntary, a.Involuntary - b.Involuntary, a.Faults - b.Faults}
}

// Counter returns a counter by its label, 0 if it is not there.
func (m *Measured) Counter(label string) uint64 {
	for _, c := range m.Counters {
		if c.Label == label {
			return uint64(c.Value)
		}
	}
	return 0
}

// Histogram returns a histogram by its label and unit, or nil.
func (m *Measured) Histogram(label, unit string) *probe.Histogram {
	for i := range m.Histograms {
		if m.Histograms[i].Label == label && m.Histograms[i].Unit == unit {
			return &m.Histograms[i]
		}
	}
	return nil
}

// Count returns the number of values of a histogram, 0 if it is not there.
func (m *Measured) Count(label, unit string) uint64 {
	if h := m.Histogram(label, unit); h != nil {
		return h.Count()
	}
	return 0
}

// RecordCollection is Record for a loader that climbs no ladder: what each
// program's section asks for is its rung.
func RecordCollection(t testing.TB, spec *ebpf.CollectionSpec, loaded *ebpf.Collection) {
	t.Helper()
	for name, program := range loaded.Programs {
		info, err := program.Info()
		if err != nil {
			t.Fatal(err)
		}
		verified, _ := info.VerifiedInstructions()
		rung, _, _ := strings.Cut(spec.Programs[name].SectionName, "/")
		Record(t, attach.Program{Name: name, Target: spec.Programs[name].AttachTo, Rung: attach.Rung(rung),
			VerifiedInstructions: verified, StackBytes: attach.StackBytes(program.VerifierLog)})
	}
}

// types is parsed once: under the race detector that takes a second.
var types = btf.NewCache()

// EachRung runs the test once per rung, each by a probe that was forced to it. A
// rung that this kernel refuses is skipped with the kernel's reason; one of must
// that is refused fails the test.
func EachRung[P probe.Probe](t *testing.T, open func(probe.Options) (P, error), rungs, must []attach.Rung,
	test func(t *testing.T, p P)) {
	for _, rung := range rungs {
		t.Run(string(rung), func(t *testing.T) {
			p, err := open(probe.Options{Rung: rung, Types: types, Verify: true})
			if err != nil {
				refused(t, err, rung, must)
				return
			}
			t.Cleanup(func() {
				if err := p.Close(); err != nil {
					t.Error(err)
				}
			})
			if got := p.Attached().Rung; got != rung {
				t.Fatalf("attached by %s, asked for %s", got, rung)
			}
			Record(t, p.Attached().Programs...)
			for _, absent := range p.Attached().Absent {
				t.Attr(AbsentAttr, strings.ReplaceAll(absent, "\n", " "))
			}
			test(t, p)
		})
	}
}

// ProgramAttr is the key under which a test says which programs it attached,
// AbsentAttr that for an optional one which the kernel refused.
const (
	ProgramAttr = "bpf-program"
	AbsentAttr  = "bpf-absent"
)

// Record says in the test's output what was attached and what the verifier
// counted, for the table of kernels.
func Record(t testing.TB, programs ...attach.Program) {
	t.Helper()
	for _, p := range programs {
		text, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		t.Attr(ProgramAttr, string(text))
	}
}

func refused(t *testing.T, err error, rung attach.Rung, must []attach.Rung) {
	t.Helper()
	if !errors.Is(err, attach.ErrNoRung) {
		t.Fatal(err)
	}
	for _, m := range must {
		if m == rung {
			t.Fatal(err)
		}
	}
	t.Skipf("this kernel refuses the rung: %v", err)
}
