package reports

import (
	"fmt"
	"slices"

	"github.com/nexuscore-labs/nexus/reports/chart"
)

// figureGroup are charts that are read together.
type figureGroup struct {
	Title  string
	Charts []chart.Chart
}

// figures are all charts of a result, in the order of reading. Charts without
// anything measured are left out.
func (v *view) figures() []chart.Chart {
	var all []chart.Chart
	for _, g := range v.figureGroups() {
		all = append(all, g.Charts...)
	}
	return all
}

// figureGroups leave out the charts of speed where no speed is the contender's.
func (v *view) figureGroups() []figureGroup {
	var groups []figureGroup
	if !v.generatorLimits() {
		groups = v.speedGroups()
	}
	stages := figureGroup{Title: "Where the time went"}
	for _, point := range v.staged() {
		stages.Charts = append(stages.Charts, v.stageBars(point))
	}
	groups = append(groups, stages, figureGroup{"In the kernel", v.heatmaps()})
	used := map[string]int{}
	for i := range groups {
		g := &groups[i]
		g.Charts = slices.DeleteFunc(g.Charts, func(c chart.Chart) bool { return c.Empty() })
		for k := range g.Charts {
			c := &g.Charts[k]
			if used[c.Name]++; used[c.Name] > 1 {
				c.Name = fmt.Sprintf("%s-%d", c.Name, used[c.Name]) // two sweeps over the same thing
			}
		}
	}
	return slices.DeleteFunc(groups, func(g figureGroup) bool { return len(g.Charts) == 0 })
}

// speedGroups are throughput and latency: at each headline point, and over what
// the sweep varies.
func (v *view) speedGroups() []figureGroup {
	var groups []figureGroup
	for _, point := range v.headlines() {
		groups = append(groups, figureGroup{"At " + point, []chart.Chart{
			v.throughputBars(point), v.percentileCurve(point), v.cdf(point), v.timelineRate(point), v.timelineP99(point),
		}})
	}
	sweep := figureGroup{Title: "Over the sweep"}
	for _, c := range v.curves() {
		sweep.Charts = append(sweep.Charts, v.scaling(c), v.throughputLatency(c))
	}
	return append(groups, sweep)
}

// generatorLimits says that the run itself warns of its rates.
func (v *view) generatorLimits() bool { return slices.Contains(v.Warnings, GeneratorLimitsWarning) }
