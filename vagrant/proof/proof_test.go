package proof

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every compiled BPF program of the tree is found, and its rung is known from
// its section.
func TestPackages(t *testing.T) {
	tree, err := FindTree(".")
	if err != nil {
		t.Fatal(err)
	}
	packages, err := Packages(tree)
	if err != nil {
		t.Fatal(err)
	}
	sources, err := filepath.Glob(filepath.Join(tree, "bpf", "*", "*.bpf.c"))
	if err != nil || len(sources) == 0 {
		t.Fatalf("%d sources: %v", len(sources), err)
	}
	found := map[string]bool{}
	for _, p := range packages {
		found[p.Name] = true
		for _, program := range p.Programs {
			if program.Rung() == "" || strings.Contains(program.Rung(), "/") {
				t.Errorf("%s %s: section %q has no rung", p.Name, program.Name, program.Section)
			}
		}
	}
	for _, source := range sources {
		if name := filepath.Base(filepath.Dir(source)); !found[name] {
			t.Errorf("%s has a BPF source and no compiled object was found", name)
		}
	}
	if _, err := FindTree(t.TempDir()); err == nil {
		t.Error("a tree was found where none is")
	}
}

var probePackage = Package{Name: "probe", Programs: []Program{
	{"good_tp", "tp_btf/x"}, {"bad_tp", "raw_tp/x"}, {"fast", "fentry/x"}, {"forgotten", "kprobe/x"}, {"optional", "tp_btf/old"}, {"spare", "tp_btf/older"}}}

const probeOutput = `=== RUN   TestCounts
=== RUN   TestCounts/tp_btf
=== ATTR  TestCounts/tp_btf bpf-program {"name":"good_tp","target":"x","rung":"tp_btf","verified_instructions":100,"stack_bytes":32}
=== ATTR  TestCounts/tp_btf bpf-absent attach optional: tracepoint old is not in this kernel
=== RUN   TestCounts/raw_tracepoint
=== ATTR  TestCounts/raw_tracepoint bpf-program {"name":"bad_tp","target":"x","rung":"raw_tracepoint","verified_instructions":9,"stack_bytes":0}
    probe_test.go:9: counted 3, want 4
=== RUN   TestCounts/fentry
    measure.go:9: this kernel refuses the rung: no rung of the attach ladder works here
        fentry: load: operation not permitted
--- FAIL: TestCounts (0.10s)
    --- PASS: TestCounts/tp_btf (0.10s)
    --- FAIL: TestCounts/raw_tracepoint (0.10s)
    --- SKIP: TestCounts/fentry (0.00s)
FAIL
`

func TestJudge(t *testing.T) {
	rows, tests, err := Judge(probePackage, probeOutput, 1)
	if err != nil {
		t.Fatal(err)
	}
	want := []Row{
		{Program: "good_tp", Status: Passed, Instructions: 100, StackBytes: 32}, {Program: "bad_tp", Status: Failed, Instructions: 9},
		{Program: "fast", Status: Refused}, {Program: "forgotten", Status: NotTried}, {Program: "optional", Status: Refused}, {Program: "spare", Status: Unneeded}}
	for i, w := range want {
		if r := rows[i]; r.Program != w.Program || r.Status != w.Status || r.Instructions != w.Instructions || r.StackBytes != w.StackBytes {
			t.Errorf("row %+v, want %+v", r, w)
		}
	}
	if !strings.HasSuffix(rows[2].Reason, "operation not permitted") {
		t.Errorf("reason %q", rows[2].Reason)
	}
	if tests.Passed != 1 || len(tests.Failures) != 2 || len(tests.Skipped) != 1 || !strings.Contains(strings.Join(tests.Failures, " "), "counted 3, want 4") {
		t.Errorf("tests %+v", tests)
	}
	if _, _, err := Judge(probePackage, "panic: no", 2); err == nil || !strings.Contains(err.Error(), "panic: no") {
		t.Errorf("output without a test: %v", err)
	}
	_, tests, err = Judge(probePackage, "=== RUN   T\n--- PASS: T (0.00s)\npanic: later", 2)
	if err != nil || len(tests.Failures) == 0 {
		t.Errorf("a crash behind the last test is no failure: %+v, %v", tests, err)
	}
}

func row(program string, status Status, instructions, stack uint32) Row {
	return Row{Package: "p", Program: program, Status: status, Instructions: instructions, StackBytes: stack}
}

