package loadgen

import (
	"math"
	"slices"
	"time"

	"github.com/nexuscore-labs/nexus/loadgen/arrivals"
)

const (
	// departuresMax bounds how many requests of a worker are looked at: the first
	// of the measured part. 16 bytes each.
	departuresMax = 1 << 19
	// displacedNsMin is the change of a gap that never matters; lagLimit puts up
	// with more, but only for one request in a hundred.
	displacedNsMin = int64(200e3)
	// waitedShareMax is the share of requests that the server may hold up
	// (pipeline full) before the sends say more about it than about the generator.
	waitedShareMax = 0.001
	// unsentMax is how many a late end may leave unsent.
	unsentMax = 8
)

// departures are when a worker's requests were due and when they went.
type departures struct {
	intendedNs, sentNs []int64
}

// newDepartures makes room for what the schedule will give. The memory is
// touched now, so that no request pays for that.
func newDepartures(cfg *Config, conns int) departures {
	want := cfg.RatePerS * cfg.Duration.Seconds() * float64(conns) / float64(cfg.Connections)
	n := int(min(want+6*math.Sqrt(want)+64, departuresMax))
	d := departures{make([]int64, n), make([]int64, n)}
	clear(d.intendedNs)
	clear(d.sentNs)
	d.intendedNs, d.sentNs = d.intendedNs[:0], d.sentNs[:0]
	return d
}

func (d *departures) note(intendedNs, sentNs int64) {
	if len(d.intendedNs) < cap(d.intendedNs) {
		d.intendedNs = append(d.intendedNs, intendedNs)
		d.sentNs = append(d.sentNs, sentNs)
	}
}

// sorted puts both times in order. Where there were more requests than room,
// the last ones go: others that were due before them may have left after.
func (d *departures) sorted() {
	slices.Sort(d.intendedNs)
	slices.Sort(d.sentNs)
	if n := len(d.intendedNs); n == cap(d.intendedNs) {
		n = n * 99 / 100
		d.intendedNs, d.sentNs = d.intendedNs[:n], d.sentNs[:n]
	}
}

// judgeArrivals tests whether what was planned and what was sent is the arrival
// process that was asked for. Missing requests and ones that the server held up
// leave holes that are not the generator's: then it says nothing, and the
// counts do.
func (r *runner) judgeArrivals(out *Result, invalid func(string, ...any)) {
	if r.cfg.Arrival == "closed" || float64(out.Unsent) > unsentMax+waitedShareMax*float64(out.Intended) {
		return
	}
	tolerance := time.Duration(max(displacedNsMin, out.Latency.ValueAtQuantile(50)/10))
	heldUp := float64(out.Waited) > waitedShareMax*float64(out.Sent)
	for _, w := range r.workers {
		d := &w.rec.departures
		d.sorted()
		var tests []arrivals.Test
		ratePerS := r.cfg.RatePerS * float64(len(w.conns)) / float64(r.cfg.Connections)
		poisson := r.cfg.Arrival == "poisson"
		if poisson {
			tests = arrivals.PlanPoisson(d.intendedNs, ratePerS)
		}
		switch {
		case heldUp:
		case poisson:
			tests = append(tests, arrivals.SendsPoisson(d.sentNs, ratePerS, tolerance)...)
		default:
			tests = arrivals.Displaced(d.intendedNs, d.sentNs, tolerance)
		}
		if bad, failed := arrivals.FirstFailed(tests); failed {
			invalid("arrivals are not %s: %s", r.cfg.Arrival, bad)
			return
		}
	}
}
