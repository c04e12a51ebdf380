package scenarios

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"
)

// Defaults and bounds of an effective scenario.
const (
	inFlightDefault = 4096
	pointsMax       = 500
	trialsMax       = 100_000 // contenders × points × trials
)

// TrialMetrics are the numbers that a threshold with a point can limit, and
// the unit of each. system.<name> is one of the contender's own counters.
var TrialMetrics = map[string]string{
	"throughput_per_s":   "per_s",
	"latency_p50_ns":     "ns",
	"latency_p90_ns":     "ns",
	"latency_p99_ns":     "ns",
	"latency_p999_ns":    "ns",
	"latency_max_ns":     "ns",
	"service_p50_ns":     "ns",
	"service_p99_ns":     "ns",
	"cpu_ns_per_op":      "ns",
	"rss_max_bytes":      "bytes",
	"errors":             "count",
	"timeouts":           "count",
	"unsent":             "count",
	"write_bytes_per_op": "bytes",
	"switches_per_op":    "count",
	"page_faults_per_op": "count",
	"stages_error_share": "ratio",
}

const systemMetricPrefix = "system."

// runMetrics are the numbers of a whole run, over trials and checks; every
// other metric without a point is a check's.
var runMetrics = map[string]string{
	"oracle_lost": "count", "oracle_phantom": "count", "oracle_wrong": "count", "oracle_checked": "count",
	"probe_overhead_ratio": "ratio", "probe_overhead_throughput_ratio": "ratio", "probe_attached_ratio": "ratio", "probe_overhead_accounted_ratio": "ratio",
}

// effect turns a decoded file into a Scenario for one mode.
type effect struct {
	*book
	file   *fileScenario
	mode   string
	places map[string]place
}

func (e *effect) at(format string, args ...any) place {
	path := fmt.Sprintf(format, args...)
	for {
		if p, found := e.places[path]; found {
			return p
		}
		cut := strings.LastIndexAny(path, ".[")
		if cut < 0 {
			return e.places[""]
		}
		path = path[:cut]
	}
}

// onNetwork gives the default one form, and so one hash.
func onNetwork(name string) string {
	if name == "host" {
		return ""
	}
	return name
}

func (e *effect) inMode(modes []string) bool { return len(modes) == 0 || contains(modes, e.mode) }

func (e *effect) scenario() *Scenario {
	f := e.file
	if f.Storage == "disk" {
		f.Storage = "" // the default has one form, and so one hash
	}
	s := &Scenario{
		Name: f.Name, Day: f.Day, Title: f.Title, Mode: e.mode, Seed: *f.Seed, Storage: f.Storage,
		Headline: f.Headline, Checks: map[string]Numbers{}, places: e.places,
		Workload: Workload{
			Transport: f.Workload.Transport, Codec: f.Workload.Codec, Network: f.Workload.Network,
			Tenants:    f.Workload.Tenants.of(e.mode),
			Popularity: f.Workload.Popularity, Record: f.Workload.Record, Params: f.Workload.Params,
		},
	}
	s.Workload.Network = onNetwork(s.Workload.Network)
	if v := f.Validity; v != nil {
		s.Validity = &Validity{OtherLoadMax: v.OtherLoadMax, StealMax: v.StealMax, GeneratorBusyMax: v.GeneratorBusyMax}
		if v.OracleCoverageMin != nil {
			s.Validity.OracleCoverageMin = *v.OracleCoverageMin
		}
	}
	s.Contenders = e.contenders()
	for i := range f.Points {
		if e.inMode(f.Points[i].Modes) {
			s.Points = append(s.Points, e.points(s, i)...)
		}
	}
	e.checkPlan(s)
	e.headline(s)
	e.loads(s)
	s.Overhead = e.overhead(s)
	s.Thresholds = e.thresholds(s)
	for name, sizes := range f.Checks {
		s.Checks[name] = Numbers{}
		for key, value := range sizes {
			q := value.of(e.mode)
			s.Checks[name][key] = q.value
		}
	}
	return s
}

func (e *effect) contenders() []ContenderChoice {
	var out []ContenderChoice
	seen := map[string]bool{}
	for i, c := range e.file.Contenders {
		if seen[c.Name] {
			e.add(e.at("contenders[%d].name", i), "", "contender %q is named twice", c.Name)
		}
		seen[c.Name] = true
		e.places["contender "+c.Name] = e.at("contenders[%d].name", i)
		if e.inMode(c.Modes) {
			out = append(out, ContenderChoice{
				Name: c.Name, Params: c.Params, Transport: c.Transport, Codec: c.Codec, Warmup: time.Duration(c.Warmup.of(e.mode)),
			})
		}
	}
	if len(out) == 0 {
		e.add(e.at("contenders"), "", "no contender takes part in %s mode", e.mode)
	}
	return out
}

