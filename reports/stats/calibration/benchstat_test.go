package calibration

import (
	"encoding/csv"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/nexuscore-labs/nexus/reports/stats"
)

// The real benchstat, on the recorded bench.txt files: its medians and p-values
// are ours.
func TestAgreesWithBenchstat(t *testing.T) {
	out, err := exec.Command("go", "tool", "benchstat", "-format", "csv", "recorded/a.txt", "recorded/b.txt").Output()
	if err != nil {
		t.Fatalf("benchstat: %v", err)
	}
	a, err := recorded("a")
	if err != nil {
		t.Fatal(err)
	}
	b, err := recorded("b")
	if err != nil {
		t.Fatal(err)
	}
	reader := csv.NewReader(strings.NewReader(string(out)))
	reader.FieldsPerRecord = -1
	rows, err := reader.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	unit, scale, medians, ps := "", 1.0, 0, 0
	for _, row := range rows {
		if len(row) > 1 && row[0] == "" && strings.ContainsAny(row[1], "/-") {
			// benchstat shows nanoseconds as seconds
			scale = 1
			if unit = strings.Replace(row[1], "sec", "ns", 1); unit != row[1] {
				scale = 1e9
			}
		}
		if len(row) < 7 || !strings.HasPrefix(row[0], "Day07/") {
			continue
		}
		before, after := a["Benchmark"+row[0]+" "+unit], b["Benchmark"+row[0]+" "+unit]
		if len(before) == 0 || len(after) == 0 {
			t.Errorf("%s %s is not in the recorded runs", row[0], unit)
			continue
		}
		median, err := strconv.ParseFloat(row[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		medians++
		if a := answer("median", "", median*scale, stats.Median(before), 1e-6); !a.OK {
			t.Errorf("%s %s: benchstat's median is %v, ours %v", row[0], unit, median, a.Ours)
		}
		_, text, found := strings.Cut(row[6], "p=")
		if !found || tied(before, after) {
			continue
		}
		want, err := strconv.ParseFloat(strings.Fields(text)[0], 64)
		if err != nil {
			t.Fatal(err)
		}
		ps++
		if _, p := stats.MannWhitney(before, after); p-want > 6e-4 || want-p > 6e-4 { // it prints three digits
			t.Errorf("%s %s: benchstat says p = %v, ours %v", row[0], unit, want, p)
		}
	}
	if medians < 30 || ps < 30 {
		t.Errorf("only %d medians and %d p-values were compared:\n%s", medians, ps, out)
	}
}
