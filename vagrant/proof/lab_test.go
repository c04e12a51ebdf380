package proof

import (
	"strings"
	"testing"
)

// A lab counts as passed only with a whole result that says so; what the kernel
// can't run is refused, everything else a failure.
func TestJudgeLab(t *testing.T) {
	const passing = `{"verdict": "pass", "oracle": {"checked": 12, "wrong": 0}}`
	for _, c := range []struct {
		name, stdout, stderr string
		code                 int
		passed, refused      bool
		reason               string
	}{
		{"passed", passing, "", 0, true, false, ""},
		{"code contradicts", passing, "", 4, false, false, ""},
		{"failed", `{"verdict": "fail", "reasons": ["lost 1"], "oracle": {"checked": 12, "lost": 1}}`, "", 4, false, false, "lost 1"},
		{"checked nothing", `{"verdict": "pass", "oracle": {}}`, "", 0, false, false, ""},
		{"refused", "", "trial 1\nnexus: this machine lacks io_uring\n", 3, false, true, "nexus: this machine lacks io_uring"},
		{"said nothing", "", "", 0, false, false, ""},
		{"killed", passing[:20], "", -1, false, false, ""},
	} {
		run := judgeLab(Lab{Day: 7}, c.stdout, c.stderr, c.code)
		if run.passed() != c.passed || run.refused() != c.refused || run.Reason != c.reason {
			t.Errorf("%s: %+v", c.name, run)
		}
		k := Kernel{Name: "6.1", Labs: []LabRun{run}}
		if failures := Failures([]Kernel{k}); (len(failures) == 0) != (c.passed || c.refused) {
			t.Errorf("%s: failures %q", c.name, failures)
		}
	}
}

// A lab that ran on a kernel must go on running there, and the table shows it.
func TestLabsAreComparedAndShown(t *testing.T) {
	passed := LabRun{Day: 7, Verdict: "pass", Checked: 12}
	refused := LabRun{Day: 7, Code: exitEnvironment, Reason: "nexus: no io_uring"}
	old := Record{Kernels: []Kernel{{Name: "6.1", Labs: []LabRun{passed}}}}
	if c := Complaints(old, []Kernel{{Name: "6.1", Labs: []LabRun{refused}}}); len(c) != 1 || !strings.Contains(c[0], "day 7") {
		t.Errorf("complaints %q", c)
	}
	if c := Complaints(old, []Kernel{{Name: "6.1", Labs: []LabRun{passed}}}); len(c) != 0 {
		t.Errorf("complaints %q about nothing", c)
	}
	if missing := Unrecorded(old, []Kernel{{Name: "6.1", Labs: []LabRun{passed, {Day: 10, Verdict: "pass", Checked: 1}}}}); len(missing) != 1 {
		t.Errorf("not in the table: %q", missing)
	}
	table := Record{Kernels: []Kernel{{Name: "6.1", Labs: []LabRun{passed}}, {Name: "6.12", Labs: []LabRun{refused}}, {Name: "host"}}}.labTable()
	if !strings.Contains(table, "| day 7 | ✓ 12 checked | refused: no io_uring | not measured |") {
		t.Errorf("table:\n%s", table)
	}
}
