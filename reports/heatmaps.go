package reports

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/nexuscore-labs/nexus/reports/chart"
	"github.com/nexuscore-labs/nexus/reports/quantity"
)

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

// quantile is read from the bucket that holds the value: the middle of its
// integers for a time, its lower edge for a size or a number, so that 4096 bytes
// show as 4 KiB.
func (h *KernelHistogram) quantile(q float64) float64 {
	rank, seen := uint64(math.Ceil(q*float64(h.Count))), uint64(0)
	for _, b := range h.Buckets {
		if seen += b.Count; seen < rank {
			continue
		}
		if h.Unit == "ns" {
			return b.Lo + max(0, b.Hi-1-b.Lo)/2
		}
		return b.Lo
	}
	return h.Max
}

// heatmap is one chart; id is the probe and the unit of its histograms.
func (v *view) heatmap(id, point string, merged map[string][]KernelHistogram) chart.Chart {
	var probe, unitName string
	shown := map[string][]KernelHistogram{}
	low, high := math.Inf(1), math.Inf(-1)
	for _, contender := range v.Contenders {
		limit := heatRowsMax
		if contender.Role == RolePeer {
			limit = heatPeerRowsMax
		}
		for _, h := range merged[contender.Name] {
			if h.Probe+" "+h.Unit != id || !h.drawn() || len(shown[contender.Name]) == limit {
				continue
			}
			probe, unitName = h.Probe, h.Unit
			shown[contender.Name] = append(shown[contender.Name], h)
			for _, b := range h.Buckets {
				if b.Count > 0 && !h.isZero(b) {
					low, high = math.Min(low, math.Max(b.Lo, 1)), math.Max(high, b.Hi)
				}
			}
		}
	}
	if low >= high {
		return chart.Chart{}
	}
	unit, words := quantity.Of(unitName), wordsOf(probe, unitName)
	c := chart.Chart{
		Name: stem("kernel", probe, unitName), Title: words.title + ", in the kernel at " + point,
		Caption: heatCaption(unitName, words.better),
		X:       chart.Axis{Label: words.axis + " (log) →", Unit: unit, Scale: chart.Log},
		Edges:   logEdges(unit, low, high),
	}
	for _, contender := range v.Contenders {
		for _, h := range shown[contender.Name] {
			c.Heat = append(c.Heat, chart.HeatRow{
				Name: contender.Name + " · " + h.Label, Style: v.styles[contender.Name], Shares: shares(h, c.Edges), Note: h.note(unit),
			})
		}
	}
	return c
}

// drawn says whether a histogram has anything to show: a flush has no bytes.
func (h *KernelHistogram) drawn() bool { return h.Count > 0 && (h.Unit == "ns" || h.Sum > 0) }

// note says how many values there are, and where their middle and tail are.
func (h *KernelHistogram) note(unit quantity.Unit) string {
	text := fmt.Sprintf("%s × · p50 %s · p99 %s", quantity.Count.Format(float64(h.Count)), unit.Format(h.quantile(0.5)), unit.Format(h.quantile(0.99)))
	if none := h.zeros(); none > 0 {
		text += fmt.Sprintf(" · %s of 0, not drawn", quantity.Count.Format(float64(none)))
	}
	return text
}

// isZero is true of a bucket that a logarithmic axis has no place for; of a time
// it says that it was below the clock's resolution, and is drawn first.
func (h *KernelHistogram) isZero(b KernelBucket) bool { return h.Unit != "ns" && b.Hi <= 1 }

// zeros counts the values that are not drawn.
func (h *KernelHistogram) zeros() uint64 {
	n := uint64(0)
	for _, b := range h.Buckets {
		if h.isZero(b) {
			n += b.Count
		}
	}
	return n
}

func heatCaption(unitName, better string) string {
	parts := []string{"Darker is more frequent (log scale, per row); rows by total time."}
	if unitName != "ns" {
		parts = []string{"Darker is more frequent (log scale, per row); rows by total. p50 and p99 are the lower edges of their buckets: at most a sixteenth too low."}
	}
	if better != "" {
		parts = append(parts, better)
	}
	return strings.Join(parts, " ")
}

// logEdges are eight columns per factor of ten; of bytes, two per factor of two,
// so that powers of two are edges.
func logEdges(unit quantity.Unit, low, high float64) []float64 {
	base, columns := 10.0, 8.0
	if unit == quantity.Bytes {
		base, columns = 2, 2
	}
	place := func(v float64) float64 { return math.Log(v) / math.Log(base) * columns }
	first, last := math.Floor(place(low)+1e-9), math.Ceil(place(high)-1e-9)
	var edges []float64
	for i := first; i <= last; i++ {
		edges = append(edges, math.Pow(base, i/columns))
	}
	return edges
}

// shares spreads the buckets over the columns, in proportion to their overlap.
func shares(h KernelHistogram, edges []float64) []float64 {
	out := make([]float64, len(edges)-1)
	for _, b := range h.Buckets {
		if h.isZero(b) {
			continue
		}
		lo, hi := math.Max(b.Lo, edges[0]), math.Max(b.Hi, edges[0]*1.000001)
		for i := range out {
			if overlap := math.Min(hi, edges[i+1]) - math.Max(lo, edges[i]); overlap > 0 {
				out[i] += float64(b.Count) / float64(h.Count) * overlap / (hi - lo)
			}
		}
	}
	return out
}
