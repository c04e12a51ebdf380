package reports

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/nexuscore-labs/nexus/reports/stats"
)

// referenceSuffix marks the points of the reference build, as the runner does.
const referenceSuffix = "/build=reference"

// referenceName stands for the other build in tables.
const referenceName = "reference build"

// referenceMeasures are what two builds are compared by, see docs/MEASURING.md.
var referenceMeasures = []string{"throughput"}

// DecideReference compares this build with the reference build that ran in the
// same rounds. The pair is the unit: the ratio of its two trials, tested against
// 1 by Wilcoxon's signed ranks. Like Decide it is pure and fails closed.
func DecideReference(runs []*Result, now time.Time, opts GateOptions) (*GateReport, error) {
	opts = opts.withReferenceDefaults()
	if err := alike(runs); err != nil {
		return nil, fmt.Errorf("gate: %w", err)
	}
	r := runs[0]
	if age := now.Sub(r.StartedAt); age > opts.AgeMax {
		return nil, &StaleError{fmt.Sprintf("the run is %d days old", int(age.Hours()/24))}
	}
	g := &GateReport{Day: r.Day, Lab: r.Lab, Runs: len(runs), MinEffect: opts.MinEffect, Alpha: opts.Alpha, suspectAlpha: opts.SuspectAlpha,
		Baseline: "the reference build, in the same rounds", Paired: true}
	for _, c := range r.Contenders {
		if c.Role != RoleSubject {
			continue
		}
		for _, at := range placesOf(runs, c.Name) {
			for _, name := range referenceMeasures {
				m, _ := measureNamed(name)
				check, found, err := referenceCheck(runs, at, m, opts)
				if err != nil {
					return nil, err
				}
				if found {
					g.Checks = append(g.Checks, check)
				}
			}
		}
	}
	if len(g.Checks) == 0 {
		return nil, errors.New("gate: the run holds no trials of a reference build")
	}
	g.at, g.hostname = runs[len(runs)-1].StartedAt, runs[0].Environment.Hostname
	g.judge()
	g.Verdict = g.verdict(opts)
	return g, nil
}

// referenceCheck is false where the reference build did not run.
func referenceCheck(runs []*Result, at place, m measure, opts GateOptions) (GateCheck, bool, error) {
	ratios, planned := buildRatios(runs, at, m)
	if !planned {
		return GateCheck{}, false, nil
	}
	check := GateCheck{BaselineEntry: BaselineEntry{Subject: at.contender, Against: referenceName, Point: at.point, Metric: m.name, Higher: m.higher, Values: ratios}}
	if len(ratios) < 6 {
		return check, false, fmt.Errorf("gate: %s: %d pairs, want at least 6: what the gate guards was not measured", check.id(), len(ratios))
	}
	logs := make([]float64, len(ratios))
	for i, ratio := range ratios {
		if !(ratio > 0) || math.IsInf(ratio, 0) {
			return check, false, fmt.Errorf("gate: %s: a pair has the ratio %g", check.id(), ratio)
		}
		logs[i] = math.Log(ratio)
	}
	_, p := stats.SignedRank(logs)
	check.P, check.Ratio = &p, exponential(stats.HodgesLehmannCI(logs))
	check.After = check.Ratio
	if math.IsNaN(p) || check.Ratio == nil {
		return check, false, fmt.Errorf("gate: %s: its values allow no test", check.id())
	}
	if check.leastP = math.Exp2(1 - float64(len(ratios))); check.leastP >= opts.Alpha {
		check.blind = fmt.Sprintf("%d pairs can't show any change: p is never below %.2g", len(ratios), check.leastP)
	}
	return check, true, nil
}

// exponential turns an interval of logarithms into one of ratios.
func exponential(i Interval) *Interval {
	i.Center, i.Lo, i.Hi = math.Exp(i.Center), math.Exp(i.Lo), math.Exp(i.Hi)
	return i.Ptr()
}

// buildRatios are this build over the reference for each pair of valid trials;
// planned is false where no trial of the reference was made.
func buildRatios(runs []*Result, at place, m measure) (ratios []float64, planned bool) {
	for _, r := range runs {
		divisors := map[int]float64{}
		for i := range r.Trials {
			t := &r.Trials[i]
			if t.Contender != at.contender || t.Point != at.point+referenceSuffix {
				continue
			}
			planned = true
			if value, measured := m.read(t); t.Status == "ok" && measured && value > 0 {
				divisors[t.Round] = value
			}
		}
		for i := range r.Trials {
			t := &r.Trials[i]
			if t.Status != "ok" || t.Contender != at.contender || t.Point != at.point {
				continue
			}
			value, measured := m.read(t)
			if divisor, paired := divisors[t.Round]; paired && measured {
				ratios = append(ratios, value/divisor)
			}
		}
	}
	return ratios, planned
}
