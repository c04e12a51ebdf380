package scenarios

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/nexuscore-labs/nexus/reports"
)

// Resources that were not read over the measured part are absent, never small.
func TestResourcesOfAnotherWindowAreAbsent(t *testing.T) {
	for _, c := range []struct {
		covered time.Duration
		absent  bool
	}{{100 * time.Millisecond, false}, {104 * time.Millisecond, false}, {106 * time.Millisecond, true}, {90 * time.Millisecond, true}, {0, true}} {
		trial := reports.Trial{Resources: reports.Resources{UserNs: 5e6, StealNs: 1}, Counts: reports.Counts{Completed: 10}, ThroughputPerS: 100, ElapsedNs: 1e8}
		trial.Kernel = []reports.KernelHistogram{{Probe: "syscall", Count: 3}}
		run := &trialRun{bench: &bench{}, trial: &trial, slot: slot{contender: "honest", point: &Point{ID: "peak", Duration: 100 * time.Millisecond}}}
		w := &watch{t: run}
		w.judgeWindow(c.covered, c.covered)
		perOp := trialMetric(&trial, "cpu_ns_per_op")
		if math.IsNaN(perOp) != c.absent || len(trial.Kernel) != 1 || trial.Resources.StealNs != 1 {
			t.Errorf("read over %v: %g ns per operation, %d histograms", c.covered, perOp, len(trial.Kernel))
		}
		if said := strings.Join(run.unseen, "\n"); strings.Contains(said, "resources of some trials") != c.absent || strings.Contains(said, "whole counts") != c.absent {
			t.Errorf("read over %v: not measured: %q", c.covered, said)
		}
	}
}
