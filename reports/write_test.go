package reports

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

// golden compares with testdata/name, or rewrites it with -update.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (run the test with -update)", err)
	}
	if string(want) != string(got) {
		t.Errorf("%s differs from what was written; look at the change and run with -update:\n%s", path, firstDifference(string(want), string(got)))
	}
}

func firstDifference(want, got string) string {
	i := 0
	for i < len(want) && i < len(got) && want[i] == got[i] {
		i++
	}
	around := func(s string) string { return s[max(0, i-80):min(len(s), i+120)] }
	return "want ..." + around(want) + "...\ngot  ..." + around(got) + "..."
}

func TestWriteAll(t *testing.T) {
	dir := t.TempDir()
	if keep := os.Getenv("NEXUS_REPORT_DIR"); keep != "" {
		dir = keep // to look at the pages
	}
	r := fixture(t, 1, 1)
	if err := WriteAll(dir, r); err != nil {
		t.Fatal(err)
	}
	if len(r.Artifacts) < 20 {
		t.Errorf("only %d artifacts: %v", len(r.Artifacts), r.Artifacts)
	}
	for kind, path := range r.Artifacts {
		if info, err := os.Stat(filepath.Join(dir, path)); err != nil || info.Size() == 0 {
			t.Errorf("artifact %s: %v", kind, err)
		}
	}
	for _, name := range []string{"report.html", "report.md", "bench.txt"} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name, got)
	}
	if _, err := Load(filepath.Join(dir, "result.json")); err != nil {
		t.Errorf("what was written can't be read: %v", err)
	}
}
