package scenarios

import (
	"fmt"
	"math"
	"strings"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/reports/stats"
)

// cell is one contender at one point: all its trials that count.
type cell struct {
	contender string
	point     string
	planned   int
	invalid   int                    // attempts thrown away
	failed    int                    // trials that the contender failed
	byRound   map[int]*reports.Trial // ok trials
	sweep     map[string]float64
	reason    string // of the last attempt thrown away
}

func (c *cell) lastReason() string {
	if c.reason == "" {
		return "the others were not run"
	}
	return c.reason
}

// board is all cells, in the order of the scenario.
type board struct {
	cells []*cell
	index map[[2]string]*cell
	slots int
	lost  int // slots that stayed invalid
}

func newBoard(slots []slot, records map[int]slotRecord) *board {
	b := &board{index: map[[2]string]*cell{}}
	for _, s := range slots {
		key := [2]string{s.contender, pointID(s)}
		c := b.index[key]
		if c == nil {
			c = &cell{contender: s.contender, point: pointID(s), byRound: map[int]*reports.Trial{}, sweep: sweepOf(s)}
			b.index[key], b.cells = c, append(b.cells, c)
		}
		c.planned++
		b.slots++
		record, found := records[s.index]
		if !found {
			continue
		}
		for i := range record.Attempts {
			c.count(&record.Attempts[i], s.round)
		}
		if record.Attempts[len(record.Attempts)-1].Status == trialInvalid {
			b.lost++
		}
	}
	return b
}

func (c *cell) count(t *reports.Trial, round int) {
	switch t.Status {
	case trialOK:
		c.byRound[round] = t
	case trialInvalid:
		c.invalid++
		c.reason = t.Reason
	default:
		c.failed++
	}
}

func (b *board) cell(contender, point string) *cell { return b.index[[2]string{contender, point}] }

// values returns a metric of all valid trials, by round.
func (c *cell) values(metric string) map[int]float64 {
	out := map[int]float64{}
	for round, t := range c.byRound {
		if v := trialMetric(t, metric); !math.IsNaN(v) && !math.IsInf(v, 0) {
			out[round] = v
		}
	}
	return out
}

// overloaded counts the valid trials that could not bear the offered rate.
func (c *cell) overloaded() int {
	n := 0
	for _, t := range c.byRound {
		if t.Overloaded {
			n++
		}
	}
	return n
}

// unbearable says that the contender could not bear the point's rate in half or
// more of its valid trials, "" otherwise. Its latencies are then those of a
// queue that grows until the trial ends, and nothing is in proportion to them.
func (c *cell) unbearable(p *Point) string {
	over, n := c.overloaded(), len(c.byRound)
	if n == 0 || 2*over < n {
		return ""
	}
	rate := ""
	if p != nil {
		rate = fmt.Sprintf(" %.6g/s", p.RatePerS)
	}
	return fmt.Sprintf("%s cannot bear the offered%s: overloaded in %d of %d trials", c.contender, rate, over, n)
}

// list returns a metric's values in the order of the rounds.
func list(byRound map[int]float64) []float64 {
	var out []float64
	for _, round := range rounds(byRound) {
		out = append(out, byRound[round])
	}
	return out
}

func rounds[T any](byRound map[int]T) []int {
	last := -1
	for round := range byRound {
		last = max(last, round)
	}
	var out []int
	for round := 0; round <= last; round++ {
		if _, found := byRound[round]; found {
			out = append(out, round)
		}
	}
	return out
}

// trialMetric returns one of TrialMetrics or a system counter, NaN when the
// trial has no such number.
func trialMetric(t *reports.Trial, metric string) float64 {
	perOp := func(v int64) float64 {
		answers := t.Answers()
		if answers == 0 {
			return math.NaN()
		}
		return float64(v) / answers
	}
	r := &t.Resources
	if *r == (reports.Resources{StealNs: r.StealNs}) && usesResources(metric) {
		return math.NaN()
	}
	switch metric {
	case "throughput_per_s":
		return t.ThroughputPerS
	case "stages_error_share":
		if t.Stages == nil {
			return math.NaN()
		}
		return t.Stages.ErrorShareMax()
	case "latency_p50_ns", "latency_p90_ns", "latency_p99_ns", "latency_p999_ns", "latency_max_ns":
		return percentile(&t.LatencyNs, metric[len("latency_"):len(metric)-len("_ns")])
	case "service_p50_ns", "service_p99_ns":
		return percentile(&t.ServiceNs, metric[len("service_"):len(metric)-len("_ns")])
	case "cpu_ns_per_op":
		if r.UserNs+r.SystemNs == 0 {
			return math.NaN() // charged to nobody, see NetworkVethInline
		}
		return perOp(r.UserNs + r.SystemNs)
	case "rss_max_bytes":
		return float64(r.RSSMaxBytes)
	case "errors":
		return float64(t.Counts.Errors)
	case "timeouts":
		return float64(t.Counts.Timeouts)
	case "unsent":
		return float64(t.Counts.Unsent)
	case "write_bytes_per_op":
		return perOp(r.WriteBytes)
	case "switches_per_op":
		return perOp(r.VoluntarySwitches + r.InvoluntarySwitches)
	case "page_faults_per_op":
		return perOp(r.MinorFaults + r.MajorFaults)
	}
	if name := metric[min(len(systemMetricPrefix), len(metric)):]; systemMetricPrefix+name == metric {
		if v, found := t.System[name]; found {
			return v
		}
	}
	return math.NaN()
}