// contenderNames returns all names in the file, whatever their mode.
func (e *effect) contenderNames() []string {
	names := make([]string, len(e.file.Contenders))
	for i, c := range e.file.Contenders {
		names[i] = c.Name
	}
	return names
}

// checkPlan bounds the work and refuses points that share an id.
func (e *effect) checkPlan(s *Scenario) {
	total := 0
	seen := map[string]bool{}
	for _, p := range s.Points {
		total += p.Trials * len(p.Contenders)
		if seen[p.ID] {
			e.add(e.at("points"), "", "two points have the id %q", p.ID)
		}
		seen[p.ID] = true
	}
	if len(s.Points) == 0 {
		e.add(e.at("points"), "", "no point is run in %s mode", e.mode)
	}
	if len(s.Points) > pointsMax || total > trialsMax {
		e.add(e.at("points"), "", "%d points and %d trials in %s mode: at most %d and %d", len(s.Points), total, e.mode, pointsMax, trialsMax)
	}
}

func pointIDs(points []Point) []string {
	ids := make([]string, len(points))
	for i := range points {
		ids[i] = points[i].ID
	}
	return ids
}

func (e *effect) headline(s *Scenario) {
	if s.point(s.Headline) == nil {
		ids := pointIDs(s.Points)
		e.add(e.at("headline"), nearest(s.Headline, ids), "headline %q is no point of %s mode: %s", s.Headline, e.mode, oneOf(ids))
	}
}

func (e *effect) overhead(s *Scenario) *Overhead {
	o := e.file.Overhead
	if o == nil {
		return nil
	}
	e.measured(s, o.Contender, o.Point, e.at("probe_overhead.contender"), e.at("probe_overhead.point"))
	if p := s.point(o.Point); p != nil && p.Load != nil {
		e.add(e.at("probe_overhead.point"), "", "what the probes cost is measured at a point with a rate or a closed loop, not with a load")
	}
	return &Overhead{Contender: o.Contender, Point: o.Point, Trials: o.Trials.of(e.mode), Duration: time.Duration(o.Duration.of(e.mode))}
}

// loads complains of loads that nothing can be measured for.
func (e *effect) loads(s *Scenario) {
	for i := range e.file.Points {
		f := &e.file.Points[i]
		if f.Load == nil || !e.inMode(f.Modes) {
			continue
		}
		at := e.at("points[%d].load.point", i)
		e.measured(s, f.Load.Contender, f.Load.Point, e.at("points[%d].load.contender", i), at)
		if p := s.point(f.Load.Point); p != nil && p.Arrival != "closed" {
			e.add(at, "", "at point %s requests arrive at a rate: only a closed loop shows what a contender bears", p.ID)
		}
	}
}

// measured complains unless the contender runs at the point.
func (e *effect) measured(s *Scenario, contender, point string, atContender, atPoint place) {
	ids := pointIDs(s.Points)
	p := s.point(point)
	if p == nil {
		e.add(atPoint, nearest(point, ids), "%q is no point of %s mode: %s", point, e.mode, oneOf(ids))
		return
	}
	if !contains(p.Contenders, contender) {
		e.add(atContender, nearest(contender, p.Contenders), "%q does not run at point %s in %s mode: %s", contender, point, e.mode, oneOf(p.Contenders))
	}
}

// axis is one thing that a point sweeps.
type axis struct {
	name   string // in the point's id and its Sweep
	listed bool   // more than one value, or a list of one
	values []float64
}

// points expands one point of the file.
func (e *effect) points(s *Scenario, i int) []Point {
	f := &e.file.Points[i]
	base := Point{
		Name: f.Name, Arrival: f.Arrival, Connections: f.Connections.of(e.mode),
		Warmup:   time.Duration(f.Warmup.or(&e.file.Sizes.Warmup, e.mode)),
		Duration: time.Duration(f.Duration.or(&e.file.Sizes.Duration, e.mode)),
		Timeout:  time.Duration(f.Timeout.or(&e.file.Sizes.Timeout, e.mode)),
		Trials:   f.Trials.or(&e.file.Sizes.Trials, e.mode),
		Workload: s.Workload, InFlightMax: inFlightDefault, BurstLen: 1,
	}
	base.Stages = f.Stages
	if f.Load != nil && !f.Rate.set {
		base.Load = &LoadShare{Share: *f.Load.Share, Contender: f.Load.Contender, Point: f.Load.Point}
	}
	if f.Transport != "" {
		base.Workload.Transport = f.Transport
	}
	if f.Network != "" {
		base.Workload.Network = onNetwork(f.Network)
	}
	if len(f.Params) > 0 {
		params := map[string]string{}
		maps.Copy(params, s.Workload.Params)
		maps.Copy(params, f.Params)
		base.Workload.Params = params
	}
	if f.InFlight != nil {
		base.InFlightMax = *f.InFlight
	}
	if f.Burst != nil {
		base.BurstLen = *f.Burst
	}
	e.checkArrival(f, i)
	base.Contenders = e.pointContenders(s, f, i)
	points := []Point{base}
	for _, a := range pointAxes(f, e.mode) {
		points = cross(points, a)
	}
	for j := range points {
		p := &points[j]
		p.ID = p.Name + p.ID
		if p.Connections > p.Writers {
			e.add(e.at("points[%d].connections", i), "", "%d connections for %d writers: some would carry nothing", p.Connections, p.Writers)
			break
		}
	}
	return points
}

