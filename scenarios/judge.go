package scenarios

import (
	"fmt"
	"math"
	"strings"

	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/reports/stats"
)

// pairsMin is how many trials or pairs a threshold needs; with fewer the
// interval says too little.
const pairsMin = 5

// States of a threshold; those of a lesson have words of their own.
const (
	statusPass         = "pass"
	statusFail         = "fail"
	statusInconclusive = "inconclusive"
	statusNotMeasured  = "not_measured"
	statusHeld         = "held"
	statusNotHeld      = "not_held"
)

// evidence is all that thresholds are judged on.
type evidence struct {
	scenario *Scenario
	board    *board
	metrics  []reports.Metric
	oracle   reports.OracleResult
	peers    []string // names of the contenders with the role peer
	gaps     []string // checks of the scenario that failed or did not run, each with the reason
}

// judge decides one threshold. It fails closed: a number that is missing, not
// finite or based on too little is not measured, and that is no pass.
func (e *evidence) judge(t *Threshold) reports.ThresholdResult {
	var out reports.ThresholdResult
	switch {
	case t.Point == "":
		out = e.judgeRun(t)
	case t.Against == peersWord:
		out = e.judgePeers(t)
	default:
		out = e.judgeTrials(t, t.Against)
	}
	out.ID, out.Doc, out.Limit, out.Compare, out.Unit = t.ID, t.Doc, t.Limit, t.Compare, t.Unit
	out.Metric, out.Point, out.Subject = t.Metric, t.Point, t.Subject
	if t.Class == ClassLesson {
		switch out.Status {
		case statusPass:
			out.Status = statusHeld
		case statusFail:
			out.Status = statusNotHeld
		}
	}
	return out
}

func notMeasured(format string, args ...any) reports.ThresholdResult {
	return reports.ThresholdResult{Status: statusNotMeasured, Why: fmt.Sprintf(format, args...)}
}

// judgeRun limits a number that is not a trial's.
func (e *evidence) judgeRun(t *Threshold) reports.ThresholdResult {
	if value, isOracle := e.oracleMetric(t.Metric); isOracle {
		if e.oracle.Checked == 0 {
			return notMeasured("the oracle looked at nothing")
		}
		if why := e.coverage(t); why != "" {
			return notMeasured("%s", why)
		}
		out := decide(t, value, nil)
		// A check that did not finish may have missed what it was to find; what
		// it did find stays found.
		if out.Status == statusPass && len(e.gaps) > 0 {
			return notMeasured("the oracle has not seen all: %s", strings.Join(e.gaps, "; "))
		}
		return out
	}
	for i := range e.metrics {
		m := &e.metrics[i]
		if m.Name != t.Metric {
			continue
		}
		if m.Unit != t.Unit {
			return notMeasured("%s was measured in %s, the threshold wants %s", m.Name, m.Unit, t.Unit)
		}
		return decide(t, m.Value, m.CI)
	}
	return notMeasured("nothing measured %s in this run", t.Metric)
}

func (e *evidence) oracleMetric(name string) (float64, bool) {
	switch name {
	case "oracle_checked":
		return float64(e.oracle.Checked), true
	case "oracle_wrong":
		return float64(e.oracle.Wrong), true
	case "oracle_lost":
		return float64(e.oracle.Lost), true
	case "oracle_phantom":
		return float64(e.oracle.Phantom), true
	}
	return 0, false
}

// noAnswers is the one gap in coverage that is not the oracle's.
const noAnswers = "no trial was answered"

// coverage says why the oracle has seen too little, "" when it has seen
// enough: of the subject's trials at the point, or of all.
func (e *evidence) coverage(t *Threshold) string {
	if t.CoverageMin == 0 {
		return ""
	}
	var checked, answered uint64
	for _, c := range e.board.cells {
		if t.Point != "" && (c.point != t.Point || c.contender != t.Subject) {
			continue
		}
		for _, trial := range c.byRound {
			checked += trial.Oracle.Checked
			answered += trial.Counts.Completed
		}
	}
	if answered == 0 {
		return noAnswers
	}
	if share := float64(checked) / float64(answered); share < t.CoverageMin {
		return fmt.Sprintf("the oracle looked at %.1f%% of the answers, at least %.1f%% are needed", 100*share, 100*t.CoverageMin)
	}
	return ""
}