func TestComplaints(t *testing.T) {
	old := Record{Kernels: []Kernel{
		{Name: "6.1", Release: "6.1.0-9", Rows: []Row{row("a", Passed, 1000, 100)}, Kinds: []Kind{{Name: "xdp", OK: true}}},
		{Name: HostName, Release: "6.18.1", Rows: []Row{row("a", Passed, 1000, 100)}}}}
	for name, test := range map[string]struct {
		now  Kernel
		want string // empty: no complaint
	}{
		"the same":           {Kernel{Name: "6.1", Rows: []Row{row("a", Passed, 1000, 100)}, Kinds: []Kind{{Name: "xdp", OK: true}}}, ""},
		"a little more":      {Kernel{Name: "6.1", Rows: []Row{row("a", Passed, 1250, 164)}, Kinds: []Kind{{Name: "xdp", OK: true}}}, ""},
		"too many":           {Kernel{Name: "6.1", Rows: []Row{row("a", Passed, 1400, 100)}, Kinds: []Kind{{Name: "xdp", OK: true}}}, "1400 instructions"},
		"too deep":           {Kernel{Name: "6.1", Rows: []Row{row("a", Passed, 1000, 300)}, Kinds: []Kind{{Name: "xdp", OK: true}}}, "300 bytes of stack"},
		"refused now":        {Kernel{Name: "6.1", Rows: []Row{row("a", Refused, 0, 0)}, Kinds: []Kind{{Name: "xdp", OK: true}}}, "passed before"},
		"a kind lost":        {Kernel{Name: "6.1", Rows: []Row{row("a", Passed, 1000, 100)}, Kinds: []Kind{{Name: "xdp"}}}, `"xdp"`},
		"not tried":          {Kernel{Name: "6.1", Rows: []Row{row("a", Passed, 1000, 100), row("b", NotTried, 0, 0)}, Kinds: []Kind{{Name: "xdp", OK: true}}}, "not tried"},
		"accepted nowhere":   {Kernel{Name: "6.1", Rows: []Row{row("a", Passed, 1000, 100), row("b", Refused, 0, 0)}, Kinds: []Kind{{Name: "xdp", OK: true}}}, "no kernel accepts"},
		"the host, changed":  {Kernel{Name: HostName, Release: "6.18.9", Rows: []Row{row("a", Refused, 0, 0)}}, "passed before"},
		"another host":       {Kernel{Name: HostName, Release: "6.17.9", Rows: []Row{row("a", Refused, 0, 0)}}, ""},
		"a failure of tests": {Kernel{Name: "6.1", Rows: []Row{row("a", Passed, 1000, 100)}, Kinds: []Kind{{Name: "xdp", OK: true}}, Tests: []Tests{{Package: "p", Failures: []string{"TestX: wrong"}}}}, "TestX"},
	} {
		got := strings.Join(Complaints(old, []Kernel{test.now}), "\n")
		if test.want == "" && got != "" || !strings.Contains(got, test.want) {
			t.Errorf("%s: complaints %q, want %q", name, got, test.want)
		}
	}
	if missing := Unrecorded(old, []Kernel{{Name: "6.1", Rows: []Row{row("a", Passed, 1, 1), row("new", Passed, 1, 1)}}, {Name: "9.9"}}); len(missing) != 2 {
		t.Errorf("unrecorded: %q", missing)
	}
}

func TestRecordAndTable(t *testing.T) {
	dir := t.TempDir()
	file, document := filepath.Join(dir, "proven.json"), filepath.Join(dir, "KERNELS.md")
	empty, err := ReadRecord(file)
	if err != nil || len(empty.Kernels) != 0 {
		t.Fatalf("%v, %v", empty, err)
	}
	record := empty.With([]Kernel{{Name: "6.1", Release: "6.1.0-9", Rows: []Row{row("a", Passed, 10, 8)}, Kinds: []Kind{{Name: "lsm", OK: true}}},
		{Name: HostName, Release: "6.18.1-x", Rows: []Row{{Package: "p", Program: "a", Status: Refused, Reason: "fentry: load: operation not permitted"}}}})
	if err := record.Write(file); err != nil {
		t.Fatal(err)
	}
	again, err := ReadRecord(file)
	if err != nil || len(again.Kernels) != 2 || again.Markdown() != record.Markdown() {
		t.Errorf("the record changed: %v", err)
	}
	if err := os.WriteFile(document, []byte("# Kernels\n\n"+tableBegin+"\nold\n"+tableEnd+"\nrest\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := WriteTable(document, record); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"# Kernels", "rest", "6.18 (host)", "✓ 10 / 8", "refused: operation not permitted", "| lsm | ✓ | not measured |"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if strings.Contains(string(text), "old") {
		t.Error("the old table is still there")
	}
	if err := WriteTable(file, record); err == nil {
		t.Error("a document without a place for the table was written")
	}
}
