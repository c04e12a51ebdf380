package scenarios

import (
	"fmt"
	"time"

	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/reports/stats"
	"github.com/nexuscore-labs/nexus/scenarios/toggle"
)

// overheadMetrics sums up what the probes cost, one metric for each way of asking;
// missing says what could not be told. The first is what thresholds limit: the CPU
// time per operation, which sees any cost, while throughput sees it only as far as
// the CPU is the limit.
func (b *board) overheadMetrics(o *Overhead) (metrics []reports.Metric, missing []string) {
	c := b.cell(o.Contender, o.Point+costingSuffix)
	var costs []*reports.ProbeCost
	if c != nil {
		for _, round := range rounds(c.byRound) {
			if cost := c.byRound[round].ProbeCost; cost != nil {
				costs = append(costs, cost)
			}
		}
	}
	if len(costs) == 0 {
		return nil, []string{"the cost of the probes: no valid trial in which they were switched on and off"}
	}
	add := func(name, doc string, series [][]float64) {
		ci := toggle.Effect(series...)
		if !ci.Valid() {
			missing = append(missing, fmt.Sprintf("%s: %d blocks of slices say too little", name, ci.N))
			return
		}
		metrics = append(metrics, reports.Metric{Name: name, Value: ci.Center, CI: &ci, Unit: "ratio", Source: "trials", Doc: doc})
	}
	slice := time.Duration(costs[0].SliceNs)
	how := fmt.Sprintf("switched on and off in slices of %s, %d blocks of four in %d trials", slice, pairCount(costs, switchedPairs), len(costs))
	where := fmt.Sprintf("%s at %s", o.Contender, o.Point)
	add("probe_overhead_ratio",
		fmt.Sprintf("CPU time of %s per operation with the kernel probes over that with the probes off: %s. The process used %.0f%% of a CPU.", where, how, 100*share(costs)),
		seriesOf(costs, switchedPairs, cpuRatio))
	add("probe_overhead_throughput_ratio", "The same for throughput, without the probes over with them.",
		seriesOf(costs, switchedPairs, throughputRatio))
	attachedHow := fmt.Sprintf("%d blocks of four slices of %s", pairCount(costs, attachedPairs), attachedSlice)
	add("probe_attached_ratio", "The same for probes that are attached and off over none attached: CPU time per operation, "+attachedHow+".",
		seriesOf(costs, attachedPairs, cpuRatio))
	if metric, known := accountedMetric(costs); known {
		metrics = append(metrics, metric)
	} else {
		missing = append(missing, "the kernel's own account of the probes' run time: it keeps none here")
	}
	return metrics, missing
}

// accountedMetric is the second opinion: run times as BPF's statistics have them.
func accountedMetric(costs []*reports.ProbeCost) (reports.Metric, bool) {
	var ratios []float64
	for _, c := range costs {
		if c.Accounted != nil {
			ratios = append(ratios, c.Accounted.Ratio())
		}
	}
	if len(ratios) == 0 {
		return reports.Metric{}, false
	}
	m := reports.Metric{Name: "probe_overhead_accounted_ratio", Value: stats.Median(ratios), Unit: "ratio", Source: "trials",
		Doc: "The same by the kernel's account: run time of the probes' programs that is more when on than when off, in whatever process it was spent, over the CPU time of the contender. Perf events and what programs do to caches are not in it."}
	if ci := stats.MedianCI(ratios, 0); ci.Valid() {
		m.CI = &ci
	}
	return m, true
}

func switchedPairs(c *reports.ProbeCost) []reports.CostPair { return c.Switched }
func attachedPairs(c *reports.ProbeCost) []reports.CostPair { return c.Attached }
func cpuRatio(p reports.CostPair) float64                   { return p.CPU }
func throughputRatio(p reports.CostPair) float64            { return p.Throughput }

func seriesOf(costs []*reports.ProbeCost, pairs func(*reports.ProbeCost) []reports.CostPair, ratio func(reports.CostPair) float64) [][]float64 {
	var out [][]float64
	for _, c := range costs {
		var series []float64
		for _, p := range pairs(c) {
			series = append(series, ratio(p))
		}
		out = append(out, series)
	}
	return out
}

func pairCount(costs []*reports.ProbeCost, pairs func(*reports.ProbeCost) []reports.CostPair) int {
	n := 0
	for _, c := range costs {
		n += len(pairs(c))
	}
	return n
}

func share(costs []*reports.ProbeCost) float64 {
	var shares []float64
	for _, c := range costs {
		shares = append(shares, c.CPUShare)
	}
	return stats.Median(shares)
}
