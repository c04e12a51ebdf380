package scenarios

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nexuscore-labs/nexus/reports"
	unit "github.com/nexuscore-labs/nexus/reports/quantity"
)

// Pilot trials: what a point's load is a share of is measured by the median of so
// many, out of at most so many.
const (
	pilotsWanted = 3
	pilotsMax    = 12
)

// capacityRecord is what the pilot trials of one contender at one point found, in
// the run's folder so that a resumed run goes on with the same rates.
type capacityRecord struct {
	Contender  string    `json:"contender"`
	Point      string    `json:"point"`
	PerS       float64   `json:"per_s"` // the median
	TrialsPerS []float64 `json:"trials_per_s"`
	MeasuredAt time.Time `json:"measured_at"`
}

// settleLoads gives every point that asks for a load its rate. Points that share a
// contender and a point share the measurement.
func (r *runner) settleLoads(ctx context.Context) error {
	s := r.options.Scenario
	for i := range s.Points {
		p := &s.Points[i]
		if p.Load == nil {
			continue
		}
		capacity, err := r.capacity(ctx, p.Load)
		if err != nil {
			return err
		}
		p.RatePerS = roundToStep(capacity.PerS * p.Load.Share)
		r.emit(Event{Kind: EventNote, Contender: p.Load.Contender, Point: p.ID, Message: p.Load.describe(p, capacity.PerS)})
		r.loads = append(r.loads, loadMetrics(p, capacity)...)
	}
	return nil
}

func (l *LoadShare) describe(p *Point, capacityPerS float64) string {
	perS := unit.Of("per_s")
	return fmt.Sprintf("%s: %s, the step next to %.0f%% of what %s bears at %s (%s)", p.ID, perS.Format(p.RatePerS), 100*l.Share, l.Contender, l.Point, perS.Format(capacityPerS))
}

func loadMetrics(p *Point, c capacityRecord) []reports.Metric {
	return []reports.Metric{{
		Name: "offered_per_s_" + p.ID, Value: p.RatePerS, Unit: "per_s", Source: "pilot trials",
		Doc: p.Load.describe(p, c.PerS),
	}}
}

// capacity measures what a contender bears, or reads what this run has measured.
func (r *runner) capacity(ctx context.Context, load *LoadShare) (capacityRecord, error) {
	name := filepath.Join(dirTrials, "capacity-"+load.Contender+"-"+strings.ReplaceAll(load.Point, "/", "-")+".json")
	for i := range r.capacities {
		if c := r.capacities[i]; c.Contender == load.Contender && c.Point == load.Point {
			return c, nil
		}
	}
	var c capacityRecord
	if !r.folder.readJSON(name, &c) || c.PerS <= 0 {
		var err error
		if c, err = r.pilot(ctx, load); err != nil {
			return c, err
		}
		if err := r.folder.writeJSON(name, c); err != nil {
			return c, err
		}
	}
	r.capacities = append(r.capacities, c)
	return c, nil
}

// pilot runs the trials that a load is a share of. They are no part of the
// comparison, and what they measure decides only how hard all are driven.
func (r *runner) pilot(ctx context.Context, load *LoadShare) (capacityRecord, error) {
	c := capacityRecord{Contender: load.Contender, Point: load.Point, MeasuredAt: time.Now()}
	point := r.options.Scenario.point(load.Point)
	why, code := "", ExitInvalid
	for i := 0; i < pilotsMax && len(c.TrialsPerS) < pilotsWanted; i++ {
		s := slot{contender: load.Contender, point: point, round: i, seed: trialSeed(r.options.Scenario.Seed, "capacity", i), index: -1}
		s.warmup = r.options.Scenario.warmup(load.Contender, point)
		trial, err := r.bench.attempt(ctx, s, r.order)
		if err != nil {
			return c, err
		}
		r.order++
		if trial.Status != trialOK {
			why = ": " + trial.Reason
			if trial.Status == trialFailed {
				code = ExitContender
				break
			}
			continue
		}
		c.TrialsPerS = append(c.TrialsPerS, trial.ThroughputPerS)
	}
	if len(c.TrialsPerS) < pilotsWanted {
		hint := ""
		if code == ExitInvalid {
			hint = "end what else runs on this machine, or let it disturb: --set validity.other_load_max=1 (the result says so)"
		}
		return c, &Error{Code: code, Hint: hint, Err: fmt.Errorf("measure what %s bears at %s: %d pilot trials of %d%s", load.Contender, load.Point, len(c.TrialsPerS), pilotsWanted, why)}
	}
	sorted := slices.Sorted(slices.Values(c.TrialsPerS))
	c.PerS = sorted[len(sorted)/2]
	return c, nil
}

// steps are the Renard series R10, ISO 3: ten steps of 26% a decade.
var steps = [...]float64{1, 1.25, 1.6, 2, 2.5, 3.15, 4, 5, 6.3, 8, 10}

// roundToStep rounds x > 0 to the nearest step in ratio. What is measured anew in
// each run scatters by some percent; on a step most runs of one machine offer the
// same rate, and their latencies can be compared.
func roundToStep(x float64) float64 {
	decade := math.Pow(10, math.Floor(math.Log10(x)))
	best := steps[0]
	for _, step := range steps {
		if math.Abs(math.Log(x/decade/step)) < math.Abs(math.Log(x/decade/best)) {
			best = step
		}
	}
	return best * decade
}
