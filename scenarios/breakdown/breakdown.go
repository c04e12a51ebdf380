// Package breakdown joins what the generator saw of each request with what the
// kernel logged, and says by percentile band where the time went.
package breakdown

import (
	"sort"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/nexuscore-labs/nexus/bpf/stages"
	"github.com/nexuscore-labs/nexus/loadgen"
	"github.com/nexuscore-labs/nexus/reports"
)

// edges of the bands, percentiles.
var edges = []float64{0, 50, 90, 99, 99.9, 100}

// Of breaks the latency of a run's traced requests down. What the client saw
// comes from the run's latency histogram, which holds every answer, traced and
// joined or not: a breakdown of the wrong requests does not add up to it.
func Of(load *loadgen.Result, log *stages.Log) *reports.StageBreakdown {
	out := &reports.StageBreakdown{Requests: load.Completed, LostEvents: log.Lost}
	bands := newBands(load.Latency)
	sums := make([]stages.Breakdown, len(bands.limitsNs))
	counts := make([]uint64, len(bands.limitsNs))
	join := stages.NewJoin(log)
	for i := range load.Traced {
		request := stages.Request(load.Traced[i])
		b, outcome := join.Break(&request)
		if outcome != stages.Joined {
			if outcome == stages.Disordered {
				out.Disordered++
			}
			continue
		}
		out.Joined++
		k := bands.of(request.LatencyNs())
		counts[k]++
		for s := range stages.StageCount {
			sums[k][s] += b[s]
		}
	}
	out.Bands = bands.sums(load.Latency)
	for k := range out.Bands {
		band := &out.Bands[k]
		band.Joined = counts[k]
		for s := range stages.StageCount {
			mean := 0.0
			if counts[k] > 0 {
				mean = float64(sums[k][s]) / float64(counts[k])
			}
			band.Stages = append(band.Stages, reports.Stage{Name: s.String(), MeanNs: mean})
		}
		band.Check()
	}
	return out
}

// bands cuts a distribution at its own percentiles. A limit is the highest value
// that its histogram bucket holds, so a value and its bucket are in one band.
type bands struct{ limitsNs []int64 }

func newBands(h *hdrhistogram.Histogram) bands {
	var b bands
	for _, percentile := range edges[1:] {
		b.limitsNs = append(b.limitsNs, h.ValueAtQuantile(percentile))
	}
	return b
}

func (b bands) of(ns int64) int {
	k := sort.Search(len(b.limitsNs), func(k int) bool { return b.limitsNs[k] >= ns })
	return min(k, len(b.limitsNs)-1)
}

// sums counts and averages all values of the histogram by band.
func (b bands) sums(h *hdrhistogram.Histogram) []reports.StageBand {
	out := make([]reports.StageBand, len(b.limitsNs))
	for k := range out {
		out[k].FromPercentile, out[k].ToPercentile = edges[k], edges[k+1]
	}
	for _, bar := range h.Distribution() {
		if bar.Count == 0 {
			continue
		}
		band := &out[b.of(bar.To)]
		n := float64(bar.Count)
		middle := (float64(bar.From) + float64(bar.To)) / 2
		band.ClientMeanNs = (band.ClientMeanNs*float64(band.Requests) + middle*n) / (float64(band.Requests) + n)
		band.Requests += uint64(bar.Count)
	}
	return out
}
