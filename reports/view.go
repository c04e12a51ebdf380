package reports

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/nexuscore-labs/nexus/reports/chart"
	"github.com/nexuscore-labs/nexus/reports/stats"
)

// place is one contender at one sweep point.
type place struct{ contender, point string }

// sweepPoint is one point of the sweep, over all contenders.
type sweepPoint struct {
	name   string
	sweep  map[string]float64
	closed bool
}

// view is a result arranged for showing: every writer takes its numbers from
// here, so that they can't disagree.
type view struct {
	*Result
	styles  map[string]chart.Style
	trials  map[place][]*Trial // valid ones
	results map[place]*PointResult
	latency map[place]*hdrhistogram.Histogram // merged over the valid trials
	sweep   []sweepPoint
}

func newView(r *Result) (*view, error) {
	v := &view{
		Result: r, styles: styles(r.Contenders), trials: map[place][]*Trial{},
		results: map[place]*PointResult{}, latency: map[place]*hdrhistogram.Histogram{},
	}
	for i := range r.Points {
		p := &r.Points[i]
		v.results[place{p.Contender, p.Point}] = p
		v.addPoint(p.Point, p.Sweep)
	}
	for i := range r.Trials {
		t := &r.Trials[i]
		v.addPoint(t.Point, t.Sweep)
		if t.Arrival == "closed" {
			v.sweep[v.pointIndex(t.Point)].closed = true
		}
		if t.Status == "ok" {
			at := place{t.Contender, t.Point}
			v.trials[at] = append(v.trials[at], t)
		}
	}
	return v, v.mergeLatencies()
}

// styles gives each contender its role's colour and, within the role, the next
// dashes and marker.
func styles(contenders []ContenderResult) map[string]chart.Style {
	next, styles := map[string]int{}, map[string]chart.Style{}
	for _, c := range contenders {
		styles[c.Name] = chart.Style{Role: c.Role, Variant: next[c.Role]}
		next[c.Role]++
	}
	return styles
}

func (v *view) pointIndex(name string) int {
	return slices.IndexFunc(v.sweep, func(p sweepPoint) bool { return p.name == name })
}

func (v *view) addPoint(name string, sweep map[string]float64) {
	if v.pointIndex(name) < 0 {
		v.sweep = append(v.sweep, sweepPoint{name: name, sweep: sweep})
	}
}

func (v *view) mergeLatencies() error {
	for at, trials := range v.trials {
		var all []*hdrhistogram.Histogram
		for _, t := range trials {
			if t.Histograms.LatencyHDR == "" {
				continue
			}
			h, err := DecodeHistogram(t.Histograms.LatencyHDR)
			if err != nil {
				return fmt.Errorf("trial %d (%s at %s): %w", t.Order, at.contender, at.point, err)
			}
			all = append(all, h)
		}
		if len(all) == 0 {
			continue
		}
		merged, err := MergeHistograms(all...)
		if err != nil {
			return fmt.Errorf("trials of %s at %s: %w", at.contender, at.point, err)
		}
		v.latency[at] = merged
	}
	return nil
}

// headlinesMax bounds how many points get their own set of charts.
const headlinesMax = 3

// headlines are the points that the gates judge, in their order; without gates
// the last point of the sweep.
func (v *view) headlines() []string {
	var names []string
	for _, t := range slices.Concat(v.Gates, v.LessonThresholds) {
		if v.pointIndex(t.Point) >= 0 && !slices.Contains(names, t.Point) && len(names) < headlinesMax {
			names = append(names, t.Point)
		}
	}
	if len(names) == 0 && len(v.sweep) > 0 {
		names = append(names, v.sweep[len(v.sweep)-1].name)
	}
	return names
}

// curve is a group of points that differ in one or more values of the same
// things: they can be joined by a line.
type curve struct {
	name   string // what varies, such as "writers"
	key    string // the only key that varies, else empty
	points []sweepPoint
	closed bool
}

// curves splits the sweep into groups of at least two points.
func (v *view) curves() []curve {
	groups, order := map[string][]sweepPoint{}, []string{}
	for _, p := range v.sweep {
		id := fmt.Sprint(p.closed, slices.Sorted(maps.Keys(p.sweep)))
		if groups[id] == nil {
			order = append(order, id)
		}
		groups[id] = append(groups[id], p)
	}
	var curves []curve
	for _, id := range order {
		if points := groups[id]; len(points) > 1 {
			curves = append(curves, newCurve(points))
		}
	}
	return curves
}

