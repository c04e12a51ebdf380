package scenarios

import (
	"math"
	"strings"
	"testing"

	"github.com/nexuscore-labs/nexus/reports"
)

// boardOf makes a board from throughputs by contender, at the point "p".
func boardOf(throughputs map[string][]float64, checkedShare float64) *board {
	b := &board{index: map[[2]string]*cell{}}
	for name, values := range throughputs {
		c := &cell{contender: name, point: "p", planned: len(values), byRound: map[int]*reports.Trial{}}
		for round, value := range values {
			c.byRound[round] = &reports.Trial{
				Contender: name, Status: trialOK, ThroughputPerS: value,
				Counts: reports.Counts{Completed: 1000}, Oracle: reports.OracleResult{Checked: uint64(1000 * checkedShare)},
			}
		}
		b.index[[2]string{name, "p"}] = c
		b.cells = append(b.cells, c)
	}
	return b
}

func TestJudge(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	steady := func(v float64) []float64 { return []float64{v, v * 1.01, v * 0.99, v * 1.005, v * 0.995} }
	cases := []struct {
		name    string
		subject []float64
		against []float64
		compare string
		limit   float64
		status  string
	}{
		{"clear pass", steady(2000), steady(90), ">=", 20, statusPass},
		{"clear fail", steady(1000), steady(90), ">=", 20, statusFail},
		{"straddle", []float64{1700, 1900, 1800, 1750, 1950}, steady(90), ">=", 20, statusInconclusive},
		{"at most passes", steady(10), steady(100), "<=", 0.2, statusPass},
		{"at most fails", steady(30), steady(100), "<=", 0.2, statusFail},
		{"no subject", nil, steady(90), ">=", 20, statusNotMeasured},
		{"no against", steady(2000), nil, ">=", 20, statusNotMeasured},
		{"all NaN", []float64{nan, nan, nan, nan, nan}, steady(90), ">=", 20, statusNotMeasured},
		{"infinite", []float64{inf, inf, inf, inf, inf}, steady(90), ">=", 20, statusNotMeasured},
		{"against is zero", steady(2000), []float64{0, 0, 0, 0, 0}, ">=", 20, statusNotMeasured},
		{"one trial", []float64{2000}, []float64{90}, ">=", 20, statusNotMeasured},
		{"too few trials to pass", []float64{2000, 2001, 2002}, []float64{90, 90, 90}, ">=", 20, statusInconclusive},
		{"too few trials still fail", []float64{10, 10, 10}, []float64{90, 90, 90}, ">=", 20, statusFail},
		{"some NaN are left out", []float64{2000, nan, 2000, 2001, 1999, 2002}, steady(90), ">=", 20, statusInconclusive},
		{"unknown comparison", steady(2000), steady(90), "=>", 20, statusNotMeasured},
	}
	for _, c := range cases {
		e := evidence{scenario: &Scenario{Seed: 7}, board: boardOf(map[string][]float64{"s": c.subject, "a": c.against}, 1)}
		threshold := Threshold{
			ID: "t", Class: ClassGate, Metric: "throughput_per_s", Point: "p", Subject: "s", Against: "a",
			Compare: c.compare, Limit: c.limit, Unit: "ratio",
		}
		gate := e.judge(&threshold)
		if gate.Status != c.status {
			t.Errorf("%s: %s (%s), want %s", c.name, gate.Status, gate.Why, c.status)
		}
		if (gate.Why == "") != (gate.Status == statusPass) {
			t.Errorf("%s: %s because %q", c.name, gate.Status, gate.Why)
		}
		if (gate.Value == nil) != (gate.Status == statusNotMeasured) {
			t.Errorf("%s: %s with value %v", c.name, gate.Status, gate.Value)
		}
		threshold.Class = ClassLesson
		want := map[string]string{statusPass: statusHeld, statusFail: statusNotHeld}[c.status]
		if want == "" {
			want = c.status
		}
		if lesson := e.judge(&threshold); lesson.Status != want {
			t.Errorf("%s as a lesson: %s, want %s", c.name, lesson.Status, want)
		}
	}
}