// usesResources tells the metrics that are read from the contender's process.
func usesResources(metric string) bool {
	switch metric {
	case "cpu_ns_per_op", "rss_max_bytes", "write_bytes_per_op", "switches_per_op", "page_faults_per_op":
		return true
	}
	return false
}

// percentile is NaN for a distribution without values: absent is not zero.
func percentile(l *reports.Latency, name string) float64 {
	if l.Count == 0 {
		return math.NaN()
	}
	switch name {
	case "p50":
		return float64(l.P50)
	case "p90":
		return float64(l.P90)
	case "p99":
		return float64(l.P99)
	case "p999":
		return float64(l.P999)
	case "max":
		return float64(l.Max)
	}
	return math.NaN()
}

// pointResults sums up every cell that has a valid trial; those that cost the
// probes serve nothing else.
func (b *board) pointResults(seed uint64) ([]reports.PointResult, error) {
	var out []reports.PointResult
	for _, c := range b.cells {
		if strings.HasSuffix(c.point, costingSuffix) {
			continue
		}
		p := reports.PointResult{
			Contender: c.contender, Point: c.point, Sweep: c.sweep,
			Trials: len(c.byRound), Invalid: c.invalid, Overloaded: c.overloaded(), LatencyNs: map[string]reports.Interval{},
		}
		interval := func(metric string) *reports.Interval {
			ci := stats.MedianCI(list(c.values(metric)), trialSeed(seed, metric+c.contender+c.point, 0))
			if !ci.Valid() {
				return nil
			}
			return &ci
		}
		p.ThroughputPerS, p.CPUNsPerOp = interval("throughput_per_s"), interval("cpu_ns_per_op")
		for _, name := range []string{"p50", "p90", "p99", "p999"} {
			if ci := interval("latency_" + name + "_ns"); ci != nil {
				p.LatencyNs[name] = *ci
			}
		}
		pooled, err := c.pooled()
		if err != nil {
			return nil, err
		}
		p.Pooled = pooled
		p.Stages = c.stages()
		out = append(out, p)
	}
	return out, nil
}

// pooled merges the latency histograms of a cell's valid trials.
func (c *cell) pooled() (reports.Latency, error) {
	var all []*hdrhistogram.Histogram
	for _, t := range c.byRound {
		h, err := reports.DecodeHistogram(t.Histograms.LatencyHDR)
		if err != nil {
			return reports.Latency{}, err
		}
		all = append(all, h)
	}
	if len(all) == 0 {
		return reports.Latency{}, nil
	}
	merged, err := reports.MergeHistograms(all...)
	if err != nil {
		return reports.Latency{}, err
	}
	return reports.LatencyOf(merged), nil
}

// contenderResults shows each contender at the headline point.
func contenderResults(lab *Lab, s *Scenario, points []reports.PointResult) []reports.ContenderResult {
	var out []reports.ContenderResult
	for _, choice := range s.Contenders {
		for i := range lab.Contenders {
			c := &lab.Contenders[i]
			if c.Name != choice.Name {
				continue
			}
			r := reports.ContenderResult{Name: c.Name, Role: c.Role, Doc: c.Doc, Durability: c.Durability}
			if c.Version != nil {
				r.Version = c.Version()
			}
			for j := range points {
				p := &points[j]
				if p.Contender == c.Name && p.Point == s.Headline && p.Trials > 0 {
					if p.ThroughputPerS != nil {
						r.ThroughputPerS = &p.ThroughputPerS.Center
					}
					r.LatencyNs = &p.Pooled
				}
			}
			out = append(out, r)
		}
	}
	return out
}

// pairs returns the values of the rounds that both have.
func pairs(a, b map[int]float64) (of, with []float64) {
	for _, round := range rounds(a) {
		if other, both := b[round]; both {
			of, with = append(of, a[round]), append(with, other)
		}
	}
	return of, with
}

// stages sums the breakdowns of a cell's valid trials, nil when it has none.
func (c *cell) stages() *reports.StageBreakdown {
	var all []*reports.StageBreakdown
	last := -1
	for round := range c.byRound {
		last = max(last, round)
	}
	for round := range last + 1 {
		if t := c.byRound[round]; t != nil {
			all = append(all, t.Stages)
		}
	}
	return reports.SumStages(all)
}
