package reports

import "math"

// StageBreakdown says where the latency of requests went, by percentile band.
type StageBreakdown struct {
	Requests   uint64      `json:"requests"`              // right answers in the measured part
	Joined     uint64      `json:"joined"`                // of them, those whose packets were all found
	Disordered uint64      `json:"disordered,omitempty"`  // whose times contradicted each other: not joined
	LostEvents uint64      `json:"lost_events,omitempty"` // that the kernel's log had no room for
	Bands      []StageBand `json:"bands"`
}

// StageBand is one band of the latency distribution. Means are over requests.
type StageBand struct {
	FromPercentile float64 `json:"from_percentile"` // exclusive
	ToPercentile   float64 `json:"to_percentile"`   // inclusive
	Requests       uint64  `json:"requests"`        // of all answered, by the latency histogram
	ClientMeanNs   float64 `json:"client_mean_ns"`  // what the client saw: of all of them
	Joined         uint64  `json:"joined"`
	Stages         []Stage `json:"stages"` // of the joined ones, in order; all of them
	// ErrorShare is how far the sum of the stages without the unexplained time is
	// from what the client saw, over that; absent when nothing was joined.
	ErrorShare *float64 `json:"error_share,omitempty"`
}

// Stage is the mean time in one stage.
type Stage struct {
	Name   string  `json:"name"`
	MeanNs float64 `json:"mean_ns"`
}

// StageUnexplained is the name of the time that no stage accounts for.
const StageUnexplained = "unexplained"

// Sum is the mean over joined requests of all stages but the unexplained time, ns.
func (b *StageBand) Sum() float64 {
	sum := 0.0
	for _, s := range b.Stages {
		if s.Name != StageUnexplained {
			sum += s.MeanNs
		}
	}
	return sum
}

// Check sets ErrorShare.
func (b *StageBand) Check() {
	b.ErrorShare = nil
	if b.Joined == 0 || b.ClientMeanNs <= 0 {
		return
	}
	share := math.Abs(b.Sum()-b.ClientMeanNs) / b.ClientMeanNs
	b.ErrorShare = &share
}

// ErrorShareMax is the worst band's; NaN when a band with requests has none.
func (s *StageBreakdown) ErrorShareMax() float64 {
	worst := math.NaN()
	for i := range s.Bands {
		b := &s.Bands[i]
		if b.Requests == 0 {
			continue
		}
		if b.ErrorShare == nil {
			return math.NaN()
		}
		if !(worst >= *b.ErrorShare) {
			worst = *b.ErrorShare
		}
	}
	return worst
}

// SumStages joins the breakdowns of several trials: each trial's own bands,
// weighted by their requests. It is nil when there are none.
func SumStages(all []*StageBreakdown) *StageBreakdown {
	var out *StageBreakdown
	for _, one := range all {
		if one == nil {
			continue
		}
		if out == nil {
			out = &StageBreakdown{Bands: make([]StageBand, len(one.Bands))}
		}
		out.Requests += one.Requests
		out.Joined += one.Joined
		out.Disordered += one.Disordered
		out.LostEvents += one.LostEvents
		for i := range min(len(one.Bands), len(out.Bands)) {
			out.Bands[i].add(&one.Bands[i])
		}
	}
	if out != nil {
		for i := range out.Bands {
			out.Bands[i].Check()
		}
	}
	return out
}

func (b *StageBand) add(o *StageBand) {
	b.FromPercentile, b.ToPercentile = o.FromPercentile, o.ToPercentile
	if b.Stages == nil {
		b.Stages = make([]Stage, len(o.Stages))
	}
	b.ClientMeanNs = weighted(b.ClientMeanNs, b.Requests, o.ClientMeanNs, o.Requests)
	for i := range min(len(b.Stages), len(o.Stages)) {
		b.Stages[i] = Stage{o.Stages[i].Name, weighted(b.Stages[i].MeanNs, b.Joined, o.Stages[i].MeanNs, o.Joined)}
	}
	b.Requests += o.Requests
	b.Joined += o.Joined
}

func weighted(a float64, n uint64, b float64, m uint64) float64 {
	if n+m == 0 {
		return 0
	}
	return (a*float64(n) + b*float64(m)) / float64(n+m)
}