// Against peers the hardest counts, and a peer that was planned and not
// measured fails the threshold closed.
func TestJudgePeers(t *testing.T) {
	point := Point{ID: "p", Contenders: []string{"s", "x", "y", "full-only"}[:3]}
	e := evidence{
		scenario: &Scenario{Seed: 7, Points: []Point{point}},
		board: boardOf(map[string][]float64{
			"s": {100, 101, 99, 100, 100}, "x": {50, 50, 50, 50, 50}, "y": {200, 200, 200, 200, 200},
		}, 1),
		peers: []string{"x", "y", "full-only"},
	}
	threshold := Threshold{ID: "t", Class: ClassGate, Metric: "throughput_per_s", Point: "p", Subject: "s", Against: peersWord, Compare: ">=", Limit: 1, Unit: "ratio"}
	if r := e.judge(&threshold); r.Status != statusFail || r.Against != "y" {
		t.Errorf("%s against %s (%s), want fail against y", r.Status, r.Against, r.Why)
	}
	e.board.cell("y", "p").byRound = nil
	if r := e.judge(&threshold); r.Status != statusNotMeasured || r.Against != "y" {
		t.Errorf("a peer without trials: %s against %s", r.Status, r.Against)
	}
	e.board.cell("x", "p").byRound = nil
	if r := e.judge(&threshold); r.Status != statusNotMeasured || r.Against != peersWord || !strings.Contains(r.Why, "x has no") || !strings.Contains(r.Why, "y has no") {
		t.Errorf("no peer has trials: %s against %s because %s", r.Status, r.Against, r.Why)
	}
	e.peers = nil
	if r := e.judge(&threshold); r.Status != statusNotMeasured {
		t.Errorf("no peers: %s", r.Status)
	}
}

// Reasons have the threshold's unit, three digits, and the limit as it is shown.
func TestWhyIsForPeople(t *testing.T) {
	for _, c := range []struct {
		threshold Threshold
		value     float64
		ci        *reports.Interval
		want      string
	}{
		{Threshold{Metric: "latency_p99_ns", Compare: "<=", Limit: 1e6, Unit: "ns"}, 18_395_100, nil, "18.4 ms is not ≤ 1 ms"},
		{Threshold{Metric: "throughput_per_s", Against: "a", Compare: ">=", Limit: 20, Unit: "ratio"}, 9,
			&reports.Interval{Center: 9, Lo: 0.355697, Hi: 30.7545, N: 5, Confidence: 0.95}, "the interval [0.356× to 30.8×] holds the limit 20×"},
		{Threshold{Metric: "stages_error_share", Compare: "<=", Limit: 0.05, Unit: "ratio"}, 0.0613, nil, "6.13% is not ≤ 5%"},
		{Threshold{Metric: "oracle_lost", Compare: "==", Limit: 0, Unit: "count"}, 3, nil, "3 is not = 0"},
	} {
		if got := decide(&c.threshold, c.value, c.ci); got.Why != c.want {
			t.Errorf("%s: %q, want %q", c.threshold.Metric, got.Why, c.want)
		}
	}
}

func TestJudgeRunMetrics(t *testing.T) {
	zero := reports.OracleResult{Checked: 10}
	cases := []struct {
		name    string
		metric  string
		compare string
		limit   float64
		unit    string
		oracle  reports.OracleResult
		metrics []reports.Metric
		share   float64
		status  string
	}{
		{"nothing lost", "oracle_lost", "==", 0, "count", zero, nil, 1, statusPass},
		{"one lost", "oracle_lost", "==", 0, "count", reports.OracleResult{Checked: 10, Lost: 1}, nil, 1, statusFail},
		{"the oracle slept", "oracle_lost", "==", 0, "count", reports.OracleResult{}, nil, 1, statusNotMeasured},
		{"the oracle saw too little", "oracle_lost", "==", 0, "count", zero, nil, 0.5, statusNotMeasured},
		{"measured", "recovery", ">=", 1e9, "bytes_per_s", zero, []reports.Metric{{Name: "recovery", Value: 2e9, Unit: "bytes_per_s"}}, 1, statusPass},
		{"too slow", "recovery", ">=", 1e9, "bytes_per_s", zero, []reports.Metric{{Name: "recovery", Value: 2e8, Unit: "bytes_per_s"}}, 1, statusFail},
		{"other unit", "recovery", ">=", 1e9, "bytes_per_s", zero, []reports.Metric{{Name: "recovery", Value: 2e9, Unit: "ns"}}, 1, statusNotMeasured},
		{"missing", "recovery", ">=", 1e9, "bytes_per_s", zero, nil, 1, statusNotMeasured},
		{"NaN", "recovery", ">=", 1e9, "bytes_per_s", zero, []reports.Metric{{Name: "recovery", Value: math.NaN(), Unit: "bytes_per_s"}}, 1, statusNotMeasured},
		{"straddle", "recovery", ">=", 1e9, "bytes_per_s", zero, []reports.Metric{{Name: "recovery", Value: 1.1e9, Unit: "bytes_per_s", CI: &reports.Interval{Center: 1.1e9, Lo: 9e8, Hi: 1.2e9, N: 5}}}, 1, statusInconclusive},
		{"broken interval", "recovery", ">=", 1e9, "bytes_per_s", zero, []reports.Metric{{Name: "recovery", Value: 2e9, Unit: "bytes_per_s", CI: &reports.Interval{Center: 2e9, Lo: math.NaN(), Hi: 3e9, N: 5}}}, 1, statusNotMeasured},
	}
	for _, c := range cases {
		e := evidence{scenario: &Scenario{}, board: boardOf(map[string][]float64{"s": {1, 1}}, c.share), metrics: c.metrics, oracle: c.oracle}
		r := e.judge(&Threshold{ID: "t", Class: ClassGate, Metric: c.metric, Compare: c.compare, Limit: c.limit, Unit: c.unit, CoverageMin: 1})
		if r.Status != c.status {
			t.Errorf("%s: %s (%s), want %s", c.name, r.Status, r.Why, c.status)
		}
	}
}

