package scenarios

import "github.com/nexuscore-labs/nexus/loadgen"

// noCeiling is what a run says that knows no calibration.
const noCeiling = "the generator's ceiling (nexus calibrate)"

// judgeCeiling holds the trial's rate against the generator's calibrated
// ceiling: the target of an open loop, what a closed one reached. Runs of
// datagrams that the kernel splits have no calibrated ceiling.
func (t *trialRun) judgeCeiling(load *loadgen.Result) {
	p := t.slot.point
	if t.ceilings == nil || load.ElapsedNs == 0 {
		return
	}
	ratePerS := p.RatePerS
	if p.Arrival == "closed" {
		ratePerS = float64(load.Answered) / (float64(load.ElapsedNs) / 1e9)
	}
	doubt, invalid := t.ceilings.Judge(t.workload().Transport, t.workload().Codec, ratePerS, len(t.generatorCPUs()))
	if doubt != "" {
		t.trial.Warnings = append(t.trial.Warnings, doubt)
	}
	if invalid != "" {
		t.trial.Generator.Saturated = true
		t.invalid(invalid)
	}
}
