package reports

import (
	"bytes"
	"fmt"
	"io"
	"slices"

	pretty "github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/nexuscore-labs/nexus/reports/quantity"
)

func (c *Comparison) table() table {
	t := table{ID: "changes", Title: "What changed", Note: "Medians over trials; the ratio is B over A with its 95% bootstrap interval. The rows that the gates judge come first. " + c.wordsNote(),
		Columns: []column{{"contender", false}, {"at", false}, {"measure", false}, {"A", true}, {"B", true}, {"B / A", true}, {"p", true}, {"verdict", false}, {"needs", true}}}
	for _, change := range c.headlineFirst() {
		unit := quantity.Unit(change.Unit)
		t.Rows = append(t.Rows, []cell{{change.Contender, change.Role}, plain(change.Point), {change.measureName(), "tight"},
			plain(center(unit, change.Before)), plain(center(unit, change.After)), interval(quantity.Ratio, change.Ratio),
			number(quantity.Count, change.PAdjusted), status(change.Verdict), plain(change.trialsToTell())})
	}
	return t
}

func (c *Change) measureName() string {
	m, _ := measureNamed(c.Metric)
	return m.arrow()
}

// headlineFirst are the changes in the order of their interest.
func (c *Comparison) headlineFirst() []Change {
	changes := slices.Clone(c.Changes)
	slices.SortStableFunc(changes, func(a, b Change) int {
		switch {
		case a.Headline == b.Headline:
			return 0
		case a.Headline:
			return -1
		}
		return 1
	})
	return changes
}

func (c *Comparison) differenceTable() table {
	t := table{ID: "forced", Title: "Not alike", Note: "The comparison was forced: absolute numbers of unlike runs may differ for any of these reasons.",
		Columns: []column{{"field", false}, {"A", false}, {"B", false}}}
	for _, d := range c.Forced {
		t.Rows = append(t.Rows, []cell{plain(d.Field), plain(d.A), plain(d.B)})
	}
	return t
}

// Markdown is the comparison for a pull request or a file.
func (c *Comparison) Markdown() []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "# %s\n\nA: %s\n\nB: %s\n\n", markdownText(c.heading()), markdownText(c.A), markdownText(c.B))
	markdownTable(&out, c.differenceTable())
	markdownTable(&out, c.table())
	for _, not := range c.NotMeasured {
		fmt.Fprintf(&out, "- not measured: %s\n", markdownText(not))
	}
	return out.Bytes()
}

func (c *Comparison) heading() string {
	return fmt.Sprintf("Day %d: %s, compared", c.before[0].Day, c.before[0].Title)
}

// Terminal writes the comparison for people.
func (c *Comparison) Terminal(w io.Writer, opts TerminalOptions) error {
	t := newTerminal(w, opts)
	t.line(t.paint(text.Bold, c.heading()))
	t.wrapped("A: ", c.A)
	t.wrapped("B: ", c.B)
	for _, d := range c.Forced {
		t.wrapped("not alike: ", fmt.Sprintf("%s: %q against %q", d.Field, d.A, d.B))
	}
	t.line("")
	var rows []pretty.Row
	headline := true
	for _, change := range c.headlineFirst() {
		if headline && !change.Headline && len(rows) > 0 {
			rows = append(rows, pretty.Row{"others:"})
		}
		headline = change.Headline
		rows = append(rows, pretty.Row{t.paint(roleColour(change.Role), change.Contender), change.Point, change.measureName(),
			center(quantity.Unit(change.Unit), change.Before), center(quantity.Unit(change.Unit), change.After), percent(change.Ratio),
			t.paint(statusColour(change.Verdict), statusMarks[change.Verdict]+" "+change.Verdict), change.trialsToTell()})
	}
	t.table(pretty.Row{"contender", "at", "measure", "A", "B", "change", "verdict", "needs"}, rows, map[int]bool{3: true, 4: true, 5: true, 7: true})
	t.line("")
	for _, not := range c.NotMeasured {
		t.wrapped("not measured: ", not)
	}
	t.wrapped("", c.summary())
	t.wrapped("", c.wordsNote())
	if settled := c.settled(); settled != "" {
		t.wrapped("", settled)
	}
	return t.err
}

func center(unit quantity.Unit, i *Interval) string {
	if i == nil {
		return "–"
	}
	return unit.Format(i.Center)
}

// percent is a ratio as a change with half its interval's width.
// spreadMax is the widest interval that is shown as a change and its half width; of
// a wider one the middle says nothing.
const spreadMax = 1

func percent(ratio *Interval) string {
	if ratio == nil {
		return "–"
	}
	if half := (ratio.Hi - ratio.Lo) / 2; half > spreadMax {
		return fmt.Sprintf("%.2g× to %.2g×", ratio.Lo, ratio.Hi)
	}
	return fmt.Sprintf("%+.1f%% ±%.1f", 100*(ratio.Center-1), 50*(ratio.Hi-ratio.Lo))
}

// HTML is Comparisons.HTML of this comparison alone.
func (c *Comparison) HTML() ([]byte, error) { return Comparisons{c}.HTML() }

// pooledView is the view of the trials of several alike runs.
func pooledView(runs []*Result) (*view, error) {
	pooled := *runs[0]
	pooled.Trials = nil
	for _, r := range runs {
		pooled.Trials = append(pooled.Trials, r.Trials...)
	}
	return newView(&pooled)
}
