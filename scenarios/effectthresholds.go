package scenarios

import (
	"math"
	"sort"
	"strings"
)

func (e *effect) thresholds(s *Scenario) []Threshold {
	var out []Threshold
	seen := map[string]bool{}
	for i := range e.file.Thresholds {
		f := &e.file.Thresholds[i]
		if seen[f.ID] {
			e.add(e.at("thresholds[%d].id", i), "", "threshold %q is given twice", f.ID)
		}
		seen[f.ID] = true
		if !e.inMode(f.Modes) {
			continue
		}
		t := Threshold{
			ID: f.ID, Doc: f.Doc, Class: f.Class, Metric: f.Metric, Point: f.Point, Subject: f.Subject,
			Against: f.Against, Compare: f.Compare, Limit: f.Limit.of(s.Mode).value, Unit: f.Unit,
		}
		if f.CoverageMin != nil {
			t.CoverageMin = *f.CoverageMin
		}
		e.checkThreshold(s, f, i)
		out = append(out, t)
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Class < out[j].Class })
	return out
}

// peersWord in a threshold's against stands for every peer of the lab.
const peersWord = "peers"

func (e *effect) checkThreshold(s *Scenario, f *fileThreshold, i int) {
	at := func(key string) place { return e.at("thresholds[%d].%s", i, key) }
	e.checkLimit(f, at("limit"))
	if f.Point == "" {
		e.checkRunThreshold(f, at)
		return
	}
	if f.Subject == "" {
		e.add(at("id"), "", "a threshold with a point needs a subject")
		return
	}
	e.measured(s, f.Subject, f.Point, at("subject"), at("point"))
	if f.Against != "" && f.Against != peersWord {
		e.measured(s, f.Against, f.Point, at("against"), at("point"))
	}
	e.checkTrialMetric(f, at)
}

func (e *effect) checkTrialMetric(f *fileThreshold, at func(string) place) {
	unit, known := TrialMetrics[f.Metric]
	if strings.HasPrefix(f.Metric, systemMetricPrefix) {
		unit, known = f.Unit, true
	}
	if !known {
		names := sortedKeys(TrialMetrics)
		e.add(at("metric"), nearest(f.Metric, names), "%q is no number of a trial: %s, or system.<counter>", f.Metric, oneOf(names))
		return
	}
	if f.Against != "" {
		unit = "ratio"
	}
	if f.Unit != unit {
		e.add(at("unit"), unit, "the unit of this threshold is %s, not %s", unit, f.Unit)
	}
}

// checkRunThreshold checks a threshold on a number measured beside the trials.
// checkLimit looks at the limits of both modes.
func (e *effect) checkLimit(f *fileThreshold, at place) {
	limits := []quantity{f.Limit.quick}
	if f.Limit.full != f.Limit.quick {
		limits = append(limits, f.Limit.full)
	}
	for _, limit := range limits {
		if limit.unit != "" && limit.unit != f.Unit {
			e.add(at, "", "the limit is in %s, the unit is %s", limit.unit, f.Unit)
		}
		if math.IsNaN(limit.value) {
			e.add(at, "", "the limit is not a number")
		}
	}
}

func (e *effect) checkRunThreshold(f *fileThreshold, at func(string) place) {
	if f.Subject != "" || f.Against != "" {
		e.add(at("metric"), "", "subject and against need a point")
	}
	if _, isTrial := TrialMetrics[f.Metric]; isTrial {
		e.add(at("metric"), "", "%q is measured in trials: name the point and the subject", f.Metric)
	}
	if unit, known := runMetrics[f.Metric]; known && f.Unit != unit {
		e.add(at("unit"), unit, "the unit of %s is %s, not %s", f.Metric, unit, f.Unit)
	}
}
