package chart

import (
	"bytes"
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// Width of the two forms that a page holds of each chart, in SVG user units:
// text keeps its size on a phone because the narrow form is drawn for it.
const (
	Wide   = 640
	Narrow = 360
)

// sizes of text and marks, user units.
const (
	textSize  = 12.0
	textWidth = 7.0 // of one character, on average; labels are measured with it
	lineStep  = 15.0
)

// Dashes of each variant within a role, as SVG's stroke-dasharray.
var Dashes = []string{"", "7 3", "2 3", "9 3 2 3", "1 4"}

// SVG draws the chart for a page at the given width. Colours come from the
// page's style sheet (CSS): classes subject, baseline and peer.
func (c *Chart) SVG(width float64) string {
	d := drawing{width: width}
	switch {
	case len(c.Heat) > 0:
		d.heat(c)
	case len(c.Stacks) > 0:
		d.stacks(c)
	case len(c.Bars) > 0:
		d.bars(c)
	default:
		d.lines(c)
	}
	return fmt.Sprintf(`<svg viewBox="0 0 %s %s" role="img" aria-label="%s" xmlns="http://www.w3.org/2000/svg">%s</svg>`,
		num(width), num(d.height), html.EscapeString(c.Title), d.out.String())
}

// CSS is the style sheet of everything that SVG draws. It needs the custom
// properties --ink, --muted, --grid, --panel, --subject, --baseline and --peer.
const CSS = `.chart svg{display:block;width:100%;height:auto;font:12px/1.2 system-ui,-apple-system,"Segoe UI",sans-serif}
.chart text{fill:var(--ink)}.chart .muted{fill:var(--muted)}.chart .end{text-anchor:end}.chart .mid{text-anchor:middle}
.chart .grid{stroke:var(--grid);stroke-width:1;fill:none}.chart .minor{stroke-opacity:.45}.chart .axis{stroke:var(--muted);stroke-width:1;fill:none}
.chart .curve{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round}.chart .band{fill:var(--c);fill-opacity:.16;stroke:none}
.chart .dot{fill:var(--c);stroke:var(--panel);stroke-width:1}.chart .leader{stroke:var(--c);stroke-width:1;stroke-opacity:.6;fill:none}
.chart .bar{fill:var(--c);fill-opacity:.8}.chart .track{fill:var(--grid);fill-opacity:.35}.chart .whisker{stroke:var(--ink);stroke-width:1.5;fill:none}
.chart .cell{fill:var(--c)}.chart .event{stroke:var(--ink);stroke-width:1;stroke-dasharray:2 2;stroke-opacity:.6}
.chart .name{fill:var(--c);font-weight:600}
.subject{--c:var(--subject)}.baseline{--c:var(--baseline)}.peer{--c:var(--peer)}`

type drawing struct {
	out           bytes.Buffer
	width, height float64
}

func (d *drawing) put(format string, args ...any) { fmt.Fprintf(&d.out, format, args...) }

func (d *drawing) text(x, y float64, class, text string) {
	d.put(`<text x="%s" y="%s" class="%s">%s</text>`, num(x), num(y), class, html.EscapeString(text))
}

func (d *drawing) segment(class string, x1, y1, x2, y2 float64) {
	d.put(`<path class="%s" d="M%s %sL%s %s"/>`, class, num(x1), num(y1), num(x2), num(y2))
}

func num(v float64) string {
	text := fmt.Sprintf("%.1f", v)
	return strings.TrimSuffix(text, ".0")
}

func labelWidth(text string) float64 { return float64(utf8.RuneCountInString(text)) * textWidth }

// frame is the rectangle that curves are drawn in.
type frame struct{ left, top, right, bottom float64 }

func (f frame) x(share float64) float64 { return f.left + share*(f.right-f.left) }
func (f frame) y(share float64) float64 { return f.bottom - share*(f.bottom-f.top) }

func (d *drawing) lines(c *Chart) {
	x, y := c.extents()
	yTicks := c.Y.ticks(y, 6)
	f := frame{left: 8, top: 26, right: d.width - 14}
	for _, t := range yTicks {
		f.left = math.Max(f.left, labelWidth(t.Label)+12)
	}
	direct := d.width >= Wide && len(c.Lines) > 1 && !c.Legend
	if direct {
		longest := 0.0
		for _, l := range c.Lines {
			longest = math.Max(longest, labelWidth(l.Name))
		}
		f.right -= math.Min(longest+14, d.width/3)
	}
	f.bottom = f.top + math.Max(210, 0.42*d.width)
	d.height = f.bottom + 40
	d.text(4, 14, "muted", c.Y.Label)
	d.grid(c, f, x, y, yTicks)
	d.marks(c, f, x)
	for i := range c.Lines {
		d.line(c, &c.Lines[i], f, x, y)
	}
	switch {
	case direct:
		d.endLabels(c, f, x, y)
	case len(c.Lines) > 1:
		d.legend(c)
	}
}

func (d *drawing) grid(c *Chart, f frame, x, y extent, yTicks []Tick) {
	for _, t := range yTicks {
		at := f.y(c.Y.at(t.Value, y))
		class := "grid"
		if t.Label == "" {
			class = "grid minor"
		}
		d.segment(class, f.left, at, f.right, at)
		if t.Label != "" {
			d.text(f.left-6, at+4, "muted end", t.Label)
		}
	}
	d.xAxis(c, f, x)
	d.put(`<path class="axis" d="M%s %sV%sH%s"/>`, num(f.left), num(f.top), num(f.bottom), num(f.right))
}

// xAxis draws grid lines and tick labels, leaving out labels that would touch.
func (d *drawing) xAxis(c *Chart, f frame, x extent) {
	count := int((f.right - f.left) / 62)
	used := math.Inf(-1)
	for _, t := range c.X.ticks(x, count) {
		at := f.x(c.X.at(t.Value, x))
		class := "grid"
		if t.Label == "" {
			class = "grid minor"
		}
		d.segment(class, at, f.top, at, f.bottom)
		half := labelWidth(t.Label) / 2
		if t.Label == "" || at-half < used+6 {
			continue
		}
		middle := math.Max(half+2, math.Min(at, d.width-half-2))
		d.text(middle, f.bottom+16, "muted mid", t.Label)
		used = middle + half
	}
	d.text(f.right, f.bottom+33, "muted end", c.X.Label)
}

func (d *drawing) marks(c *Chart, f frame, x extent) {
	row := 0
	for _, m := range c.Marks {
		at := f.x(c.X.at(m.At, x))
		d.segment("event", at, f.top, at, f.bottom)
		anchor, nudge := "muted", 3.0
		if at+labelWidth(m.Name) > f.right {
			anchor, nudge = "muted end", -3
		}
		d.text(at+nudge, f.top+11+13*float64(row%4), anchor, m.Name)
		row++
	}
}

func (d *drawing) line(c *Chart, l *Line, f frame, x, y extent) {
	path := func(values []float64) string {
		var b strings.Builder
		step := byte('M')
		for i, v := range values {
			if math.IsNaN(v) {
				step = 'M' // a gap: nothing was measured here
				continue
			}
			fmt.Fprintf(&b, "%c%s %s", step, num(f.x(c.X.at(l.X[i], x))), num(f.y(c.Y.at(v, y))))
			step = 'L'
		}
		return b.String()
	}
	role := html.EscapeString(l.Style.Role)
	if len(l.Lo) == len(l.X) && len(l.Hi) == len(l.X) && len(l.X) > 1 {
		d.band(c, l, f, x, y)
	}
	dash := ""
	if pattern := Dashes[l.Style.Variant%len(Dashes)]; pattern != "" {
		dash = fmt.Sprintf(` stroke-dasharray="%s"`, pattern)
	}
	d.put(`<path class="curve %s"%s d="%s"><title>%s</title></path>`, role, dash, path(l.Y), html.EscapeString(l.Name))
	if !l.Dots {
		return
	}
	for i, v := range l.Y {
		if math.IsNaN(v) {
			continue
		}
		tip := fmt.Sprintf("%s: %s at %s", l.Name, c.Y.Unit.Format(v), c.X.Unit.Format(l.X[i]))
		d.put(`<path class="dot %s" d="%s"><title>%s</title></path>`, role,
			marker(l.Style.Variant, f.x(c.X.at(l.X[i], x)), f.y(c.Y.at(v, y))), html.EscapeString(tip))
	}
}

// band fills between the bounds wherever both are known.
func (d *drawing) band(c *Chart, l *Line, f frame, x, y extent) {
	var upper, lower []string
	for i := range l.X {
		if math.IsNaN(l.Lo[i]) || math.IsNaN(l.Hi[i]) {
			continue
		}
		at := num(f.x(c.X.at(l.X[i], x)))
		upper = append(upper, at+" "+num(f.y(c.Y.at(l.Hi[i], y))))
		lower = append(lower, at+" "+num(f.y(c.Y.at(l.Lo[i], y))))
	}
	slices.Reverse(lower)
	if len(upper) > 1 {
		d.put(`<path class="band %s" d="M%sZ"/>`, html.EscapeString(l.Style.Role), strings.Join(append(upper, lower...), "L"))
	}
}

// marker is the path of a variant's point: circle, square, triangle, diamond.
func marker(variant int, x, y float64) string {
	const r = 4.0
	switch variant % 4 {
	case 1:
		return fmt.Sprintf("M%s %sh7v7h-7z", num(x-3.5), num(y-3.5))
	case 2:
		return fmt.Sprintf("M%s %sl4.5 8h-9z", num(x), num(y-5))
	case 3:
		return fmt.Sprintf("M%s %sl5 5l-5 5l-5 -5z", num(x), num(y-5))
	}
	return fmt.Sprintf("M%s %sa%g %g 0 1 0 %g 0a%g %g 0 1 0 %g 0z", num(x-r), num(y), r, r, 2*r, r, r, -2*r)
}

// endLabels names each curve beside its last point, moved apart where they
// would touch.
func (d *drawing) endLabels(c *Chart, f frame, x, y extent) {
	type label struct {
		line   *Line
		fromX  float64
		fromY  float64
		placed float64
	}
	var labels []label
	for i := range c.Lines {
		l := &c.Lines[i]
		for k := len(l.Y) - 1; k >= 0; k-- {
			if !math.IsNaN(l.Y[k]) {
				at := f.y(c.Y.at(l.Y[k], y))
				labels = append(labels, label{l, f.x(c.X.at(l.X[k], x)), at, at})
				break
			}
		}
	}
	slices.SortStableFunc(labels, func(a, b label) int { return int(math.Copysign(1, a.fromY-b.fromY)) })
	for i := range labels {
		if i > 0 {
			labels[i].placed = math.Max(labels[i].placed, labels[i-1].placed+lineStep)
		}
	}
	limit := f.bottom
	for i := len(labels) - 1; i >= 0; i-- {
		labels[i].placed = math.Min(labels[i].placed, limit)
		limit = labels[i].placed - lineStep
	}
	for _, l := range labels {
		role := html.EscapeString(l.line.Style.Role)
		d.put(`<path class="leader %s" d="M%s %sL%s %s"/>`, role, num(l.fromX+3), num(l.fromY), num(f.right+8), num(l.placed))
		d.text(f.right+11, l.placed+4, "name "+role, l.line.Name)
	}
}

// legend names the curves below a narrow chart.
func (d *drawing) legend(c *Chart) {
	x, y := 6.0, d.height+14
	for i := range c.Lines {
		l := &c.Lines[i]
		need := labelWidth(l.Name) + 42
		if x+need > d.width && x > 6 {
			x, y = 6, y+lineStep+3
		}
		role := html.EscapeString(l.Style.Role)
		d.put(`<path class="curve %s" stroke-dasharray="%s" d="M%s %sh22"/>`, role, Dashes[l.Style.Variant%len(Dashes)], num(x), num(y-4))
		if l.Dots {
			d.put(`<path class="dot %s" d="%s"/>`, role, marker(l.Style.Variant, x+11, y-4))
		}
		d.text(x+27, y, "name "+role, l.Name)
		x += need
	}
	d.height = y + 8
}