// judgePeers limits the ratio to every peer that was planned at the point and
// returns the hardest one: a threshold is passed when it is passed against all.
// Where none was measured, no single one is the hardest.
func (e *evidence) judgePeers(t *Threshold) reports.ThresholdResult {
	point := e.scenario.point(t.Point)
	var hardest *reports.ThresholdResult
	var unmeasured []string
	measured := false
	for _, peer := range e.peers {
		if point == nil || !contains(point.Contenders, peer) {
			continue
		}
		r := e.judgeTrials(t, peer)
		measured = measured || r.Status != statusNotMeasured
		if !contains(unmeasured, r.Why) {
			unmeasured = append(unmeasured, r.Why)
		}
		if hardest == nil || harder(t.Compare, &r, hardest) {
			hardest = &r
		}
	}
	if hardest == nil {
		return notMeasured("no peer runs at %s", t.Point)
	}
	if !measured {
		out := notMeasured("%s", strings.Join(unmeasured, "; "))
		out.Against = peersWord
		return out
	}
	return *hardest
}

// severity orders states from harmless to worst.
var severity = map[string]int{statusPass: 0, statusInconclusive: 1, statusNotMeasured: 2, statusFail: 3}

func harder(compare string, a, b *reports.ThresholdResult) bool {
	if severity[a.Status] != severity[b.Status] {
		return severity[a.Status] > severity[b.Status]
	}
	if a.Value == nil || b.Value == nil {
		return false
	}
	if compare == "<=" {
		return *a.Value > *b.Value
	}
	return *a.Value < *b.Value
}

// judgeTrials limits a number of the trials, or its ratio to another's.
func (e *evidence) judgeTrials(t *Threshold, against string) reports.ThresholdResult {
	out := e.measure(t, against)
	out.Against = against
	return out
}

func (e *evidence) measure(t *Threshold, against string) reports.ThresholdResult {
	subject := e.board.cell(t.Subject, t.Point)
	if subject == nil || len(subject.byRound) == 0 {
		return notMeasured("%s has no valid trial at %s", t.Subject, t.Point)
	}
	if why := e.coverage(t); why != "" {
		return notMeasured("%s", why)
	}
	point := e.scenario.point(t.Point)
	if isLatency := strings.HasPrefix(t.Metric, "latency_") || strings.HasPrefix(t.Metric, "service_"); isLatency || against != "" {
		if why := subject.unbearable(point); why != "" {
			return notMeasured("%s", why)
		}
	}
	values := subject.values(t.Metric)
	if len(values) == 0 {
		return notMeasured("no trial of %s at %s gave %s", t.Subject, t.Point, t.Metric)
	}
	seed := trialSeed(e.scenario.Seed, t.ID+against, 0)
	if against == "" {
		return decideInterval(t, stats.MedianCI(list(values), seed))
	}
	other := e.board.cell(against, t.Point)
	if other == nil || len(other.byRound) == 0 {
		return notMeasured("%s has no valid trial at %s", against, t.Point)
	}
	if why := other.unbearable(point); why != "" {
		return notMeasured("%s", why)
	}
	of, to := pairs(values, other.values(t.Metric))
	if len(of) == 0 {
		return notMeasured("%s and %s have no round in common at %s", t.Subject, against, t.Point)
	}
	return decideInterval(t, stats.RatioCI(of, to, seed))
}

func decideInterval(t *Threshold, ci reports.Interval) reports.ThresholdResult {
	if !ci.Valid() {
		return notMeasured("%d trials give no interval", ci.N)
	}
	out := decide(t, ci.Center, &ci)
	if ci.N < pairsMin && out.Status == statusPass {
		out.Status = statusInconclusive
		out.Why = fmt.Sprintf("%d valid trials, at least %d are needed", ci.N, pairsMin)
	}
	return out
}

// decide compares a number with the limit. With an interval, the whole of it
// must be on the right side to pass, and on the wrong side to fail.
func decide(t *Threshold, value float64, ci *reports.Interval) reports.ThresholdResult {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return notMeasured("%s is not a finite number", t.Metric)
	}
	if ci != nil && !ci.Valid() {
		return notMeasured("the interval of %s is not valid", t.Metric)
	}
	lo, hi := value, value
	if ci != nil {
		lo, hi = ci.Lo, ci.Hi
	}
	var good, bad bool
	switch t.Compare {
	case ">=":
		good, bad = lo >= t.Limit, hi < t.Limit
	case "<=":
		good, bad = hi <= t.Limit, lo > t.Limit
	case "==":
		good, bad = lo == t.Limit && hi == t.Limit, hi < t.Limit || lo > t.Limit
	default:
		return notMeasured("comparison %q is unknown", t.Compare)
	}
	out := reports.ThresholdResult{Value: &value, CI: ci, Metric: t.Metric, Unit: t.Unit, Compare: t.Compare, Limit: t.Limit}
	switch {
	case good:
		out.Status = statusPass
	case bad:
		out.Status = statusFail
		out.Why = out.WhyNot()
	default:
		out.Status = statusInconclusive
		out.Why = out.WhyUnsettled()
	}
	return out
}
