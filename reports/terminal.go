package reports

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/HdrHistogram/hdrhistogram-go"
	pretty "github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/nexuscore-labs/nexus/reports/quantity"
)

// TerminalOptions say how Summary may write. The zero value is plain text, 80
// columns wide.
type TerminalOptions struct {
	Colour bool // ignored when NO_COLOR is set in the environment
	Width  int  // columns; 0 is 80
}

const (
	defaultWidth = 80
	narrowest    = 40
)

// Summary writes the outcome for people: a table of the contenders at each
// headline point with a sparkline of its latency distribution (log scale, from
// the fastest to the slowest answer of all contenders), the thresholds, and the
// verdict with its reasons.
func Summary(w io.Writer, r *Result, opts TerminalOptions) error {
	v, err := newView(r)
	if err != nil {
		return fmt.Errorf("summary: %w", err)
	}
	t := newTerminal(w, opts)
	t.line(t.paint(text.Bold, v.heading()))
	t.wrapped("", v.Question)
	for _, point := range v.headlines() {
		t.line("")
		t.contenders(v, point)
	}
	for _, line := range v.stageLines() {
		t.wrapped("where the time went: ", line)
	}
	t.thresholds("gate", v.Gates)
	t.thresholds("lesson", v.LessonThresholds)
	t.line("")
	if len(v.Claims) > 0 {
		t.line("claims: " + claimCounts(v.Claims))
	}
	t.wrapped("oracle: ", fmt.Sprintf("%d checked, %d wrong, %d lost, %d phantom", v.Oracle.Checked, v.Oracle.Wrong, v.Oracle.Lost, v.Oracle.Phantom))
	for _, warning := range v.AllWarnings() {
		t.wrapped("warning: ", warning)
	}
	for _, not := range v.NotMeasured {
		t.wrapped("not measured: ", not)
	}
	t.line("")
	t.line(t.paint(statusColour(string(v.Verdict)), verdictText(v.Verdict)))
	for _, reason := range v.Reasons {
		t.wrapped("  - ", reason)
	}
	return t.err
}

type terminal struct {
	w      io.Writer
	colour bool
	width  int
	err    error // the first one of w
}

func newTerminal(w io.Writer, opts TerminalOptions) *terminal {
	t := &terminal{w: w, colour: opts.Colour && os.Getenv("NO_COLOR") == "", width: opts.Width}
	if t.width == 0 {
		t.width = defaultWidth
	}
	t.width = max(narrowest, t.width)
	return t
}

func (t *terminal) line(s string) {
	if t.err == nil {
		_, t.err = io.WriteString(t.w, s+"\n")
	}
}

// wrapped writes words within the width; further lines are indented like the
// text of the first.
func (t *terminal) wrapped(prefix, s string) {
	indent := strings.Repeat(" ", len(prefix))
	for i, part := range strings.Split(text.WrapSoft(s, t.width-len(prefix)), "\n") {
		if i == 0 {
			t.line(prefix + strings.TrimRight(part, " "))
			continue
		}
		t.line(indent + strings.TrimRight(part, " "))
	}
}

func (t *terminal) paint(colour text.Color, s string) string {
	if !t.colour {
		return s
	}
	return fmt.Sprintf("\x1b[%dm%s\x1b[0m", int(colour), s)
}

func statusColour(status string) text.Color {
	switch status {
	case "pass", "held", "improved":
		return text.FgGreen
	case "fail", "not_held", "refuted", "regressed":
		return text.FgRed
	case "inconclusive", "invalid", "can't tell":
		return text.FgYellow
	}
	return text.Faint
}

func roleColour(role string) text.Color {
	switch role {
	case RoleSubject:
		return text.FgBlue
	case RoleBaseline:
		return text.FgRed
	}
	return text.FgGreen
}

func (t *terminal) table(header pretty.Row, rows []pretty.Row, numeric map[int]bool) {
	out := pretty.NewWriter()
	out.SetStyle(pretty.StyleLight)
	out.Style().Options = pretty.Options{SeparateHeader: true}
	out.Style().Size.WidthMax = t.width
	out.Style().Format.Header = text.FormatDefault
	out.Style().Box.PaddingLeft, out.Style().Box.PaddingRight = "", "  "
	out.AppendHeader(header)
	out.AppendRows(rows)
	var columns []pretty.ColumnConfig
	for i := range header {
		align := text.AlignLeft
		if numeric[i] {
			align = text.AlignRight
		}
		columns = append(columns, pretty.ColumnConfig{Number: i + 1, Align: align, AlignHeader: align})
	}
	out.SetColumnConfigs(columns)
	for row := range strings.Lines(out.Render()) {
		t.line(strings.TrimRight(row, " \n"))
	}
}

// widths of the contender table's parts; it drops what doesn't fit, the least
// needed first.
const (
	columnsForRates = 31 // throughput, p50 and p99
	columnsForP999  = 9
	columnsForSpark = 14 // the least that shows a shape
	columnsForRole  = 11
)

