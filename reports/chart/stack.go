package chart

import (
	"fmt"
	"html"
	"image/color"
	"math"

	"github.com/nexuscore-labs/nexus/reports/quantity"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// StackRow is one bar that is divided into parts of a whole.
type StackRow struct {
	Name   string
	Style  Style
	Note   string
	Shares []float64 // of 1, one per key
}

// StackKey is what the parts in one position of all rows are.
type StackKey struct {
	Name   string
	Colour color.RGBA // readable on light and dark
}

func (k StackKey) hex() string {
	return fmt.Sprintf("#%02x%02x%02x", k.Colour.R, k.Colour.G, k.Colour.B)
}

// used are the keys that have a part anywhere.
func (c *Chart) used() []int {
	var out []int
	for k := range c.Keys {
		most := 0.0
		for _, row := range c.Stacks {
			most = math.Max(most, row.Shares[k])
		}
		if most > 0 {
			out = append(out, k)
		}
	}
	return out
}

func (d *drawing) stacks(c *Chart) {
	x, _ := c.extents()
	f := frame{left: 6, right: d.width - 14}
	y := 18.0
	var heads drawing
	heads.width = d.width
	tops := make([]float64, len(c.Stacks))
	for i, row := range c.Stacks {
		y = heads.rowHead(y, row.Style.Role, row.Name, row.Note)
		tops[i] = y + 5
		y += 5 + 14 + 20
	}
	f.bottom = y - 12
	d.height = f.bottom + 40
	d.xTicksUnder(c, f, x, tops[0])
	for i, row := range c.Stacks {
		at := 0.0
		for k, share := range row.Shares {
			if share <= 0 {
				continue
			}
			from, to := f.x(c.X.at(at, x)), f.x(c.X.at(at+share, x))
			d.put(`<rect fill="%s" x="%s" y="%s" width="%s" height="14"><title>%s</title></rect>`, c.Keys[k].hex(), num(from), num(tops[i]), num(to-from),
				html.EscapeString(c.Keys[k].Name+": "+quantity.Share.Format(share)))
			at += share
		}
	}
	d.out.Write(heads.out.Bytes())
	d.swatches(c)
}

// swatches name the colours below the rows.
func (d *drawing) swatches(c *Chart) {
	x, y := 6.0, d.height+14
	for _, k := range c.used() {
		need := labelWidth(c.Keys[k].Name) + 34
		if x+need > d.width && x > 6 {
			x, y = 6, y+lineStep+3
		}
		d.put(`<rect fill="%s" x="%s" y="%s" width="11" height="11"/>`, c.Keys[k].hex(), num(x), num(y-10))
		d.text(x+16, y, "muted", c.Keys[k].Name)
		x += need
	}
	d.height = y + 8
}

// keyRows is how many rows of a picture the names of the colours take.
const (
	keyRows    = 2
	keysPerRow = 6
)

// stackRows draws the bars and, in the last rows, what the colours mean.
type stackRows struct{ chart *Chart }

// Plot implements plot.Plotter.
func (s stackRows) Plot(c draw.Canvas, p *plot.Plot) {
	toX, _ := p.Transforms(&c)
	n := len(s.chart.Stacks) + keyRows
	for i, row := range s.chart.Stacks {
		top, bottom := rowBox(c, i, n)
		rowText(c, p, row.Style, top, row.Name, row.Note)
		at := 0.0
		for k, share := range row.Shares {
			if share > 0 {
				fill(c, s.chart.Keys[k].Colour, toX(at), top, toX(at+share), bottom)
				at += share
			}
		}
	}
	width := (c.Max.X - c.Min.X) / keysPerRow
	for i, k := range s.chart.used() {
		top, bottom := rowBox(c, len(s.chart.Stacks)+i/keysPerRow, n)
		left := c.Min.X + vg.Length(i%keysPerRow)*width
		fill(c, s.chart.Keys[k].Colour, left, top, left+vg.Points(9), top-vg.Points(9))
		c.FillText(textStyle(p, ink, draw.XLeft), vg.Point{X: left + vg.Points(12), Y: bottom + 3}, s.chart.Keys[k].Name)
	}
}
