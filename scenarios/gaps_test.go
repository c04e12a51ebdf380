package scenarios

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nexuscore-labs/nexus/bpf"
	"github.com/nexuscore-labs/nexus/loadgen"
	"github.com/nexuscore-labs/nexus/machine"
	"github.com/nexuscore-labs/nexus/reports"
)

// Ratios and latencies of who could not bear the rate are not measured; the
// own throughput is.
func TestJudgeOverloaded(t *testing.T) {
	steady := []float64{100, 101, 99, 100, 100}
	for _, c := range []struct {
		name            string
		subject, other  int // overloaded trials of five
		metric, against string
		status          string
	}{
		{"nobody", 0, 0, "throughput_per_s", "a", statusPass},
		{"fewer than half", 2, 2, "throughput_per_s", "a", statusPass},
		{"the subject's ratio", 3, 0, "throughput_per_s", "a", statusNotMeasured},
		{"the other's ratio", 0, 3, "throughput_per_s", "a", statusNotMeasured},
		{"the subject's latency", 3, 0, "latency_p99_ns", "", statusNotMeasured},
		{"the subject's throughput", 5, 0, "throughput_per_s", "", statusPass},
	} {
		b := boardOf(map[string][]float64{"s": steady, "a": steady}, 1)
		for round := range steady {
			b.cell("s", "p").byRound[round].Overloaded = round < c.subject
			b.cell("a", "p").byRound[round].Overloaded = round < c.other
		}
		e := evidence{scenario: &Scenario{Points: []Point{{ID: "p", RatePerS: 6000}}}, board: b}
		r := e.judge(&Threshold{ID: "t", Class: ClassGate, Metric: c.metric, Point: "p", Subject: "s", Against: c.against, Compare: ">=", Limit: 0.5})
		if r.Status != c.status {
			t.Errorf("%s: %s (%s), want %s", c.name, r.Status, r.Why, c.status)
		}
		if r.Status == statusNotMeasured && !strings.Contains(r.Why, "cannot bear the offered 6000/s: overloaded in 3 of 5 trials") {
			t.Errorf("%s: because %q", c.name, r.Why)
		}
	}
}

// A check that failed or did not run leaves the oracle's thresholds open, and
// what it found still counts.
func TestFailedCheckLeavesOracleOpen(t *testing.T) {
	for _, c := range []struct {
		name   string
		check  CheckResult
		err    error
		status string
	}{
		{"sound", CheckResult{Oracle: reports.OracleResult{Checked: 5}}, nil, statusPass},
		{"failed", CheckResult{Oracle: reports.OracleResult{Checked: 5}}, errors.New("out of luck"), statusNotMeasured},
		{"failed with a find", CheckResult{Oracle: reports.OracleResult{Checked: 5, Lost: 2}}, errors.New("out of luck"), statusFail},
	} {
		lab, s := testLab(), testScenario("honest")
		lab.Checks = []Check{{Name: "crash", Run: func(context.Context, CheckEnv) (CheckResult, error) { return c.check, c.err }}}
		s.Checks = map[string]Numbers{"crash": {}}
		s.Thresholds = []Threshold{{ID: "lost", Class: ClassGate, Metric: "oracle_lost", Compare: "==", Limit: 0, Unit: "count"}}
		result, err := runTest(t, Options{Lab: lab, Scenario: s})
		if err != nil {
			t.Fatal(err)
		}
		g := result.Gates[0]
		if g.Status != c.status || result.Oracle.Lost != c.check.Oracle.Lost {
			t.Errorf("%s: %s (%s), %d lost", c.name, g.Status, g.Why, result.Oracle.Lost)
		}
		if c.status == statusNotMeasured && !strings.Contains(g.Why, "out of luck") {
			t.Errorf("%s: because %q", c.name, g.Why)
		}
	}
	r := runner{options: Options{Scenario: &Scenario{Checks: map[string]Numbers{"crash": {}}}}}
	if gaps := r.checkGaps(); len(gaps) != 1 || gaps[0] != "check crash did not run" {
		t.Errorf("a missing check: %q", gaps)
	}
}

func TestLimitByMode(t *testing.T) {
	for mode, want := range map[string]float64{ModeQuick: 100, ModeFull: 1000} {
		s, err := Load("day07/writers.yaml", mode, nil)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, threshold := range s.Thresholds {
			if threshold.ID == "crash-points-powercut" {
				found = threshold.Limit == want
			}
		}
		if !found {
			t.Errorf("%s: no crash-points-powercut with the limit %g", mode, want)
		}
	}
}

// brokenProbes can't be started, or not be read.
type brokenProbes struct{ start, stop error }