func (e *effect) checkArrival(f *filePoint, i int) {
	closed := f.Arrival == "closed"
	if closed && f.Rate.set {
		e.add(e.at("points[%d].rate", i), "", "a closed loop has no rate: its writers send as fast as they are answered")
	}
	if closed && f.Load != nil {
		e.add(e.at("points[%d].load", i), "", "a closed loop has no load: its writers send as fast as they are answered")
	}
	if !closed && !f.Rate.set && f.Load == nil {
		e.add(e.at("points[%d]", i), "", "arrival %s needs a rate or a load", f.Arrival)
	}
	if (f.Arrival == "burst") != (f.Burst != nil) {
		e.add(e.at("points[%d].burst", i), "", "burst goes with arrival burst, and only with it")
	}
	if strings.ContainsAny(f.Name, "/=,. ") {
		e.add(e.at("points[%d].name", i), "", "a point's name must not hold any of / = , . or a space: it becomes part of an id")
	}
}

// pointContenders returns who runs at a point, in the scenario's order.
func (e *effect) pointContenders(s *Scenario, f *filePoint, i int) []string {
	asked := f.Contenders.of(e.mode)
	for j, name := range asked {
		if !contains(e.contenderNames(), name) {
			e.add(e.at("points[%d].contenders[%d]", i, j), nearest(name, e.contenderNames()), "%q is no contender of this scenario: %s", name, oneOf(e.contenderNames()))
		}
	}
	var out []string
	for _, c := range s.Contenders {
		if !f.Contenders.set || contains(asked, c.Name) {
			out = append(out, c.Name)
		}
	}
	if len(out) == 0 {
		e.add(e.at("points[%d].contenders", i), "", "no contender runs at point %q in %s mode", f.Name, e.mode)
	}
	return out
}

func pointAxes(f *filePoint, mode string) []axis {
	axes := []axis{
		newAxis("writers", &f.Writers, mode), newAxis("rate_per_s", &f.Rate, mode),
		newAxis("tenants", &f.Tenants, mode), newAxis("record_bytes", &f.Record, mode),
	}
	for _, name := range sortedKeys(f.Sweep) {
		values := f.Sweep[name]
		axes = append(axes, newAxis(name, &values, mode))
	}
	return axes
}

func newAxis[T int | rate | size](name string, values *byMode[many[T]], mode string) axis {
	// A list in either mode names the value in both, so that thresholds can
	// say one id.
	a := axis{name: name, listed: values.quick.listed || values.full.listed}
	for _, v := range values.of(mode).values {
		a.values = append(a.values, float64(v))
	}
	return a
}

// cross multiplies points by the values of an axis.
func cross(points []Point, a axis) []Point {
	if len(a.values) == 0 {
		return points
	}
	var out []Point
	for _, p := range points {
		for _, value := range a.values {
			q := p
			q.Sweep = map[string]float64{a.name: value}
			for k, v := range p.Sweep {
				q.Sweep[k] = v
			}
			if a.listed {
				q.ID += "/" + a.name + "=" + strconv.FormatFloat(value, 'f', -1, 64)
			}
			a.apply(&q, value)
			out = append(out, q)
		}
	}
	return out
}

func (a axis) apply(p *Point, value float64) {
	switch a.name {
	case "writers":
		p.Writers = int(value)
	case "rate_per_s":
		p.RatePerS = value
	case "tenants":
		p.Workload.Tenants = int(value)
	case "record_bytes":
		p.Workload.Record = SizeRange{Kind: "constant", MinBytes: int(value), MaxBytes: int(value)}
	default: // a param of the workload
		params := map[string]string{}
		maps.Copy(params, p.Workload.Params)
		params[a.name] = strconv.FormatFloat(value, 'f', -1, 64)
		p.Workload.Params = params
	}
}
