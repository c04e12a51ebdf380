package reports

import (
	"fmt"
	"math"
	"time"

	"github.com/nexuscore-labs/nexus/reports/stats"
)

// Signals of Steady.
const (
	SignalThroughput = "throughput"
	SignalLatency    = "latency"
)

// independentFew is the number of independent values below which a trial's own
// intervals say less than they seem to.
const independentFew = 20

// Judge says how steady the trial was, or leaves Steady nil when there is too
// little to say: too few intervals, or answers too seldom to fill them.
func (p *Pace) Judge(closed bool) {
	series, signal := p.series(closed)
	settling, ok := stats.Settle(series, p.MeasuredFrom)
	if !ok {
		return
	}
	p.Steady = &Steady{
		Signal: signal, FromNs: int64(settling.From-p.MeasuredFrom) * p.IntervalNs, BiasRatio: settling.Bias,
		Late: settling.Late, Never: settling.Never, Values: len(series) - settling.From, Independent: settling.Independent,
	}
	if math.IsNaN(p.Steady.Independent) {
		p.Steady.Independent = float64(p.Steady.Values) // a constant has no correlation
	}
	if ci := stats.BatchMeansCI(series[p.MeasuredFrom:]); ci.Valid() && ci.Center > 0 {
		p.Steady.ErrorRatio = (ci.Hi - ci.Center) / ci.Center
	}
}

// series is what steadiness is judged by. Open loops answer at the rate that they
// are offered, so only their latency can show a warm-up; the latency of a closed
// loop is its throughput seen again. An interval without answers repeats the
// latency before it, and a series of mostly such intervals says nothing.
func (p *Pace) series(closed bool) ([]float64, string) {
	values := make([]float64, len(p.Answered))
	if closed {
		for i, n := range p.Answered {
			values[i] = float64(n)
		}
		return values, SignalThroughput
	}
	empty, last := 0, math.NaN()
	for i, n := range p.Answered {
		if n > 0 {
			last = float64(p.LatencySumNs[i]) / float64(n)
		} else {
			empty++
		}
		values[i] = last
	}
	if 2*empty > len(values) {
		return nil, SignalLatency
	}
	for i := len(values) - 1; i >= 0; i-- { // before the first answer: as the first
		if math.IsNaN(values[i]) && i+1 < len(values) {
			values[i] = values[i+1]
		}
	}
	return values, SignalLatency
}

// Doubts are the warnings that a trial's pace gives rise to. Equal doubts are
// equal texts, so that a run can count them.
func (s *Steady) Doubts() []string {
	switch {
	case s == nil:
		return nil
	case s.Late:
		return []string{fmt.Sprintf("the %s was not yet steady when measuring began: the warm-up is too short", s.Signal)}
	case s.Never:
		return []string{fmt.Sprintf("the %s was still drifting at the trial's end", s.Signal)}
	case s.Independent < independentFew:
		return []string{fmt.Sprintf("the %s is so correlated over the trial that it says as much as fewer than %d independent values", s.Signal, independentFew)}
	}
	return nil
}

// String says it in one line, for people.
func (s *Steady) String() string {
	from := time.Duration(s.FromNs)
	return fmt.Sprintf("%s steady from %v, bias %+.1f%%, %d values worth %.0f", s.Signal, from, 100*s.BiasRatio, s.Values, s.Independent)
}