// The worst news decides the verdict and the exit code.
func TestVerdict(t *testing.T) {
	gate := func(status string) reports.ThresholdResult { return reports.ThresholdResult{ID: "g", Status: status} }
	failed := reports.Trial{Contender: "s", Point: "p", Status: trialFailed, Reason: "died"}
	thin := boardOf(map[string][]float64{"s": {1, 1, 1}}, 1)
	thin.cell("s", "p").planned = 5
	whole := boardOf(map[string][]float64{"s": {1, 1, 1, 1, 1}}, 1)
	cases := []struct {
		name       string
		board      *board
		gates      []reports.ThresholdResult
		trials     []reports.Trial
		oracle     reports.OracleResult
		unfinished string
		verdict    reports.Verdict
		code       int
	}{
		{"all pass", whole, []reports.ThresholdResult{gate(statusPass)}, nil, reports.OracleResult{}, "", reports.VerdictPass, ExitPass},
		{"a gate fails", whole, []reports.ThresholdResult{gate(statusPass), gate(statusFail)}, nil, reports.OracleResult{}, "", reports.VerdictFail, ExitGate},
		{"a gate is not measured", whole, []reports.ThresholdResult{gate(statusNotMeasured)}, nil, reports.OracleResult{}, "", reports.VerdictFail, ExitGate},
		{"a gate is not settled", whole, []reports.ThresholdResult{gate(statusInconclusive)}, nil, reports.OracleResult{}, "", reports.VerdictInconclusive, ExitInvalid},
		{"no gate", whole, nil, nil, reports.OracleResult{}, "", reports.VerdictInconclusive, ExitInvalid},
		{"a contender died", whole, []reports.ThresholdResult{gate(statusPass)}, []reports.Trial{failed}, reports.OracleResult{}, "", reports.VerdictFail, ExitContender},
		{"a record is lost", whole, []reports.ThresholdResult{gate(statusPass)}, nil, reports.OracleResult{Checked: 9, Lost: 1}, "", reports.VerdictFail, ExitContender},
		{"too few valid trials", thin, []reports.ThresholdResult{gate(statusPass)}, nil, reports.OracleResult{}, "", reports.VerdictInvalid, ExitInvalid},
		{"invalid beats a failed gate", thin, []reports.ThresholdResult{gate(statusFail)}, nil, reports.OracleResult{}, "", reports.VerdictInvalid, ExitInvalid},
		{"interrupted", whole, []reports.ThresholdResult{gate(statusPass)}, nil, reports.OracleResult{}, "interrupted", reports.VerdictInvalid, ExitInvalid},
	}
	for _, c := range cases {
		s := &Scenario{Thresholds: []Threshold{{ID: "g", Class: ClassGate, Metric: "throughput_per_s", Point: "p", Subject: "s"}}}
		result := &reports.Result{Gates: c.gates, Trials: c.trials, Oracle: c.oracle}
		e := evidence{scenario: s, board: c.board}
		result.Verdict, result.Reasons = e.verdict(result, c.unfinished)
		if result.Verdict != c.verdict || ExitCode(result, nil) != c.code {
			t.Errorf("%s: %s, exit code %d (%v), want %s, %d", c.name, result.Verdict, ExitCode(result, nil), result.Reasons, c.verdict, c.code)
		}
		if (len(result.Reasons) == 0) != (result.Verdict == reports.VerdictPass) {
			t.Errorf("%s: %s with the reasons %v", c.name, result.Verdict, result.Reasons)
		}
	}
	if ExitCode(nil, nil) == ExitPass {
		t.Error("no result and no error is a pass")
	}
}
