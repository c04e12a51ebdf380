package scenarios

import (
	"fmt"

	"github.com/nexuscore-labs/nexus/reports"
)

// What may disturb a trial at most; docs/MEASURING.md has the reasons.
const (
	// otherLoadMaxDefault and stealMaxDefault are shares of the time of a set
	// of pinned CPUs, and of one pinned CPU: what takes 5% of the time moves a
	// rate by as much as the least effect that gates judge.
	otherLoadMaxDefault = 0.05
	stealMaxDefault     = 0.05
)

// Validity is what a run must fulfil to be a measurement. Nil stands for the
// defaults, and is left out of the scenario's hash.
type Validity struct {
	// OracleCoverageMin is the share of a trial's right answers that the oracle
	// must have looked at, 0 to 1, of every trial that counts.
	OracleCoverageMin float64  `json:"oracle_coverage_min,omitempty"`
	OtherLoadMax      *float64 `json:"other_load_max,omitempty"`
	StealMax          *float64 `json:"steal_max,omitempty"`
	GeneratorBusyMax  *float64 `json:"generator_busy_max,omitempty"`
}

func (v *Validity) oracleCoverageMin() float64 {
	if v == nil {
		return 0
	}
	return v.OracleCoverageMin
}

func (v *Validity) otherLoadMax() float64 {
	if v == nil || v.OtherLoadMax == nil {
		return otherLoadMaxDefault
	}
	return *v.OtherLoadMax
}

func (v *Validity) stealMax() float64 {
	if v == nil || v.StealMax == nil {
		return stealMaxDefault
	}
	return *v.StealMax
}

// generatorBusyMax is the generator's own default, 0, when the scenario has none.
func (v *Validity) generatorBusyMax() float64 {
	if v == nil || v.GeneratorBusyMax == nil {
		return 0
	}
	return *v.GeneratorBusyMax
}

// loosened says which of the limits let more through than the defaults: a
// result must not hide that.
func (v *Validity) loosened() []string {
	var out []string
	for _, l := range []struct {
		what            string
		limit, standard float64
	}{
		{"other programs", v.otherLoadMax(), otherLoadMaxDefault},
		{"the hypervisor", v.stealMax(), stealMaxDefault},
	} {
		if l.limit > l.standard {
			out = append(out, fmt.Sprintf("the scenario lets %s take up to %.0f%% of the pinned CPUs' time, %.0f%% is the default: trials may be disturbed and count",
				l.what, 100*l.limit, 100*l.standard))
		}
	}
	if limit := v.generatorBusyMax(); limit > 1 {
		out = append(out, reports.GeneratorLimitsWarning)
	}
	return out
}

// coverageReasons names what the oracle has looked at too little: cells below
// the scenario's minimum, and gates below their own. Nobody has said that such
// numbers are of right answers.
func (e *evidence) coverageReasons() []string {
	var out []string
	if least := e.scenario.Validity.oracleCoverageMin(); least > 0 {
		for _, c := range e.board.cells {
			if why := c.uncovered(least); why != "" {
				out = append(out, why)
			}
		}
	}
	for i := range e.scenario.Thresholds {
		t := &e.scenario.Thresholds[i]
		if t.Class != ClassGate {
			continue
		}
		if why := e.coverage(t); why != "" && why != noAnswers {
			out = append(out, fmt.Sprintf("gate %s: %s", t.ID, why))
		}
	}
	return out
}

// uncovered says of how many trials the oracle looked at too few answers.
func (c *cell) uncovered(least float64) string {
	short, lowest := 0, 1.0
	for _, t := range c.byRound {
		if t.Counts.Completed == 0 {
			continue
		}
		share := float64(t.Oracle.Checked) / float64(t.Counts.Completed)
		if share < least {
			short++
			lowest = min(lowest, share)
		}
	}
	if short == 0 {
		return ""
	}
	return fmt.Sprintf("%s at %s: the oracle looked at only %.1f%% of the answers in %d of %d trials, at least %.1f%% are needed",
		c.contender, c.point, 100*lowest, short, len(c.byRound), 100*least)
}
