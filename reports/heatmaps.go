package reports

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/nexuscore-labs/nexus/reports/chart"
	"github.com/nexuscore-labs/nexus/reports/quantity"
)

// probeTitles names the kernel probes for people; others show under their own
// name.
var probeTitles = map[string]string{
	"syscall":  "Time in system calls",
	"runqueue": "Time waiting for a CPU",
	"offcpu":   "Time off the CPU",
	"block":    "Block I/O, issue to completion",
	"uring":    "io_uring operations, submit to completion",
	"fault":    "Page faults",
}

// rows of one contender in one heatmap.
const (
	heatRowsMax     = 5
	heatPeerRowsMax = 2
)

// heatmaps are one chart per kernel probe, at the first headline point.
func (v *view) heatmaps() []chart.Chart {
	names := v.headlines()
	if len(names) == 0 {
		return nil
	}
	var probes []string
	merged := map[string][]KernelHistogram{} // by contender
	for _, contender := range v.Contenders {
		merged[contender.Name] = v.kernel(place{contender.Name, names[0]})
		for _, h := range merged[contender.Name] {
			if id := h.Probe + " " + h.Unit; !slices.Contains(probes, id) {
				probes = append(probes, id)
			}
		}
	}
	charts := make([]chart.Chart, 0, len(probes))
	for _, id := range probes {
		charts = append(charts, v.heatmap(id, names[0], merged))
	}
	return charts
}

// kernel is the sum of each kernel histogram over the valid trials at a place.
func (v *view) kernel(at place) []KernelHistogram {
	var all []KernelHistogram
	for _, t := range v.trials[at] {
		for _, h := range t.Kernel {
			i := slices.IndexFunc(all, func(o KernelHistogram) bool {
				return o.Probe == h.Probe && o.Label == h.Label && o.Unit == h.Unit
			})
			if i < 0 {
				h.Buckets = slices.Clone(h.Buckets)
				all = append(all, h)
				continue
			}
			all[i].merge(h)
		}
	}
	slices.SortStableFunc(all, func(a, b KernelHistogram) int { return cmp.Compare(b.Sum, a.Sum) })
	return all
}

func (h *KernelHistogram) merge(o KernelHistogram) {
	h.Count, h.Sum = h.Count+o.Count, h.Sum+o.Sum
	h.Buckets = append(h.Buckets, o.Buckets...)
	slices.SortStableFunc(h.Buckets, func(a, b KernelBucket) int { return cmp.Compare(a.Lo, b.Lo) })
	sum := h.Buckets[:0]
	for _, b := range h.Buckets {
		if last := len(sum) - 1; last >= 0 && sum[last].Lo == b.Lo && sum[last].Hi == b.Hi {
			sum[last].Count += b.Count
			continue
		}
		sum = append(sum, b)
	}
	h.Buckets = sum
	h.P50, h.P99, h.Max = h.quantile(0.5), h.quantile(0.99), math.Max(h.Max, o.Max)
}

// quantile is the upper edge of the bucket that holds the value.
func (h *KernelHistogram) quantile(q float64) float64 {
	rank, seen := uint64(math.Ceil(q*float64(h.Count))), uint64(0)
	for _, b := range h.Buckets {
		if seen += b.Count; seen >= rank {
			return b.Hi
		}
	}
	return h.Max
}

func (v *view) heatmap(id, point string, merged map[string][]KernelHistogram) chart.Chart {
	var probe, unitName string
	c := chart.Chart{}
	shown := map[string][]KernelHistogram{}
	low, high := math.Inf(1), math.Inf(-1)
	for _, contender := range v.Contenders {
		limit := heatRowsMax
		if contender.Role == RolePeer {
			limit = heatPeerRowsMax
		}
		for _, h := range merged[contender.Name] {
			if h.Probe+" "+h.Unit != id || h.Count == 0 || len(shown[contender.Name]) == limit {
				continue
			}
			probe, unitName = h.Probe, h.Unit
			shown[contender.Name] = append(shown[contender.Name], h)
			for _, b := range h.Buckets {
				if b.Count > 0 {
					low, high = math.Min(low, math.Max(b.Lo, 1)), math.Max(high, b.Hi)
				}
			}
		}
	}
	if low >= high {
		return c
	}
	title := probeTitles[probe]
	if title == "" {
		title = probe
	}
	unit := quantity.Of(unitName)
	c = chart.Chart{
		Name: stem("kernel", probe, unitName), Title: title + ", in the kernel at " + point,
		Caption: "Darker is more frequent (log scale, per row); rows by total time. Further left is better.",
		X:       chart.Axis{Label: unitName + " (log)", Unit: unit, Scale: chart.Log},
		Edges:   logEdges(low, high),
	}
	if unitName == "ns" {
		c.X.Label = "duration (log)"
	}
	for _, contender := range v.Contenders {
		for _, h := range shown[contender.Name] {
			c.Heat = append(c.Heat, chart.HeatRow{
				Name: contender.Name + " · " + h.Label, Style: v.styles[contender.Name], Shares: shares(h, c.Edges),
				Note: fmt.Sprintf("%s × · p50 %s · p99 %s", quantity.Count.Format(float64(h.Count)), unit.Format(h.P50), unit.Format(h.P99)),
			})
		}
	}
	return c
}

// logEdges are eight columns per factor of ten.
func logEdges(low, high float64) []float64 {
	const perDecade = 8
	first, last := math.Floor(math.Log10(low)*perDecade), math.Ceil(math.Log10(high)*perDecade)
	var edges []float64
	for i := first; i <= last; i++ {
		edges = append(edges, math.Pow(10, i/perDecade))
	}
	return edges
}

// shares spreads the buckets over the columns, in proportion to their overlap.
func shares(h KernelHistogram, edges []float64) []float64 {
	out := make([]float64, len(edges)-1)
	for _, b := range h.Buckets {
		lo, hi := math.Max(b.Lo, edges[0]), math.Max(b.Hi, edges[0]*1.000001)
		for i := range out {
			if overlap := math.Min(hi, edges[i+1]) - math.Max(lo, edges[i]); overlap > 0 {
				out[i] += float64(b.Count) / float64(h.Count) * overlap / (hi - lo)
			}
		}
	}
	return out
}
