package reports

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/nexuscore-labs/nexus/reports/quantity"
	"github.com/nexuscore-labs/nexus/reports/stats"
)

// quantityOf is how a metric's numbers are shown. A share is a ratio of which 1
// is the whole: it shows in percent.
func quantityOf(metric, unit string) quantity.Unit {
	of := quantity.Of(unit)
	if of == quantity.Ratio && strings.HasSuffix(metric, "_share") {
		return quantity.Share
	}
	return of
}

// Quantity is how the threshold's numbers are shown.
func (r *ThresholdResult) Quantity() quantity.Unit { return quantityOf(r.Metric, r.Unit) }

// LimitText is the limit as people read it, such as "≤ 1 ms".
func (r *ThresholdResult) LimitText() string {
	return compareSign(r.Compare) + " " + r.Quantity().Format(r.Limit)
}

// WhyNot says of a number on the wrong side of the limit that it is there.
func (r *ThresholdResult) WhyNot() string {
	return fmt.Sprintf("%s is not %s", r.Quantity().FormatPtr(r.Value), r.LimitText())
}

// WhyUnsettled says of an interval on both sides of the limit that it is there.
func (r *ThresholdResult) WhyUnsettled() string {
	return fmt.Sprintf("the interval %s holds the limit %s", bounds(r.Quantity(), r.CI), r.Quantity().Format(r.Limit))
}

// confidenceWords are "95% interval", or what intervals of so few trials are
// instead: five say no more than 94%.
func confidenceWords(all []stats.Interval) string {
	if len(all) == 0 {
		return fmt.Sprintf("%.0f%% interval", 100*stats.Confidence)
	}
	by := func(a, b stats.Interval) int { return cmp.Compare(a.Confidence, b.Confidence) }
	least, most := slices.MinFunc(all, by), slices.MaxFunc(all, by)
	if least.Confidence == most.Confidence {
		return fmt.Sprintf("%.0f%% interval", 100*least.Confidence)
	}
	return fmt.Sprintf("%.0f%% to %.0f%% interval (%d to %d trials)", 100*least.Confidence, 100*most.Confidence, least.N, most.N)
}

// throughputs are the valid intervals of all contenders at these points.
func (v *view) throughputs(points ...string) []stats.Interval {
	var all []stats.Interval
	for _, point := range points {
		for _, c := range v.Contenders {
			if p := v.results[place{c.Name, point}]; p != nil && p.ThroughputPerS != nil && p.ThroughputPerS.Valid() {
				all = append(all, *p.ThroughputPerS)
			}
		}
	}
	return all
}

// names are those of a curve's points.
func (c *curve) names() []string {
	var all []string
	for _, p := range c.points {
		all = append(all, p.name)
	}
	return all
}
