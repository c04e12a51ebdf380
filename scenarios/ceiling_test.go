package scenarios

import (
	"strings"
	"testing"

	"github.com/nexuscore-labs/nexus/loadgen/ceiling"
)

// calibrated says that the generator does perS requests a CPU second, at any depth.
func calibrated(s *Scenario, perS float64) *ceiling.Table {
	w := s.Points[0].Workload
	return &ceiling.Table{Ceilings: []ceiling.Ceiling{
		{Point: ceiling.Point{Network: w.Transport, Codec: w.Codec, Depth: ceiling.DepthOne}, PerCPUSecond: perS, Runs: 1},
	}}
}

// A rate beyond 70% of the generator's calibrated ceiling is doubted, one at
// the ceiling voids the trial, and a run without a calibration says so.
func TestCalibratedCeiling(t *testing.T) {
	for name, c := range map[string]struct {
		ceilingPerS    float64 // 0: not calibrated
		doubt, invalid bool
	}{
		"far below":      {4000, false, false},
		"above 70%":      {1300, true, false},
		"at the ceiling": {900, false, true},
		"not calibrated": {0, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := gatedScenario()
			s.Points[0].Arrival, s.Points[0].RatePerS = "constant", 1000
			options := Options{Scenario: s, CPUs: oneEach(t)}
			if c.ceilingPerS > 0 {
				options.Ceilings = calibrated(s, c.ceilingPerS)
			}
			result, err := runTest(t, options)
			if err != nil {
				t.Fatal(err)
			}
			for _, trial := range result.Trials {
				if doubted := strings.Contains(strings.Join(trial.Warnings, "\n"), "calibrated ceiling"); doubted != c.doubt {
					t.Errorf("warnings %q", trial.Warnings)
				}
				if void := strings.Contains(trial.Reason, "calibrated ceiling"); void != c.invalid || void && (trial.Status != trialInvalid || !trial.Generator.Saturated) {
					t.Errorf("%s: %q", trial.Status, trial.Reason)
				}
			}
			if c.invalid && ExitCode(result, nil) != ExitInvalid {
				t.Errorf("exit code %d, want %d", ExitCode(result, nil), ExitInvalid)
			}
			if said := contains(result.NotMeasured, noCeiling); said != (c.ceilingPerS == 0) {
				t.Errorf("not measured: %q", result.NotMeasured)
			}
		})
	}
}
