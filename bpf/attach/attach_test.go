package attach

import (
	"errors"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// The ladder is climbed with programs of a few instructions: what is tested is
// which rung is taken, what is said about the others, and that nothing stays.

func program(kind ebpf.ProgramType, attach ebpf.AttachType, to string) *ebpf.ProgramSpec {
	return &ebpf.ProgramSpec{Name: "nexus_test", Type: kind, AttachType: attach, AttachTo: to, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}}
}

func collection() *ebpf.CollectionSpec {
	return &ebpf.CollectionSpec{Programs: map[string]*ebpf.ProgramSpec{
		"absent_btf": program(ebpf.Tracing, ebpf.AttachTraceRawTp, "nexus_no_such_tracepoint"),
		"absent_raw": program(ebpf.RawTracepoint, ebpf.AttachNone, "nexus_no_such_tracepoint"),
		"raw":        program(ebpf.RawTracepoint, ebpf.AttachNone, "task_rename"),
		"btf":        program(ebpf.Tracing, ebpf.AttachTraceRawTp, "task_rename"),
		"xdp":        program(ebpf.XDP, ebpf.AttachNone, ""),
	}}
}

func needRoot(t *testing.T) {
	t.Helper()
	if unix.Geteuid() != 0 {
		t.Skip("BPF tracing programs need root")
	}
}

func climb(t *testing.T, only Rung, candidates ...Candidate) (*Attached, error) {
	t.Helper()
	needRoot(t)
	a, err := Climb(collection(), candidates, Options{Only: only})
	if err == nil {
		t.Cleanup(func() {
			if err := a.Close(); err != nil {
				t.Error(err)
			}
			if err := a.Close(); err != nil {
				t.Errorf("close again: %v", err)
			}
		})
	}
	return a, err
}

func TestTakesTheFirstThatWorks(t *testing.T) {
	a, err := climb(t, "",
		Candidate{Rung: Fentry, Programs: []string{"btf", "absent_btf"}},
		Candidate{Rung: RawTracepoint, Programs: []string{"raw"}},
		Candidate{Rung: TpBTF, Programs: []string{"btf"}})
	if err != nil {
		t.Fatal(err)
	}
	if a.Rung != RawTracepoint || len(a.Programs) != 1 || a.Programs[0].Target != "task_rename" || a.Programs[0].Rung != RawTracepoint {
		t.Errorf("attached %s: %+v", a.Rung, a.Programs)
	}
	if misses, err := a.RecursionMisses(); err != nil || misses != 0 {
		t.Errorf("%d recursion misses, %v", misses, err)
	}
}

func TestForcedRung(t *testing.T) {
	both := []Candidate{{Rung: TpBTF, Programs: []string{"btf"}}, {Rung: RawTracepoint, Programs: []string{"raw"}}}
	for _, only := range []Rung{TpBTF, RawTracepoint} {
		a, err := climb(t, only, both...)
		if err != nil {
			t.Fatal(err)
		}
		if a.Rung != only {
			t.Errorf("attached by %s, asked for %s", a.Rung, only)
		}
	}
	if _, err := climb(t, Kprobe, both...); !errors.Is(err, ErrNoRung) || !strings.Contains(err.Error(), `"kprobe"`) {
		t.Errorf("a rung that is not there: %v", err)
	}
}

func TestNamesEveryReason(t *testing.T) {
	_, err := climb(t, "",
		Candidate{Rung: TpBTF, Programs: []string{"absent_btf"}},
		Candidate{Rung: RawTracepoint, Programs: []string{"absent_raw"}},
		Candidate{Rung: PerfEvent, Programs: []string{"xdp"}},
		Candidate{Rung: Kprobe, Programs: []string{"no such program"}})
	if !errors.Is(err, ErrNoRung) || !errors.Is(err, unix.ENOENT) {
		t.Fatalf("got %v", err)
	}
	for _, part := range []string{"tp_btf: ", "raw_tracepoint: ", "perf_event: ", "kprobe: ", "no such program"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in: %v", part, err)
		}
	}
}

func TestOptionalPrograms(t *testing.T) {
	a, err := climb(t, "", Candidate{Rung: TpBTF, Programs: []string{"btf"}, Optional: []string{"absent_btf", "absent_raw", "raw"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Programs) != 2 || len(a.Absent) != 2 {
		t.Errorf("attached %+v, absent %q", a.Programs, a.Absent)
	}
	for _, absent := range a.Absent {
		if !strings.Contains(absent, "absent_") {
			t.Errorf("absent without its name: %s", absent)
		}
	}
}

func TestAdjust(t *testing.T) {
	original := collection()
	needRoot(t)
	a, err := Climb(original, []Candidate{{Rung: RawTracepoint, Programs: []string{"absent_raw"},
		Adjust: func(spec *ebpf.CollectionSpec) { spec.Programs["absent_raw"].AttachTo = "task_rename" }}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if to := original.Programs["absent_raw"].AttachTo; to != "nexus_no_such_tracepoint" {
		t.Errorf("the caller's spec was changed: %s", to)
	}
}