func (p brokenProbes) Start(uint64) error            { return p.start }
func (p brokenProbes) Stop() (bpf.Snapshot, error)   { return bpf.Snapshot{}, p.stop }
func (p brokenProbes) Attachments() []bpf.Attachment { return nil }

func (p brokenProbes) Pause() error                     { return nil }
func (p brokenProbes) Resume() error                    { return nil }
func (p brokenProbes) Detach() error                    { return nil }
func (p brokenProbes) Reattach() error                  { return nil }
func (p brokenProbes) Accounts() ([]bpf.Account, error) { return nil, nil }

// What fails in measuring makes trials invalid; it is not the contender's fault.
func TestMeasuringFails(t *testing.T) {
	group, err := machine.NewCgroup()
	if err != nil {
		t.Skipf("probes need cgroups: %v", err)
	}
	if err := group.Remove(); err != nil {
		t.Fatal(err)
	}
	for _, probes := range []brokenProbes{{start: errors.New("no program")}, {stop: errors.New("no map")}} {
		s := testScenario("honest")
		result, err := run(context.Background(), Options{Lab: testLab(), Scenario: s, RunsDir: t.TempDir(), Probes: probes}, limitsDefault, loadgen.Run)
		if err != nil {
			t.Fatal(err)
		}
		if code := ExitCode(result, nil); code != ExitInvalid {
			t.Errorf("exit code %d, want %d (%v)", code, ExitInvalid, result.Reasons)
		}
		for _, trial := range result.Trials {
			if trial.Status != trialInvalid || !strings.Contains(trial.Reason, errors.Join(probes.start, probes.stop).Error()) {
				t.Errorf("trial is %s because %q", trial.Status, trial.Reason)
			}
		}
	}
}

// What can't be read is said, once per gap, and without a path.
func TestUnreadableUsageIsSaid(t *testing.T) {
	var u usage
	_, err := keyedNumbers(filepath.Join(t.TempDir(), "io"))
	u.missed("bytes", err)
	if len(u.unseen) != 1 || u.unseen[0] != "bytes: no such file or directory" {
		t.Errorf("%q", u.unseen)
	}
	own, err := readUsage(os.Getpid(), nil)
	if err != nil || own.RSSMaxBytes == 0 {
		t.Errorf("own usage %+v: %v", own, err)
	}
}

// Resuming compares how the trials were measured, and not which tools are there.
func TestSameRun(t *testing.T) {
	then := runRecord{Probes: true, Cgroups: true, Environment: reports.Environment{Kernel: "6", Tools: map[string]string{"fio": "3"}}}
	now := then
	now.Environment.Tools = map[string]string{"wrk": "4"}
	if err := then.sameRun(&now); err != nil {
		t.Errorf("other tools: %v", err)
	}
	now.Probes = false
	if err := then.sameRun(&now); err == nil || !strings.Contains(err.Error(), "the kernel probes (on, now off)") {
		t.Errorf("without probes: %v", err)
	}
	now = then
	now.Cgroups = false
	if err := then.sameRun(&now); err == nil || !strings.Contains(err.Error(), "the contenders' cgroups (on, now off)") {
		t.Errorf("without cgroups: %v", err)
	}
}

// Open-loop trials of a contender that is too slow are valid, show its own pace,
// and say that it is overloaded; those of one that keeps up don't.
func TestOverloadedTrials(t *testing.T) {
	s := testScenario("honest", "slow")
	p := &s.Points[0]
	p.Arrival, p.RatePerS, p.InFlightMax, p.Timeout = "poisson", 4000, 1000, 10*time.Second
	result, err := runTest(t, Options{Scenario: s})
	if err != nil {
		t.Fatal(err)
	}
	for _, trial := range result.Trials {
		if trial.Status == trialInvalid {
			t.Logf("%s is invalid: %s", trial.Contender, trial.Reason) // by the machine, as far as this test goes
			continue
		}
		// Slow takes 2 ms for each request of a connection, and has two.
		if slow := trial.Contender == "slow"; slow && (!trial.Overloaded || trial.ThroughputPerS > 1200 || trial.ThroughputPerS == 0) {
			t.Errorf("slow: overloaded %v with %.0f/s", trial.Overloaded, trial.ThroughputPerS)
		}
	}
	for _, point := range result.Points {
		if point.Contender == "slow" && point.Overloaded != point.Trials {
			t.Errorf("%d of %d trials of slow are overloaded", point.Overloaded, point.Trials)
		}
		// A busy machine may hold up one trial of a healthy server.
		if point.Contender == "honest" && point.Trials > 2 && point.Overloaded == point.Trials {
			t.Errorf("honest is overloaded in all %d trials", point.Trials)
		}
	}
}
