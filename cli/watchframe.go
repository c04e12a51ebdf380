package cli

import (
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nexuscore-labs/nexus/reports/quantity"
	"github.com/nexuscore-labs/nexus/scenarios"
)

// frame is one picture of a run, at most height lines of at most width columns.
type frame struct {
	s             *watchState
	now           time.Time
	width, height int
	colour        bool
	dead          bool // the run was killed
	lines         []string
}

// ANSI colours, by meaning.
const (
	paintBold   = "1"
	paintFaint  = "2"
	paintGood   = "32"
	paintBad    = "31"
	paintUnsure = "33"
	paintBar    = "36"
)

func (f *frame) paint(code, text string) string {
	if !f.colour || code == "" || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// add cuts the text to the width and then paints it, so that no escape is cut.
func (f *frame) add(code, text string) {
	f.lines = append(f.lines, f.paint(code, cut(text, f.width)))
}

func cut(text string, columns int) string {
	if utf8.RuneCountInString(text) <= columns {
		return text
	}
	return string([]rune(text)[:max(0, columns-1)]) + "…"
}

// split breaks a text at the last space before the width.
func split(text string, columns int) (first, rest string) {
	runes := []rune(text)
	if len(runes) <= columns {
		return text, ""
	}
	first = string(runes[:columns])
	if space := strings.LastIndexByte(first, ' '); space > 0 {
		first = first[:space]
	}
	return first, strings.TrimSpace(text[len(first):])
}

// render draws the run. What matters least is left out first when the terminal
// is low: events, stages, then contenders.
func (s *watchState) render(now time.Time, width, height int, colour bool) []string {
	f := &frame{s: s, now: now, width: max(width, 20), height: max(height, 5), colour: colour, dead: s.dead()}
	f.head()
	f.current()
	f.table(f.room(len(s.contenders)+1, 0))
	if len(s.gates) > 0 && f.left() >= 4 {
		f.gates(min(len(s.gates), f.left()-2))
	}
	if len(s.stages) > 0 && f.left() >= len(s.stages)+2 {
		f.stages()
	}
	if f.left() >= 3 && len(s.events) > 0 {
		f.events(f.left() - 2)
	}
	return f.lines[:min(len(f.lines), f.height)]
}

func (f *frame) left() int { return f.height - len(f.lines) }

func (f *frame) room(wanted, keep int) int { return min(wanted, f.left()-keep) }

func (f *frame) head() {
	title := f.s.run.Title
	if title == "" {
		title = "a run that has not told its plan yet"
	}
	f.add(paintBold, title)
	state, code := "running", paintGood
	switch {
	case f.s.ended != nil && f.s.ended.Verdict != "":
		state, code = "ended: "+f.s.ended.Verdict, verdictPaint(f.s.ended.Verdict)
	case f.s.ended != nil:
		state, code = "ended: "+f.s.ended.Message, paintBad
	case f.dead:
		state, code = "killed: go on with nexus run --resume "+f.s.run.Folder, paintBad
	}
	detail := strings.Trim(f.s.run.Scenario+" · "+f.s.run.Mode, " ·")
	if detail != "" {
		detail += " · "
	}
	plain := cut(detail+state, f.width)
	if len(plain) > len(detail) {
		plain = f.paint(paintFaint, detail) + f.paint(code, plain[len(detail):])
	}
	f.lines = append(f.lines, plain)
	f.bar()
}

func verdictPaint(verdict string) string {
	switch verdict {
	case "pass":
		return paintGood
	case "fail":
		return paintBad
	}
	return paintUnsure
}

// bar shows how far the trials are.
func (f *frame) bar() {
	text := fmt.Sprintf("trial %d of %d", f.s.done, f.s.total)
	if f.s.ended == nil && f.s.eta > 0 && !f.dead {
		text += ", about " + roundETA(f.s.left(f.now)) + " left"
	}
	if f.s.repeated > 0 {
		text += fmt.Sprintf(", %d repeated", f.s.repeated)
	}
	if f.s.malformed > 0 {
		text += fmt.Sprintf(", %d unreadable lines", f.s.malformed)
	}
	cells := max(8, min(40, f.width-utf8.RuneCountInString(text)-2))
	share := 0.0
	if f.s.total > 0 {
		share = float64(f.s.done) / float64(f.s.total)
	}
	bar := meter(share, cells)
	f.lines = append(f.lines, f.paint(paintBar, bar)+" "+cut(text, f.width-cells-1), "")
}

// meter is a bar with eighths of a cell.
func meter(share float64, cells int) string {
	share = min(1, max(0, share))
	eighths := int(math.Round(share * float64(cells) * 8))
	bar := strings.Repeat("█", eighths/8)
	if part := eighths % 8; part > 0 {
		bar += string([]rune(" ▏▎▍▌▋▊▉")[part])
	}
	return bar + strings.Repeat("░", cells-utf8.RuneCountInString(bar))
}

// current is the trial or the check under way: always two lines and an empty
// one, so that the rest stays where it is.
func (f *frame) current() {
	n := &f.s.now
	switch {
	case !f.dead && f.s.check.Check != "":
		text := "check " + f.s.check.Check
		if f.s.check.CheckTotal > 0 {
			text += fmt.Sprintf(": %d of %d", f.s.check.CheckDone, f.s.check.CheckTotal)
		}
		f.add("", text)
		f.add(paintFaint, f.s.check.Message)
	case f.dead:
		text := "it was between two trials"
		if n.Contender != "" {
			text = fmt.Sprintf("it was at: %s at %s, round %d", n.Contender, n.Point, n.Round)
		}
		f.add(paintFaint, text)
		f.add("", "")
	case n.Contender != "":
		text := fmt.Sprintf("now: %s at %s, round %d", n.Contender, n.Point, n.Round)
		if n.Attempt > 0 {
			text += fmt.Sprintf(", attempt %d", n.Attempt+1)
		}
		f.add("", text)
		f.add("", f.live())
	case f.s.ended != nil && f.s.ended.Message != "" && f.s.ended.Verdict != "":
		first, rest := split("because "+f.s.ended.Message, f.width)
		f.add("", first)
		f.add("", rest)
	case f.s.ended != nil:
		f.add("", "nexus report "+f.s.run.Folder)
		f.add("", "")
	default:
		f.add(paintFaint, "between two trials")
		f.add("", "")
	}
	f.lines = append(f.lines, "")
}

// live is the trial's rate over time, and where it is now.
func (f *frame) live() string {
	if len(f.s.ticks) == 0 {
		return "warming up"
	}
	last := f.s.ticks[len(f.s.ticks)-1]
	text := fmt.Sprintf("%8s  p50 %-8s p99 %-8s ", quantity.PerS.Format(last.PerS), quantity.Ns.Format(float64(last.P50Ns)), quantity.Ns.Format(float64(last.P99Ns)))
	var rates []float64
	for _, t := range f.s.ticks[max(0, len(f.s.ticks)-max(0, f.width-utf8.RuneCountInString(text))):] {
		rates = append(rates, t.PerS)
	}
	return text + sparks(rates)
}

// sparks draws values from 0 to their largest, one rune each; nothing is a
// space.
func sparks(values []float64) string {
	steps := []rune("▁▂▃▄▅▆▇█")
	most := 0.0
	for _, v := range values {
		most = max(most, v)
	}
	out := make([]rune, len(values))
	for i, v := range values {
		out[i] = ' '
		if v > 0 {
			out[i] = steps[min(len(steps)-1, int(v/most*float64(len(steps))))]
		}
	}
	return string(out)
}

// table is a line for each contender: its newest trial that counts, all of them
// at one point.
func (f *frame) table(lines int) {
	if lines < 2 {
		return
	}
	if f.s.point != "" { // instead of the empty line above
		f.lines[len(f.lines)-1] = f.paint(paintFaint, cut("newest trials at "+f.s.point, f.width))
	}
	names := len("contender")
	for _, c := range f.s.contenders {
		names = max(names, len(c.Name))
	}
	names = min(names, 20)
	head := f.columns(names, "contender", "trials", "rate", "p50", "p99", "p99.9")
	shape := f.width - utf8.RuneCountInString(head) - 2
	if shape >= 12 {
		head += "  latency (log)"
	}
	f.add(paintFaint, head)
	low, high := f.shapes()
	for _, c := range f.s.contenders[:min(len(f.s.contenders), lines-1)] {
		f.add(f.contenderPaint(c), f.contenderLine(c, names, low, high, shape))
	}
	f.lines = append(f.lines, "")
}

// columns lays out a line of the table; a narrow terminal gets the rate and the p99 only.
func (f *frame) columns(names int, name, trials, rate, p50, p99, p999 string) string {
	if f.width < names+45 {
		names = min(names, max(8, f.width-26))
		return fmt.Sprintf("%-*s %6s %8s %8s", names, cut(name, names), trials, rate, p99)
	}
	return fmt.Sprintf("%-*s %7s %9s %8s %8s %8s", names, cut(name, names), trials, rate, p50, p99, p999)
}

func (f *frame) contenderPaint(c watchedContender) string {
	if f.s.now.Contender == c.Name {
		return paintBold
	}
	return ""
}

func (f *frame) contenderLine(c watchedContender, names, low, high, columns int) string {
	count := fmt.Sprintf("%d/%d", c.finished-c.void, c.Trials)
	last := c.newest[f.s.point]
	if last == nil {
		return f.columns(names, c.Name, count, "–", "–", "–", "–")
	}
	l := &last.Latency
	line := f.columns(names, c.Name, count, quantity.PerS.Format(last.PerS),
		quantity.Ns.Format(float64(l.P50)), quantity.Ns.Format(float64(l.P99)), quantity.Ns.Format(float64(l.P999)))
	if columns >= 12 && high >= low {
		line += "  " + shapeLine(last, low, high, min(columns, 40))
	}
	return line
}

// shapes are the first and the last bucket that any contender fills.
func (f *frame) shapes() (low, high int) {
	low, high = math.MaxInt, math.MinInt
	for _, c := range f.s.contenders {
		if last := c.newest[f.s.point]; last != nil && len(last.Shape) > 0 {
			low, high = min(low, last.ShapeFrom), max(high, last.ShapeFrom+len(last.Shape)-1)
		}
	}
	return low, high
}

func shapeLine(t *scenarios.ProgressTrial, low, high, columns int) string {
	columns = min(columns, high-low+1)
	counts := make([]float64, columns)
	for i, n := range t.Shape {
		column := (t.ShapeFrom + i - low) * columns / (high - low + 1)
		counts[min(max(column, 0), columns-1)] += float64(n)
	}
	return strings.TrimRight(sparks(counts), " ")
}

func (f *frame) gates(count int) {
	f.add(paintFaint, "gates so far")
	names := 0
	for _, g := range f.s.gates[:count] {
		names = max(names, len(g.ID))
	}
	names = min(names, 32)
	for _, g := range f.s.gates[:count] {
		unit := quantity.Of(g.Unit)
		mark, code := gateMark(g.Status)
		sign := map[string]string{">=": "≥", "<=": "≤", "==": "="}[g.Compare]
		f.add(code, fmt.Sprintf("%s %-*s %12s  limit %s %s", mark, names, cut(g.ID, names), unit.FormatPtr(g.Value), sign, unit.Format(g.Limit)))
	}
}

func gateMark(status string) (mark, code string) {
	switch status {
	case "pass":
		return "✓", paintGood
	case "fail":
		return "✗", paintBad
	case "inconclusive":
		return "?", paintUnsure
	}
	return "–", paintFaint
}

// stages are bars of where the time went.
func (f *frame) stages() {
	if f.left() > len(f.s.stages)+4 {
		f.lines = append(f.lines, "")
	}
	what := "what the threads of " + f.s.shown + " did"
	if f.s.stagesOf == scenarios.StagesOfRequests {
		what = "where the time of requests to " + f.s.shown + " went"
	}
	f.add(paintFaint, what)
	names := 0
	for _, stage := range f.s.stages {
		names = max(names, utf8.RuneCountInString(stage.Name))
	}
	cells := max(8, min(40, f.width-names-8))
	for _, stage := range f.s.stages {
		f.lines = append(f.lines, fmt.Sprintf("%-*s ", names, stage.Name)+f.paint(paintBar, meter(stage.Share, cells))+fmt.Sprintf(" %4.0f%%", 100*stage.Share))
	}
}

func (f *frame) events(count int) {
	if f.lines[len(f.lines)-1] != "" {
		f.lines = append(f.lines, "")
	}
	f.add(paintFaint, "events")
	for _, e := range f.s.events[max(0, len(f.s.events)-count):] {
		f.add("", e.at.Format("15:04:05")+" "+e.text)
	}
}

// line is the run in one line, for output that is no terminal.
func (s *watchState) line(now time.Time) string {
	text := fmt.Sprintf("%s trial %d of %d", now.Format("15:04:05"), s.done, s.total)
	switch {
	case s.ended != nil:
		text += ", ended: " + strings.TrimSpace(s.ended.Verdict+" "+s.ended.Message)
	case s.dead():
		text += ", killed; go on with: nexus run --resume " + s.run.Folder
	case s.check.Check != "":
		text += ", check " + s.check.Check
	case s.now.Contender != "":
		text += ", about " + roundETA(s.left(now)) + " left, " + s.now.Contender + " at " + s.now.Point
		if n := len(s.ticks); n > 0 {
			text += fmt.Sprintf(" %s p99 %s", quantity.PerS.Format(s.ticks[n-1].PerS), quantity.Ns.Format(float64(s.ticks[n-1].P99Ns)))
		}
	}
	return text
}