func (t *terminal) contenders(v *view, point string) {
	heading := "at " + point
	names := 0
	for _, c := range v.Contenders {
		mark := ""
		if p := v.results[place{c.Name, point}]; p != nil {
			mark = overloadMark(p)
		}
		names = max(names, len(c.Name)+len(mark))
	}
	left := t.width - columnsForRates - 2 - max(names, len(heading))
	var role, p999, spark bool
	if more := names + columnsForRole - max(names, len(heading)); left >= more {
		role = true
		left -= max(more, 0)
	}
	if p999 = left >= columnsForP999; p999 {
		left -= columnsForP999
	}
	spark = left >= columnsForSpark
	header := pretty.Row{heading, "throughput", "p50", "p99"}
	if p999 {
		header = append(header, "p99.9")
	}
	if spark {
		header = append(header, "latency (log)")
	}
	low, high := v.latencyRange(point)
	var rows []pretty.Row
	for _, c := range v.Contenders {
		at := place{c.Name, point}
		p := v.results[at]
		if p == nil {
			continue
		}
		row := append(pretty.Row{t.contenderName(c, role) + overloadMark(p)}, ratesOf(p, p999)...)
		if spark {
			row = append(row, sparkline(v.latency[at], low, high, left-2))
		}
		rows = append(rows, row)
	}
	t.table(header, rows, map[int]bool{1: true, 2: true, 3: true, 4: p999})
	t.seldomOverloaded(v, point)
}

func (t *terminal) contenderName(c ContenderResult, role bool) string {
	name := t.paint(roleColour(c.Role), c.Name)
	if role {
		name += " (" + c.Role + ")"
	}
	return name
}

func overloadMark(p *PointResult) string {
	if !p.overloaded() {
		return ""
	}
	return " overloaded"
}

// seldomOverloaded says which contenders could not bear the rate in some trials,
// in too few to call the point itself overloaded.
func (t *terminal) seldomOverloaded(v *view, point string) {
	for _, c := range v.Contenders {
		if p := v.results[place{c.Name, point}]; p != nil && p.Overloaded > 0 && !p.overloaded() {
			t.wrapped("", fmt.Sprintf("%s was overloaded in %d of %s", c.Name, p.Overloaded, quantity.Counted(p.Trials, "trial")))
		}
	}
}

func ratesOf(p *PointResult, p999 bool) []any {
	row := []any{"–"}
	if p.ThroughputPerS != nil {
		row[0] = quantity.PerS.Format(p.ThroughputPerS.Center)
	}
	names := []string{"p50", "p99"}
	if p999 {
		names = append(names, "p999")
	}
	for _, name := range names {
		if value, measured := p.LatencyNs[name]; measured {
			row = append(row, quantity.Ns.Format(value.Center))
		} else {
			row = append(row, "–") // not measured
		}
	}
	return row
}

func (v *view) latencyRange(point string) (low, high int64) {
	for _, c := range v.Contenders {
		if h := v.latency[place{c.Name, point}]; h != nil {
			if low == 0 || h.Min() < low {
				low = h.Min()
			}
			high = max(high, h.Max())
		}
	}
	return max(1, low), high
}

// widthForWords is the width below which a threshold shows its mark only.
const widthForWords = 66

func (t *terminal) thresholds(class string, all []ThresholdResult) {
	if len(all) == 0 {
		return
	}
	t.line("")
	var rows []pretty.Row
	for _, r := range all {
		mark := statusMarks[r.Status]
		if t.width >= widthForWords {
			mark += " " + strings.ReplaceAll(r.Status, "_", " ")
		}
		rows = append(rows, pretty.Row{t.paint(statusColour(r.Status), mark), r.ID, r.Quantity().FormatPtr(r.Value), r.LimitText()})
	}
	t.table(pretty.Row{class, "", "measured", "limit"}, rows, map[int]bool{2: true, 3: true})
}

func claimCounts(claims []ClaimResult) string {
	count := map[string]int{}
	for _, c := range claims {
		count[c.Verdict]++
	}
	var parts []string
	for _, verdict := range claimVerdicts {
		if count[verdict] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", count[verdict], strings.ReplaceAll(verdict, "_", " ")))
		}
	}
	return strings.Join(parts, ", ")
}

const sparkSteps = "▁▂▃▄▅▆▇█"

// sparkline draws how the values of h spread between low and high on a log
// scale, one rune per column; a column without any value is a space.
func sparkline(h *hdrhistogram.Histogram, low, high int64, columns int) string {
	columns = min(columns, 48)
	if h == nil || h.TotalCount() == 0 || high <= low || columns < 1 {
		return quantity.NotMeasured
	}
	counts, most := spread(h, low, high, columns), 0.0
	for _, n := range counts {
		most = max(most, n)
	}
	steps := []rune(sparkSteps)
	line := make([]rune, columns)
	for i, n := range counts {
		line[i] = ' '
		if n > 0 {
			line[i] = steps[min(len(steps)-1, int(n/most*float64(len(steps))))]
		}
	}
	return string(line)
}
