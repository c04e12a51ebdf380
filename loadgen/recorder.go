package loadgen

import (
	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	latencyNsMax     = int64(3600e9)
	latencyDigits    = 3
	tickNs           = int64(100e6)
	tickDigits       = 2
	openTicksMax     = 16
	lagLimitNs       = int64(1e6) // see lagLimit
	lagQuantile      = 99         // percent
	rateErrorMax     = 0.01
	busyShareMax     = 0.95
	overloadShareMin = 0.01
	clockStepNsMax   = int64(10e6)
)

// counts are the measured requests of one worker.
type counts struct {
	intended, sent, completed, errors, timeouts, wrong, unsent, waited, arrived uint64
	wrongUnmeasured                                                             uint64
	strays                                                                      uint64
	late                                                                        uint64
	cut                                                                         uint64 // receives whose buffer was too short
}

// recorder is one worker's; nothing in it is shared while the worker runs.
type recorder struct {
	counts
	latency, service, lag *hdrhistogram.Histogram
	ownLag                *hdrhistogram.Histogram // of requests that nothing held up: the generator's own
	departures            departures
	tick                  *hdrhistogram.Histogram
	tickEndNs             int64
	firstWrong            string
	firstError            string
	pace                  *paceRecorder
	reports               chan<- tickReport
	spare                 chan *hdrhistogram.Histogram
}

// tickReport hands one interval's latencies to the collector, which gives the
// histogram back.
type tickReport struct {
	endNs int64
	hist  *hdrhistogram.Histogram
	from  chan<- *hdrhistogram.Histogram
}

func newRecorder(reports chan<- tickReport, pace *paceRecorder) *recorder {
	r := &recorder{
		pace:    pace,
		latency: hdrhistogram.New(1, latencyNsMax, latencyDigits),
		service: hdrhistogram.New(1, latencyNsMax, latencyDigits),
		lag:     hdrhistogram.New(1, latencyNsMax, latencyDigits),
		ownLag:  hdrhistogram.New(1, latencyNsMax, latencyDigits),
		tick:    hdrhistogram.New(1, latencyNsMax, tickDigits),
		reports: reports,
		spare:   make(chan *hdrhistogram.Histogram, 1),
	}
	r.spare <- hdrhistogram.New(1, latencyNsMax, tickDigits)
	return r
}

func record(h *hdrhistogram.Histogram, ns int64) {
	// The only error is a value out of range, which the bounds exclude.
	_ = h.RecordValue(min(max(ns, 0), latencyNsMax))
}

// answered records a right answer to a measured request.
func (r *recorder) answered(s *slot, nowNs int64) {
	r.completed++
	latency := nowNs - s.intendedNs
	record(r.latency, latency)
	record(r.service, nowNs-s.sentNs)
	record(r.tick, latency)
}

// departed records that a measured request was sent.
func (r *recorder) departed(s *slot) {
	r.sent++
	lag := s.sentNs - s.intendedNs
	record(r.lag, lag)
	r.departures.note(s.intendedNs, s.sentNs)
	if s.waited {
		r.waited++
	} else {
		record(r.ownLag, lag)
	}
}

// endTick gives the interval away without ever waiting: when the collector is
// behind, the interval grows.
func (r *recorder) endTick(nowNs int64) {
	select {
	case fresh := <-r.spare:
		select {
		case r.reports <- tickReport{r.tickEndNs, r.tick, r.spare}:
			r.tick = fresh
		default:
			r.spare <- fresh
		}
	default:
	}
	for r.tickEndNs <= nowNs {
		r.tickEndNs += tickNs
	}
}

// lastTick gives away what the last whole interval left, waiting if it must.
func (r *recorder) lastTick() {
	if r.tick.TotalCount() > 0 {
		r.reports <- tickReport{r.tickEndNs, r.tick, make(chan *hdrhistogram.Histogram, 1)}
	}
}

// collector joins the workers' intervals into ticks.
type collector struct {
	reports  chan tickReport
	workers  int
	startNs  int64
	onTick   func(Tick)
	timeline []Tick
	open     map[int64]*joined
	spare    []*hdrhistogram.Histogram
	done     chan struct{}
}

type joined struct {
	hist *hdrhistogram.Histogram
	n    int
}

func newCollector(workers int, onTick func(Tick)) *collector {
	return &collector{
		reports: make(chan tickReport, 4*workers),
		workers: workers,
		onTick:  onTick,
		open:    make(map[int64]*joined),
		done:    make(chan struct{}),
	}
}

// run works until reports is closed, then flushes what is incomplete.
func (c *collector) run() {
	defer close(c.done)
	for r := range c.reports {
		j := c.open[r.endNs]
		if j == nil {
			j = &joined{hist: c.histogram()}
			c.open[r.endNs] = j
		}
		j.hist.Merge(r.hist)
		j.n++
		r.hist.Reset()
		r.from <- r.hist
		if j.n == c.workers {
			c.finish(r.endNs)
		}
		// An interval that a busy worker skipped is never complete.
		for len(c.open) > openTicksMax {
			c.finish(c.oldest())
		}
	}
	for len(c.open) > 0 {
		c.finish(c.oldest())
	}
}

func (c *collector) oldest() int64 {
	first := int64(-1)
	for endNs := range c.open {
		if first < 0 || endNs < first {
			first = endNs
		}
	}
	return first
}

func (c *collector) histogram() *hdrhistogram.Histogram {
	if n := len(c.spare); n > 0 {
		h := c.spare[n-1]
		c.spare = c.spare[:n-1]
		return h
	}
	return hdrhistogram.New(1, latencyNsMax, tickDigits)
}

func (c *collector) finish(endNs int64) {
	j := c.open[endNs]
	delete(c.open, endNs)
	t := Tick{
		OffsetNs:  endNs - c.startNs,
		Completed: uint64(j.hist.TotalCount()),
		P50Ns:     j.hist.ValueAtQuantile(50),
		P99Ns:     j.hist.ValueAtQuantile(99),
	}
	j.hist.Reset()
	c.spare = append(c.spare, j.hist)
	c.timeline = append(c.timeline, t)
	if c.onTick != nil {
		c.onTick(t)
	}
}
