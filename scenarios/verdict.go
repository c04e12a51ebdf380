package scenarios

import (
	"fmt"

	"github.com/nexuscore-labs/nexus/reports"
)

// Shares that make a run invalid.
const (
	validShareMin = 0.8  // of the planned trials of a cell that a gate needs
	lostShareMax  = 0.25 // of all planned trials
)

// verdict decides on the whole run and says why, worst first: wrong answers
// and dead contenders, a measurement that can't be trusted, failed gates, gates
// that are not settled.
func (e *evidence) verdict(result *reports.Result, unfinished string) (reports.Verdict, []string) {
	if reasons := e.wrongReasons(result); len(reasons) > 0 {
		return reports.VerdictFail, append(reasons, gateReasons(result, statusFail, statusNotMeasured)...)
	}
	if unfinished != "" {
		return reports.VerdictInvalid, []string{unfinished}
	}
	if reasons := append(e.invalidReasons(), e.coverageReasons()...); len(reasons) > 0 {
		return reports.VerdictInvalid, reasons
	}
	if reasons := gateReasons(result, statusFail, statusNotMeasured); len(reasons) > 0 {
		return reports.VerdictFail, reasons
	}
	if len(result.Gates) == 0 {
		return reports.VerdictInconclusive, []string{"the scenario has no gate in this mode: nothing was decided"}
	}
	if reasons := gateReasons(result, statusInconclusive); len(reasons) > 0 {
		return reports.VerdictInconclusive, reasons
	}
	return reports.VerdictPass, []string{}
}

// reasonsMax bounds the reasons of one kind; the trials have them all.
const reasonsMax = 5

func (e *evidence) wrongReasons(result *reports.Result) []string {
	var out []string
	failed := 0
	for i := range result.Trials {
		t := &result.Trials[i]
		if t.Status != trialFailed {
			continue
		}
		failed++
		if failed <= reasonsMax {
			out = append(out, fmt.Sprintf("%s failed at %s: %s", t.Contender, t.Point, t.Reason))
		}
	}
	if failed > reasonsMax {
		out = append(out, fmt.Sprintf("%d more trials failed", failed-reasonsMax))
	}
	if o := &result.Oracle; o.Wrong+o.Lost+o.Phantom > 0 {
		out = append(out, fmt.Sprintf("the oracle found %d wrong, %d lost and %d phantom records of %d", o.Wrong, o.Lost, o.Phantom, o.Checked))
	}
	return out
}

// invalidReasons names the cells that gates need and that have too few valid
// trials, and a run that lost too many altogether.
func (e *evidence) invalidReasons() []string {
	var out []string
	for _, c := range e.board.cells {
		if e.gated(c) && float64(len(c.byRound)) < validShareMin*float64(c.planned) {
			out = append(out, fmt.Sprintf("%s at %s: %d of %d trials are valid: %s", c.contender, c.point, len(c.byRound), c.planned, c.lastReason()))
		}
	}
	if b := e.board; b.slots > 0 && float64(b.lost) > lostShareMax*float64(b.slots) {
		out = append(out, fmt.Sprintf("%d of %d trials stayed invalid", b.lost, b.slots))
	}
	return out
}

// gated reports whether a gate rests on the cell.
func (e *evidence) gated(c *cell) bool {
	for i := range e.scenario.Thresholds {
		t := &e.scenario.Thresholds[i]
		if t.Class != ClassGate || t.Point != c.point {
			continue
		}
		if t.Subject == c.contender || t.Against == c.contender || t.Against == peersWord && contains(e.peers, c.contender) {
			return true
		}
	}
	return false
}

func gateReasons(result *reports.Result, statuses ...string) []string {
	var out []string
	for i := range result.Gates {
		g := &result.Gates[i]
		if contains(statuses, g.Status) {
			out = append(out, fmt.Sprintf("gate %s: %s: %s", g.ID, g.Status, g.Why))
		}
	}
	return out
}

// judgeAll judges every threshold and fills the result's verdict.
func (e *evidence) judgeAll(result *reports.Result, unfinished string) {
	result.Gates, result.LessonThresholds = []reports.ThresholdResult{}, []reports.ThresholdResult{}
	for i := range e.scenario.Thresholds {
		t := &e.scenario.Thresholds[i]
		judged := e.judge(t)
		if t.Class == ClassGate {
			result.Gates = append(result.Gates, judged)
		} else {
			result.LessonThresholds = append(result.LessonThresholds, judged)
		}
	}
	result.Verdict, result.Reasons = e.verdict(result, unfinished)
}
