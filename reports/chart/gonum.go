package chart

import (
	"image/color"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// scale is an Axis as gonum's Normalizer.
type scale struct{ axis Axis }

// Normalize returns the place of x between min and max.
func (s scale) Normalize(min, max, x float64) float64 { return s.axis.at(x, extent{min, max}) }

// ticker is an Axis as gonum's Ticker.
type ticker struct {
	axis  Axis
	count int
}

// Ticks returns the axis' own ticks.
func (t ticker) Ticks(min, max float64) []plot.Tick {
	var ticks []plot.Tick
	for _, own := range t.axis.ticks(extent{min, max}, t.count) {
		ticks = append(ticks, plot.Tick{Value: own.Value, Label: own.Label})
	}
	return ticks
}

// gridLines draws a faint line at each labelled tick.
type gridLines struct{}

// Plot implements plot.Plotter.
func (gridLines) Plot(c draw.Canvas, p *plot.Plot) {
	toX, toY := p.Transforms(&c)
	style := draw.LineStyle{Color: faint, Width: vg.Points(0.6)}
	for _, t := range p.X.Tick.Marker.Ticks(p.X.Min, p.X.Max) {
		if t.Label != "" {
			c.StrokeLine2(style, toX(t.Value), c.Min.Y, toX(t.Value), c.Max.Y)
		}
	}
	for _, t := range p.Y.Tick.Marker.Ticks(p.Y.Min, p.Y.Max) {
		if t.Label != "" {
			c.StrokeLine2(style, c.Min.X, toY(t.Value), c.Max.X, toY(t.Value))
		}
	}
}

// marks draws events as dashed lines with their names.
type marks struct{ all []Mark }

// Plot implements plot.Plotter.
func (m marks) Plot(c draw.Canvas, p *plot.Plot) {
	toX, _ := p.Transforms(&c)
	for i, mark := range m.all {
		at := toX(mark.At)
		c.StrokeLine2(draw.LineStyle{Color: muted, Width: vg.Points(0.8), Dashes: []vg.Length{2, 2}}, at, c.Min.Y, at, c.Max.Y)
		c.FillText(textStyle(p, muted, draw.XLeft), vg.Point{X: at + 2, Y: c.Min.Y + vg.Points(3+10*float64(i%4))}, mark.Name)
	}
}

func textStyle(p *plot.Plot, ink color.Color, align text.XAlignment) text.Style {
	style := p.X.Tick.Label
	style.Color, style.XAlign, style.YAlign = ink, align, draw.YBottom
	return style
}

// rowBox is the strip of row i of n, its text above it.
func rowBox(c draw.Canvas, i, n int) (top, bottom vg.Length) {
	step := (c.Max.Y - c.Min.Y) / vg.Length(n)
	top = c.Max.Y - vg.Length(i)*step - vg.Points(14)
	return top, top - vg.Points(13)
}

func fill(c draw.Canvas, colour color.Color, left, top, right, bottom vg.Length) {
	c.FillPolygon(colour, []vg.Point{{X: left, Y: top}, {X: right, Y: top}, {X: right, Y: bottom}, {X: left, Y: bottom}})
}

func rowText(c draw.Canvas, p *plot.Plot, style Style, top vg.Length, name, note string) {
	c.FillText(textStyle(p, style.colour(), draw.XLeft), vg.Point{X: c.Min.X, Y: top + 2}, name)
	c.FillText(textStyle(p, muted, draw.XRight), vg.Point{X: c.Max.X, Y: top + 2}, note)
}

// barRows draws horizontal bars with their intervals.
type barRows struct{ chart *Chart }

// Plot implements plot.Plotter.
func (b barRows) Plot(c draw.Canvas, p *plot.Plot) {
	toX, _ := p.Transforms(&c)
	for i, bar := range b.chart.Bars {
		top, bottom := rowBox(c, i, len(b.chart.Bars))
		fill(c, faded(faint, 0.5), c.Min.X, top, c.Max.X, bottom)
		rowText(c, p, bar.Style, top, bar.Name, bar.note(b.chart.X.Unit))
		if bar.Missing != "" {
			continue
		}
		fill(c, faded(bar.Style.colour(), 0.8), c.Min.X, top, toX(bar.Value), bottom)
		if bar.Lo != bar.Hi {
			style, middle := draw.LineStyle{Color: ink, Width: vg.Points(1.2)}, (top+bottom)/2
			c.StrokeLine2(style, toX(bar.Lo), middle, toX(bar.Hi), middle)
			for _, end := range []float64{bar.Lo, bar.Hi} {
				c.StrokeLine2(style, toX(end), middle-3, toX(end), middle+3)
			}
		}
	}
}

// heatRows draws one strip per distribution.
type heatRows struct{ chart *Chart }

// Plot implements plot.Plotter.
func (h heatRows) Plot(c draw.Canvas, p *plot.Plot) {
	toX, _ := p.Transforms(&c)
	for i, row := range h.chart.Heat {
		top, bottom := rowBox(c, i, len(h.chart.Heat))
		fill(c, faded(faint, 0.5), c.Min.X, top, c.Max.X, bottom)
		rowText(c, p, row.Style, top, row.Name, row.Note)
		most := 0.0
		for _, s := range row.Shares {
			most = math.Max(most, s)
		}
		for k, s := range row.Shares {
			if s > 0 {
				fill(c, faded(row.Style.colour(), heatOpacity(s, most)), toX(h.chart.Edges[k]), top, toX(h.chart.Edges[k+1]), bottom)
			}
		}
	}
}
