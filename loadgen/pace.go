package loadgen

import "time"

const (
	paceBinsMax  = 200 // of warm-up and measured part together
	paceNsMin    = int64(time.Millisecond)
	paceStepsMax = 40 // of 1, 2, 5, 10, ...: more than any duration needs
)

// Pace is the answers over a whole run, warm-up included, in short equal
// intervals of time: what shows when a server became steady. Ticks are for
// people and begin with the measured part.
type Pace struct {
	IntervalNs   int64
	MeasuredFrom int      // the first interval of the measured part
	Answered     []uint64 // right answers that arrived in the interval, to whichever request
	LatencySumNs []int64  // of those answers, from the intended send time
}

// paceRecorder is one worker's; recording costs two additions.
type paceRecorder struct {
	Pace
	startNs int64
}

// newPaceRecorder puts a border of intervals where measuring begins; what does not
// fill an interval before it is left out.
func newPaceRecorder(warmup, duration time.Duration) *paceRecorder {
	width := paceInterval(int64(warmup) + int64(duration))
	before := int64(warmup) / width
	n := before + (int64(duration)+width-1)/width
	return &paceRecorder{Pace: Pace{
		IntervalNs: width, MeasuredFrom: int(before), Answered: make([]uint64, n), LatencySumNs: make([]int64, n),
	}}
}

// paceInterval is the shortest of 1, 2, 5, 10, ... ms that cuts the time into at
// most paceBinsMax.
func paceInterval(totalNs int64) int64 {
	width := paceNsMin
	for i := 0; i < paceStepsMax && totalNs/width > paceBinsMax; i++ {
		if i%3 == 1 {
			width = width / 2 * 5
		} else {
			width *= 2
		}
	}
	return width
}

func (p *paceRecorder) begin(measureNs int64) {
	p.startNs = measureNs - int64(p.MeasuredFrom)*p.IntervalNs
}

// answered records a right answer; those outside the run are left out.
func (p *paceRecorder) answered(nowNs, latencyNs int64) {
	at := (nowNs - p.startNs) / p.IntervalNs
	if nowNs < p.startNs || at >= int64(len(p.Answered)) {
		return
	}
	p.Answered[at]++
	p.LatencySumNs[at] += latencyNs
}

// merge adds another worker's intervals, which are the same.
func (p *Pace) merge(o *Pace) {
	if p.Answered == nil {
		p.IntervalNs, p.MeasuredFrom = o.IntervalNs, o.MeasuredFrom
		p.Answered, p.LatencySumNs = make([]uint64, len(o.Answered)), make([]int64, len(o.Answered))
	}
	for i := range o.Answered {
		p.Answered[i] += o.Answered[i]
		p.LatencySumNs[i] += o.LatencySumNs[i]
	}
}