func newCurve(points []sweepPoint) curve {
	var varying []string
	for _, key := range slices.Sorted(maps.Keys(points[0].sweep)) {
		if slices.ContainsFunc(points, func(p sweepPoint) bool { return p.sweep[key] != points[0].sweep[key] }) {
			varying = append(varying, key)
		}
	}
	points = slices.Clone(points)
	slices.SortStableFunc(points, func(a, b sweepPoint) int {
		for _, key := range varying {
			if order := cmp.Compare(a.sweep[key], b.sweep[key]); order != 0 {
				return order
			}
		}
		return 0
	})
	c := curve{name: strings.Join(varying, ", "), points: points, closed: points[0].closed}
	if len(varying) == 1 {
		c.key = varying[0]
	}
	return c
}

// bill is what one contender used at one point: medians over its valid trials.
// A nil field was not measured.
type bill struct {
	Trials                                    int
	CPUNsPerOp                                *stats.Interval
	UserNsPerOp, SystemNsPerOp                *float64
	SyscallsPerOp, SwitchesPerOp, FaultsPerOp *float64
	MajorFaults, RSSMaxBytes                  *float64
	WriteBytesPerOp, ReadBytesPerOp           *float64
}

func (v *view) bill(at place) bill {
	b := bill{Trials: len(v.trials[at])}
	if p := v.results[at]; p != nil {
		b.CPUNsPerOp = p.CPUNsPerOp
	}
	perOp := func(read func(*Resources) int64) *float64 {
		return v.median(at, func(t *Trial) (float64, bool) {
			measured := t.Resources != Resources{StealNs: t.Resources.StealNs}
			return float64(read(&t.Resources)) / t.Answers(), measured && t.Answers() > 0
		})
	}
	whole := func(read func(*Resources) int64) *float64 {
		return v.median(at, func(t *Trial) (float64, bool) {
			return float64(read(&t.Resources)), t.Resources != Resources{StealNs: t.Resources.StealNs}
		})
	}
	b.UserNsPerOp = perOp(func(r *Resources) int64 { return r.UserNs })
	b.SystemNsPerOp = perOp(func(r *Resources) int64 { return r.SystemNs })
	b.SwitchesPerOp = perOp(func(r *Resources) int64 { return r.VoluntarySwitches + r.InvoluntarySwitches })
	b.FaultsPerOp = perOp(func(r *Resources) int64 { return r.MinorFaults + r.MajorFaults })
	b.WriteBytesPerOp = perOp(func(r *Resources) int64 { return r.WriteBytes })
	b.ReadBytesPerOp = perOp(func(r *Resources) int64 { return r.ReadBytes })
	b.MajorFaults = whole(func(r *Resources) int64 { return r.MajorFaults })
	b.SyscallsPerOp = v.median(at, syscallsPerOp)
	b.RSSMaxBytes = v.median(at, func(t *Trial) (float64, bool) {
		return float64(t.Resources.RSSMaxBytes), t.Resources.RSSMaxBytes > 0
	})
	return b
}

// syscallsPerOp counts what the system call probe saw, if it was attached.
func syscallsPerOp(t *Trial) (float64, bool) {
	calls, measured := uint64(0), false
	for _, k := range t.Kernel {
		if k.Probe == "syscall" {
			calls, measured = calls+k.Count, true
		}
	}
	return float64(calls) / t.Answers(), measured && t.Answers() > 0
}

// median is over the valid trials in which read found a measured value.
func (v *view) median(at place, read func(*Trial) (float64, bool)) *float64 {
	var values []float64
	for _, t := range v.trials[at] {
		if value, measured := read(t); measured {
			values = append(values, value)
		}
	}
	middle := stats.Median(values)
	if math.IsNaN(middle) {
		return nil
	}
	return &middle
}

// medianTrial is the valid trial whose throughput is the middle one: the one to
// show when only one can be shown.
func (v *view) medianTrial(at place) *Trial {
	trials := slices.Clone(v.trials[at])
	if len(trials) == 0 {
		return nil
	}
	slices.SortStableFunc(trials, func(a, b *Trial) int { return cmp.Compare(a.ThroughputPerS, b.ThroughputPerS) })
	return trials[len(trials)/2]
}
