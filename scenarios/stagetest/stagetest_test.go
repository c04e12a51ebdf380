package stagetest

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/nexuscore-labs/nexus/bpf/stages"
	"github.com/nexuscore-labs/nexus/reports"
)

// run invents what one run of the server gave: its stages add up to clientNs
// when the sleep is clientNs.
func run(sleepNs, clientNs float64, injectedNs int64) *measured {
	band := reports.StageBand{ToPercentile: 100, Requests: 100, Joined: 100, ClientMeanNs: clientNs}
	for s := range stages.StageCount {
		band.Stages = append(band.Stages, reports.Stage{Name: s.String()})
	}
	band.Stages[stages.BlockedSleep].MeanNs = sleepNs
	band.Check()
	return &measured{
		account:   Account{Requests: 100, InjectedNs: 100 * injectedNs},
		breakdown: &reports.StageBreakdown{Requests: 100, Joined: 100, Bands: []reports.StageBand{band}},
	}
}

func TestCompareJudgesStageAndSum(t *testing.T) {
	for _, c := range []struct {
		name      string
		got       *measured
		disturbed string
		want      string
	}{
		{"right", run(2.01e6, 2.01e6, 2e6), "", "pass"},
		{"the stage holds too little", run(1.8e6, 1.8e6, 2e6), "", "fail"},
		{"the stage holds too much", run(2.2e6, 2.2e6, 2e6), "", "fail"},
		{"the sum is not what the client saw", run(2e6, 2.3e6, 2e6), "", "fail"},
		{"the machine was disturbed", run(1.8e6, 1.8e6, 2e6), "steal", "disturbed"},
		{"disturbed and yet right", run(2e6, 2e6, 2e6), "steal", "pass"},
		{"nothing was injected", run(2e6, 2e6, 0), "", "fail"},
	} {
		got := compare("tcp", Sleep, stages.BlockedSleep, run(1, 1, 0), c.got, c.disturbed)
		if got.Status != c.want {
			t.Errorf("%s: %s (%s), want %s", c.name, got.Status, got.Why, c.want)
		}
	}
}

func TestOneFailureFailsTheTest(t *testing.T) {
	r := Result{Cases: []Case{{Status: "pass"}, {Status: "disturbed"}, {Status: "fail"}}}
	if r.Status() != "fail" {
		t.Error(r.Status())
	}
	if none := (&Result{}); none.Status() != "fail" {
		t.Error("a test of nothing passed")
	}
	if raw, err := json.Marshal([]Share{Share(math.NaN()), Share(math.Inf(1)), 0.5}); err != nil || string(raw) != "[null,null,0.5]" {
		t.Errorf("%s, %v", raw, err)
	}
	r.Cases = r.Cases[:2]
	if r.Status() != "disturbed" {
		t.Error(r.Status())
	}
}
