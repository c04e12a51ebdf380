package chart

import (
	"html"
	"math"

	"github.com/nexuscore-labs/nexus/reports/quantity"
)

// rowHead writes the two labels above a bar or a heatmap row. The note goes on a
// line of its own where both don't fit beside each other.
func (d *drawing) rowHead(y float64, role, name, note string) float64 {
	d.text(6, y, "name "+html.EscapeString(role), name)
	if labelWidth(name)+labelWidth(note)+24 > d.width {
		y += lineStep
		d.text(6, y, "muted", note)
		return y
	}
	d.text(d.width-6, y, "muted end", note)
	return y
}

func (d *drawing) bars(c *Chart) {
	x, _ := c.extents()
	f := frame{left: 6, right: d.width - 14, top: 4}
	y := 18.0
	type placed struct {
		bar *Bar
		top float64
	}
	var rows []placed
	var heads drawing
	heads.width = d.width
	for i := range c.Bars {
		b := &c.Bars[i]
		y = heads.rowHead(y, b.Style.Role, b.Name, b.note(c.X.Unit))
		rows = append(rows, placed{b, y + 5})
		y += 5 + 14 + 22
	}
	f.bottom = y - 14
	d.height = f.bottom + 40
	for _, r := range rows {
		d.put(`<rect class="track" x="%s" y="%s" width="%s" height="14"/>`, num(f.left), num(r.top), num(f.right-f.left))
	}
	d.xTicksUnder(c, f, x, rows[0].top)
	for _, r := range rows {
		d.bar(c, r.bar, f, x, r.top)
	}
	d.out.Write(heads.out.Bytes())
}

// note is a bar's value in words.
func (b *Bar) note(unit quantity.Unit) string {
	switch {
	case b.Missing != "":
		return b.Missing
	case b.Lo == b.Hi:
		return unit.Format(b.Value)
	}
	return unit.Format(b.Value) + " [" + unit.Format(b.Lo) + " to " + unit.Format(b.Hi) + "]"
}

func (d *drawing) bar(c *Chart, b *Bar, f frame, x extent, top float64) {
	if b.Missing != "" {
		return
	}
	end := f.x(c.X.at(b.Value, x))
	d.put(`<rect class="bar %s" x="%s" y="%s" width="%s" height="14"/>`, html.EscapeString(b.Style.Role),
		num(f.left), num(top), num(math.Max(1, end-f.left)))
	if b.Lo == b.Hi {
		return
	}
	lo, hi, middle := f.x(c.X.at(b.Lo, x)), f.x(c.X.at(b.Hi, x)), top+7
	d.put(`<path class="whisker" d="M%s %sH%sM%s %sv8M%s %sv8"/>`, num(lo), num(middle), num(hi), num(lo), num(middle-4), num(hi), num(middle-4))
}

// xTicksUnder draws the X axis below rows; its grid lines start at top.
func (d *drawing) xTicksUnder(c *Chart, f frame, x extent, top float64) {
	f.top = top
	d.xAxis(c, f, x)
}

func (d *drawing) heat(c *Chart) {
	x := newExtent()
	x.add(c.X.Scale, c.Edges...)
	f := frame{left: 6, right: d.width - 14}
	y := 18.0
	var heads drawing
	heads.width = d.width
	tops := make([]float64, len(c.Heat))
	for i, row := range c.Heat {
		y = heads.rowHead(y, row.Style.Role, row.Name, row.Note)
		tops[i] = y + 5
		y += 5 + 14 + 20
	}
	f.bottom = y - 12
	d.height = f.bottom + 40
	for _, top := range tops {
		d.put(`<rect class="track" x="%s" y="%s" width="%s" height="14"/>`, num(f.left), num(top), num(f.right-f.left))
	}
	d.xTicksUnder(c, f, x, tops[0])
	for i, row := range c.Heat {
		most := 0.0
		for _, s := range row.Shares {
			most = math.Max(most, s)
		}
		for k, s := range row.Shares {
			if s <= 0 {
				continue
			}
			from, to := f.x(c.X.at(c.Edges[k], x)), f.x(c.X.at(c.Edges[k+1], x))
			d.put(`<rect class="cell %s" x="%s" y="%s" width="%s" height="14" fill-opacity="%.2f"><title>%s</title></rect>`,
				html.EscapeString(row.Style.Role), num(from), num(tops[i]), num(to-from+0.3), heatOpacity(s, most),
				html.EscapeString(quantity.Share.Format(s)+" between "+c.X.Unit.Format(c.Edges[k])+" and "+c.X.Unit.Format(c.Edges[k+1])))
		}
	}
	d.out.Write(heads.out.Bytes())
}

// heatOpacity shows rare values too: the darkness is logarithmic over four
// decades below the fullest cell of the row.
func heatOpacity(share, most float64) float64 {
	const decades = 4
	return math.Max(0.06, 1+math.Log10(share/most)/decades)
}
