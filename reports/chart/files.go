package chart

import (
	"bytes"
	"fmt"
	"image/color"
	"math"

	xfont "golang.org/x/image/font"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Colours of the roles on a light ground, from the colour-blind safe palette of
// Okabe and Ito: blue, vermillion, bluish green. Page style sheets use the same.
var (
	SubjectColour  = color.RGBA{0x00, 0x72, 0xB2, 0xFF}
	BaselineColour = color.RGBA{0xD5, 0x5E, 0x00, 0xFF}
	PeerColour     = color.RGBA{0x00, 0x9E, 0x73, 0xFF}
)

var (
	ink   = color.RGBA{0x22, 0x22, 0x22, 0xFF}
	muted = color.RGBA{0x66, 0x66, 0x66, 0xFF}
	faint = color.RGBA{0xDD, 0xDD, 0xDD, 0xFF}
)

func (s Style) colour() color.RGBA {
	switch s.Role {
	case "subject":
		return SubjectColour
	case "baseline":
		return BaselineColour
	}
	return PeerColour
}

// dashes are those of Dashes, for gonum.
func (s Style) dashes() []vg.Length {
	return [][]vg.Length{nil, {7, 3}, {2, 3}, {9, 3, 2, 3}, {1, 4}}[s.Variant%len(Dashes)]
}

func (s Style) glyph() draw.GlyphDrawer {
	return []draw.GlyphDrawer{draw.CircleGlyph{}, draw.BoxGlyph{}, draw.TriangleGlyph{}, draw.PyramidGlyph{}}[s.Variant%4]
}

func faded(c color.RGBA, opacity float64) color.Color {
	return color.NRGBA{c.R, c.G, c.B, uint8(math.Round(255 * opacity))}
}

// Files draws the chart with gonum.org/v1/plot, as an SVG and a PNG file. Unlike
// SVG they stand alone: light ground, title and axis labels inside.
func (c *Chart) Files() (svg, png []byte, err error) {
	p, height, err := c.plot()
	if err != nil {
		return nil, nil, fmt.Errorf("plot %s: %w", c.Name, err)
	}
	const width, margin = 7.5 * vg.Inch, 12
	for format, into := range map[string]*[]byte{"svg": &svg, "png": &png} {
		canvas, err := draw.NewFormattedCanvas(width, height, format)
		if err != nil {
			return nil, nil, fmt.Errorf("plot %s: %w", c.Name, err)
		}
		whole := draw.New(canvas)
		fill(whole, color.White, whole.Min.X, whole.Max.Y, whole.Max.X, whole.Min.Y)
		p.Draw(draw.Crop(whole, margin, -margin, margin, -margin))
		var out bytes.Buffer
		if _, err := canvas.WriteTo(&out); err != nil {
			return nil, nil, fmt.Errorf("plot %s: %w", c.Name, err)
		}
		*into = out.Bytes()
	}
	return svg, png, nil
}

func (c *Chart) plot() (*plot.Plot, vg.Length, error) {
	p := plot.New()
	p.Title.Text = c.Title
	p.Title.Padding = 6
	p.X.Label.Text = c.X.Label
	p.BackgroundColor = color.White
	x, y := c.extents()
	p.X.Min, p.X.Max = x.low, x.high
	p.X.Scale, p.X.Tick.Marker = scale{c.X}, ticker{c.X, 8}
	for _, style := range []*text.Style{&p.Title.TextStyle, &p.Legend.TextStyle, &p.X.Label.TextStyle, &p.X.Tick.Label, &p.Y.Label.TextStyle, &p.Y.Tick.Label} {
		style.Font.Variant, style.Font.Size = "Sans", 10
	}
	p.Title.TextStyle.Font.Size, p.Title.TextStyle.Font.Weight = 12, xfont.WeightBold
	p.Legend.Padding, p.Legend.YPosition = 2, 0
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.LineStyle.Color, axis.Tick.LineStyle.Color, axis.Tick.Label.Color, axis.Label.TextStyle.Color = muted, muted, muted, ink
	}
	switch {
	case len(c.Heat) > 0:
		rowsOnly(p, len(c.Heat))
		p.Add(heatRows{c})
		return p, rowsHeight(len(c.Heat)), nil
	case len(c.Stacks) > 0:
		rowsOnly(p, len(c.Stacks)+keyRows)
		p.Add(stackRows{c})
		return p, rowsHeight(len(c.Stacks) + keyRows), nil
	case len(c.Bars) > 0:
		rowsOnly(p, len(c.Bars))
		p.Add(barRows{c})
		return p, rowsHeight(len(c.Bars)), nil
	}
	p.Y.Label.Text = c.Y.Label
	p.Y.Min, p.Y.Max = y.low, y.high
	p.Y.Scale, p.Y.Tick.Marker = scale{c.Y}, ticker{c.Y, 7}
	p.Add(gridLines{})
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.ThumbnailWidth = 26
	for i := range c.Lines {
		if err := addLine(p, &c.Lines[i]); err != nil {
			return nil, 0, err
		}
	}
	p.Add(marks{c.Marks})
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = x.low, x.high, y.low, y.high
	return p, 4.4 * vg.Inch, nil
}

// rowsOnly hides the Y axis: rows carry their names.
func rowsOnly(p *plot.Plot, rows int) {
	p.HideY()
	p.Y.Min, p.Y.Max = 0, float64(rows)
}

func rowsHeight(rows int) vg.Length { return vg.Points(80 + 38*float64(rows)) }

func addLine(p *plot.Plot, l *Line) error {
	var points, upper, lower plotter.XYs
	for i, v := range l.Y {
		if math.IsNaN(v) {
			continue
		}
		points = append(points, plotter.XY{X: l.X[i], Y: v})
		if i < len(l.Lo) && i < len(l.Hi) && !math.IsNaN(l.Lo[i]) && !math.IsNaN(l.Hi[i]) {
			upper = append(upper, plotter.XY{X: l.X[i], Y: l.Hi[i]})
			lower = append(plotter.XYs{{X: l.X[i], Y: l.Lo[i]}}, lower...)
		}
	}
	if len(points) == 0 {
		return nil
	}
	if len(upper) > 1 {
		band, err := plotter.NewPolygon(append(upper, lower...))
		if err != nil {
			return err
		}
		band.Color, band.LineStyle.Width = faded(l.Style.colour(), 0.16), 0
		p.Add(band)
	}
	curve, dots, err := plotter.NewLinePoints(points)
	if err != nil {
		return err
	}
	curve.Color, curve.Width, curve.Dashes = l.Style.colour(), vg.Points(1.8), l.Style.dashes()
	if !l.Dots {
		p.Add(curve)
		p.Legend.Add(l.Name, curve)
		return nil
	}
	dots.Color, dots.Shape, dots.Radius = l.Style.colour(), l.Style.glyph(), vg.Points(3)
	p.Add(curve, dots)
	p.Legend.Add(l.Name, curve, dots)
	return nil
}
