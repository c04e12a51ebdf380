package scenarios

import (
	"math"
	"testing"

	"github.com/nexuscore-labs/nexus/reports"
)

// Stages are of all joined requests: bands weigh by their requests, what took
// nearly nothing is left out, and without a breakdown the threads' states stand in.
func TestStagesOfATrial(t *testing.T) {
	kernel := []reports.KernelHistogram{{Probe: "oncpu", Unit: "ns", Sum: 25}, {Probe: "offcpu", Unit: "ns", Sum: 75}}
	trial := &reports.Trial{Kernel: kernel, Stages: &reports.StageBreakdown{Bands: []reports.StageBand{
		{Joined: 3, Stages: []reports.Stage{{Name: "a", MeanNs: 100}, {Name: "b", MeanNs: 0}}},
		{Joined: 1, Stages: []reports.Stage{{Name: "a", MeanNs: 0}, {Name: "b", MeanNs: 100}, {Name: "c", MeanNs: 1}}},
	}}}
	got, of := stagesOf(trial)
	if of != StagesOfRequests || len(got) != 2 || got[0].Name != "a" || math.Abs(got[0].Share-300.0/401) > 1e-9 || got[1].Name != "b" {
		t.Errorf("%+v", got)
	}
	trial.Stages = &reports.StageBreakdown{Bands: []reports.StageBand{{}}} // nothing was joined
	if got, of = stagesOf(trial); of != StagesOfThreads || len(got) != 3 || got[0].Share != 0.25 {
		t.Errorf("without requests: %+v", got)
	}
	if got, _ = stagesOf(&reports.Trial{}); got != nil {
		t.Errorf("without probes: %+v", got)
	}
}
