package reports

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/nexuscore-labs/nexus/reports/chart"
)

// Comparisons are of one first run, A, with others, B, C and so on.
type Comparisons []*Comparison

// letter names the i-th run: A, B, C and so on.
func letter(i int) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	if i < len(letters) {
		return letters[i : i+1]
	}
	return fmt.Sprintf("run %d", i+1)
}

// runs are the names of all, A first.
func (cs Comparisons) runs() []string {
	names := []string{"A: " + cs[0].A}
	for i, c := range cs {
		names = append(names, letter(i+1)+": "+c.B)
	}
	return names
}

// tables are those of all comparisons. Between more than two runs each says in
// its title which it compares.
func (cs Comparisons) tables() []table {
	var tables []table
	for i, c := range cs {
		changes, unlike := c.table(), c.differenceTable()
		if len(cs) > 1 {
			other := letter(i + 1)
			changes.Title += " from A to " + other
			unlike.Title += ": A and " + other
			changes.ID += "-" + strings.ToLower(other)
			unlike.ID += "-" + strings.ToLower(other)
			for k, head := range map[int]string{4: other, 5: other + " / A"} {
				changes.Columns[k].Name = head
			}
		}
		if len(c.Forced) > 0 {
			tables = append(tables, unlike)
		}
		tables = append(tables, changes)
	}
	return tables
}

// Markdown is all comparisons in one text.
func (cs Comparisons) Markdown() []byte {
	if len(cs) == 1 {
		return cs[0].Markdown()
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "# %s\n\n", markdownText(cs[0].heading()))
	for _, run := range cs.runs() {
		fmt.Fprintf(&out, "%s\n\n", markdownText(run))
	}
	for _, t := range cs.tables() {
		markdownTable(&out, t)
	}
	for i, c := range cs {
		for _, not := range c.NotMeasured {
			fmt.Fprintf(&out, "- not measured in A or %s: %s\n", letter(i+1), markdownText(not))
		}
	}
	return out.Bytes()
}

// HTML is a self-contained page with the tables and the curves of all runs laid
// over each other: for each contender latency by percentile and the latency
// distribution at the headline points, and latency against throughput.
func (cs Comparisons) HTML() ([]byte, error) {
	figures, err := cs.overlays()
	if err != nil {
		return nil, fmt.Errorf("compare: %w", err)
	}
	var summaries, not []string
	for i, c := range cs {
		summary := c.summary()
		if len(cs) > 1 {
			summary = letter(i+1) + " against A: " + summary
		}
		if settled := c.settled(); settled != "" {
			summary += ". " + settled
		}
		summaries, not = append(summaries, summary), append(not, c.NotMeasured...)
	}
	return renderHTML("compare", struct {
		Heading         string
		Runs, Summaries []string
		Tables          []table
		Figures         []chart.Chart
		NotMeasured     []string
	}{cs[0].heading(), cs.runs(), summaries, cs.tables(), figures, not})
}

func (cs Comparisons) overlays() ([]chart.Chart, error) {
	sides := [][]*Result{cs[0].before}
	for _, c := range cs {
		sides = append(sides, c.after)
	}
	var views []*view
	for _, runs := range sides {
		v, err := pooledView(runs)
		if err != nil {
			return nil, err
		}
		views = append(views, v)
	}
	var charts []chart.Chart
	for _, point := range views[0].headlines() {
		charts = append(charts, overlay(views, "overlay", "Latency of %s at "+point, func(v *view) chart.Chart { return v.percentileCurve(point) }, point)...)
		charts = append(charts, overlay(views, "overlay-cdf", "Latency distribution of %s at "+point, func(v *view) chart.Chart { return v.cdf(point) }, point)...)
	}
	for _, over := range views[0].curves() {
		charts = append(charts, overlay(views, "overlay-load", "p99 latency of %s against throughput, by "+words(over.name), func(v *view) chart.Chart {
			for _, same := range v.curves() {
				if same.name == over.name && same.closed == over.closed {
					return v.throughputLatency(same)
				}
			}
			return chart.Chart{}
		}, over.name)...)
	}
	return charts, nil
}

// overlay is one chart per contender that two or more runs have, with a line of
// each run: A dashed, B solid, others in patterns of their own.
func overlay(views []*view, name, title string, draw func(*view) chart.Chart, of string) []chart.Chart {
	drawn := make([]chart.Chart, len(views))
	for i, v := range views {
		drawn[i] = draw(v)
	}
	var charts []chart.Chart
	for _, contender := range views[0].Contenders {
		one := drawn[0]
		one.Name, one.Title = stem(name, contender.Name, of), fmt.Sprintf(title, contender.Name)
		one.Caption, one.Lines, one.Legend = "A dashed, B solid. "+one.Caption, nil, true
		if len(views) > 2 {
			one.Caption = "A dashed, B solid, others dotted. " + drawn[0].Caption
		}
		for side, c := range drawn {
			for _, l := range c.Lines {
				if l.Name == contender.Name {
					l.Name, l.Style.Variant = letter(side), variantOf(side)
					one.Lines = append(one.Lines, l)
				}
			}
		}
		if len(one.Lines) >= 2 {
			charts = append(charts, one)
		}
	}
	return charts
}

// variantOf is dashed for A, solid for B, and another pattern for each other.
func variantOf(side int) int {
	if side < 2 {
		return 1 - side
	}
	return side
}
