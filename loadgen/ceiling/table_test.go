package ceiling

import (
	"os"
	"strings"
	"testing"
	"time"
)

func table() *Table {
	return &Table{Key: map[string]string{"kernel": "6.18", "version": "v1"}, MeasuredAt: time.Unix(1e9, 0).UTC(), Ceilings: []Ceiling{
		{Point: Point{"tcp", "frame", DepthOne}, PerCPUSecond: 100_000, Runs: 1},
		{Point: Point{"tcp", "frame", DepthDeep}, PerCPUSecond: 1_000_000, Runs: 1},
		{Point: Point{"tcp", "resp", DepthOne}, PerCPUSecond: 50_000, Runs: 1},
	}}
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		codec          string
		rate           float64
		workers        int
		doubt, invalid bool
	}{
		{"frame", 70_000, 1, false, false},
		{"frame", 70_001, 1, true, false},
		{"frame", 140_000, 2, false, false},
		{"frame", 999_999, 1, true, false},
		{"frame", 1_000_000, 1, false, true},
		{"frame", 1_000_000, 2, true, false},
		{"resp", 50_000, 1, false, true}, // known without pipelining only
		{"http1", 1e9, 1, false, false},  // not calibrated
	} {
		doubt, invalid := table().Judge("tcp", c.codec, c.rate, c.workers)
		if (doubt != "") != c.doubt || (invalid != "") != c.invalid || strings.Contains(doubt+invalid, "\n") {
			t.Errorf("%+v: %q, %q", c, doubt, invalid)
		}
	}
}

// A ceiling that was measured beside other load may be too low: it warns and
// voids nothing.
func TestDisturbedCalibrationOnlyDoubts(t *testing.T) {
	disturbed := table()
	disturbed.Doubts = []string{"other programs used 12% of the CPUs"}
	doubt, invalid := disturbed.Judge("tcp", "frame", 1_000_000, 1)
	if invalid != "" || !strings.Contains(doubt, disturbed.Doubts[0]) {
		t.Errorf("%q, %q", doubt, invalid)
	}
}

func TestTableIsKept(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	if got, err := Load(table().Key); got != nil || err != nil {
		t.Fatalf("before the calibration: %v, %v", got, err)
	}
	name, err := table().Save()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Load(table().Key)
	if err != nil || got.PerCPUSecond()["tcp frame depth 16"] != 1_000_000 || !got.MeasuredAt.Equal(table().MeasuredAt) {
		t.Fatalf("%+v, %v", got, err)
	}
	other := map[string]string{"kernel": "6.18", "version": "v2"}
	if got, err := Load(other); got != nil || err != nil {
		t.Errorf("another binary's calibration was found: %v, %v", got, err)
	}
	for what, text := range map[string]string{
		"cut":             `{"key": {`,
		"another machine": `{"key": {"kernel": "5"}}`,
		"no figure":       `{"key": {"kernel": "6.18", "version": "v1"}, "ceilings": [{"network": "tcp", "codec": "frame", "depth": 1}]}`,
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := Load(table().Key); got != nil || err == nil {
			t.Errorf("%s: %v, %v", what, got, err)
		}
	}
}
