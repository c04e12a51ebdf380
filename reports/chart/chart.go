// Package chart states charts once and draws them twice: as themed SVG inside a
// web page, and as SVG and PNG files through gonum.org/v1/plot. It knows nothing
// of results.
package chart

import (
	"math"

	"github.com/nexuscore-labs/nexus/reports/quantity"
)

// Scale is how an axis spreads its values.
type Scale int

const (
	Linear Scale = iota
	Log
	Nines // of a share: equal steps for 90%, 99%, 99.9%, ...
)

// Axis of a chart.
type Axis struct {
	Label string
	Unit  quantity.Unit
	Scale Scale
	Zero  bool // a linear axis starts at 0
}

// Style is how one contender looks in every chart: the colour says its role, and
// the variant (0, 1, ... within the role) its dashes and marker.
type Style struct {
	Role    string // subject, baseline, peer
	Variant int
}

// Line is one curve. Lo and Hi, if set, are the bounds of Y at each X.
type Line struct {
	Name   string
	Style  Style
	X, Y   []float64
	Lo, Hi []float64
	Dots   bool // mark each point: it was measured there, not sampled from a curve
}

// Bar is one horizontal bar with its interval. A bar that was not measured has a
// Missing text and no numbers.
type Bar struct {
	Name    string
	Style   Style
	Value   float64
	Lo, Hi  float64 // equal to Value when there is no interval
	Missing string
}

// Mark is an event on the X axis.
type Mark struct {
	At   float64
	Name string
}

// HeatRow is one distribution in a heatmap: Shares of all values per column.
type HeatRow struct {
	Name   string
	Style  Style
	Note   string // such as the count and p99
	Shares []float64
}

// Chart is one picture: lines, bars or a heatmap.
type Chart struct {
	Name    string // stem of its files and its anchor
	Title   string
	Caption string // one sentence: what is shown and which direction is better
	X, Y    Axis
	Lines   []Line
	Legend  bool // name the lines below: they all end in one place
	Marks   []Mark
	Bars    []Bar      // X is their axis
	Heat    []HeatRow  // X is their axis, cut at HeatEdges
	Stacks  []StackRow // X is their axis, a share
	Keys    []StackKey // of the parts of Stacks
	Edges   []float64  // of the heatmap's columns: one more than shares
}

// Empty says whether there is nothing to draw.
func (c *Chart) Empty() bool {
	return len(c.Lines) == 0 && len(c.Bars) == 0 && len(c.Heat) == 0 && len(c.Stacks) == 0
}

// extent is the range of values on an axis, found over all that is drawn on it.
type extent struct{ low, high float64 }

func newExtent() extent { return extent{math.Inf(1), math.Inf(-1)} }

func (e *extent) add(scale Scale, values ...float64) {
	for _, v := range values {
		if math.IsNaN(v) || math.IsInf(v, 0) || scale == Log && v <= 0 || scale == Nines && v >= 1 {
			continue
		}
		e.low, e.high = math.Min(e.low, v), math.Max(e.high, v)
	}
}

func (e *extent) empty() bool { return e.low > e.high }

// extents are the ranges of both axes of a line chart or of the X axis of bars
// and heatmaps.
func (c *Chart) extents() (x, y extent) {
	x, y = newExtent(), newExtent()
	for _, l := range c.Lines {
		x.add(c.X.Scale, l.X...)
		y.add(c.Y.Scale, l.Y...)
		y.add(c.Y.Scale, l.Lo...)
		y.add(c.Y.Scale, l.Hi...)
	}
	for _, b := range c.Bars {
		if b.Missing == "" {
			x.add(c.X.Scale, b.Value, b.Lo, b.Hi)
		}
	}
	if len(c.Stacks) > 0 {
		x.add(c.X.Scale, 0, 1)
	}
	x.add(c.X.Scale, c.Edges...)
	return c.X.round(x), c.Y.round(y)
}

// round widens an extent to what an axis should show.
func (a Axis) round(e extent) extent {
	if e.empty() {
		e = extent{1, 10}
	}
	switch a.Scale {
	case Log:
		e.low, e.high = a.roundLog(e.low, e.high)
	case Nines:
		e.low = 0
		e.high = 1 - math.Pow(10, math.Floor(math.Log10(1-e.high)*4)/4)
	default:
		if a.Zero {
			e.low = math.Min(0, e.low)
		}
		if e.high == e.low {
			e.high = e.low + math.Max(1, math.Abs(e.low))
		}
		e.high += 0.04 * (e.high - e.low)
	}
	return e
}

// roundLog widens to 1, 2 or 5 times a power of ten, or for bytes to a power of
// two, so that the axis begins and ends at a tick and spans at least half a decade.
func (a Axis) roundLog(low, high float64) (float64, float64) {
	if high < 3*low {
		middle := math.Sqrt(high * low)
		low, high = middle/1.8, middle*1.8
	}
	if a.Unit == quantity.Bytes {
		return math.Exp2(math.Floor(math.Log2(low) + 1e-9)), math.Exp2(math.Ceil(math.Log2(high) - 1e-9))
	}
	return step125(low, false), step125(high, true)
}

func step125(v float64, up bool) float64 {
	decade := math.Pow(10, math.Floor(math.Log10(v)+1e-9))
	steps := []float64{1, 2, 5, 10}
	for i, s := range steps {
		switch {
		case up && decade*s >= v*(1-1e-9):
			return decade * s
		case !up && (i == len(steps)-1 || decade*steps[i+1] > v*(1+1e-9)):
			return decade * s
		}
	}
	return v
}

// at is the place of v on an axis, 0 at its start and 1 at its end.
func (a Axis) at(v float64, e extent) float64 {
	low, high := a.project(e.low), a.project(e.high)
	return math.Max(0, math.Min(1, (a.project(v)-low)/(high-low)))
}

func (a Axis) project(v float64) float64 {
	switch a.Scale {
	case Log:
		return math.Log10(math.Max(v, math.SmallestNonzeroFloat64))
	case Nines:
		return -math.Log10(math.Max(1-v, 1e-15))
	}
	return v
}

// Tick is one labelled place on an axis.
type Tick struct {
	Value float64
	Label string // empty for a minor one
}

// ticks are about count labelled places, as an axis of that length can carry.
func (a Axis) ticks(e extent, count int) []Tick {
	switch a.Scale {
	case Log:
		return a.logTicks(e, count)
	case Nines:
		return ninesTicks(e)
	}
	return a.linearTicks(e, count)
}

// ticksMax bounds the ticks of a linear axis, whatever its range.
const ticksMax = 64

func (a Axis) linearTicks(e extent, count int) []Tick {
	base := 1.0
	if a.Unit == quantity.Bytes {
		base = math.Pow(1024, math.Floor(math.Log(math.Max(1, e.high))/math.Log(1024)))
	}
	low, high := e.low/base, e.high/base
	raw := (high - low) / float64(max(1, count))
	step := step125(raw, true)
	var ticks []Tick
	for k := math.Ceil(low/step - 1e-9); k*step <= high+1e-9*step && len(ticks) < ticksMax; k++ {
		ticks = append(ticks, Tick{k * step * base, a.Unit.Format(k * step * base)})
	}
	return ticks
}

func (a Axis) logTicks(e extent, count int) []Tick {
	if a.Unit == quantity.Bytes {
		return a.binaryTicks(e, count)
	}
	decades := math.Log10(e.high / e.low)
	labelled := []float64{1}
	switch {
	case decades*3 <= float64(count)+0.5:
		labelled = []float64{1, 2, 5}
	}
	every := max(1, int(math.Ceil(decades/float64(max(1, count)))))
	var ticks []Tick
	first := math.Floor(math.Log10(e.low) + 1e-9)
	for d := 0; math.Pow(10, first+float64(d)) <= e.high*(1+1e-9); d++ {
		decade := math.Pow(10, first+float64(d))
		for m := 1.0; m < 10; m++ {
			v := decade * m
			if v < e.low*(1-1e-9) || v > e.high*(1+1e-9) {
				continue
			}
			t := Tick{Value: v}
			for _, s := range labelled {
				if m == s && d%every == 0 {
					t.Label = a.Unit.Format(math.Round(v*1e6) / 1e6)
				}
			}
			ticks = append(ticks, t)
		}
	}
	return ticks
}

// binaryTicks are at powers of two; labels are the same factor apart.
func (a Axis) binaryTicks(e extent, count int) []Tick {
	first, last := int(math.Ceil(math.Log2(e.low)-1e-9)), int(math.Floor(math.Log2(e.high)+1e-9))
	every := 1
	for _, octaves := range []int{2, 5, 10} { // 4, 32, 1024: all have names in binary units
		if (last-first)/every+1 > count {
			every = octaves
		}
	}
	var ticks []Tick
	for k := first; k <= last; k++ {
		t := Tick{Value: math.Exp2(float64(k))}
		if k%every == 0 {
			t.Label = a.Unit.Format(t.Value)
		}
		ticks = append(ticks, t)
	}
	return ticks
}

func ninesTicks(e extent) []Tick {
	all := []Tick{{0, "0"}, {0.5, "50%"}, {0.9, "90%"}, {0.99, "99%"}, {0.999, "99.9%"}, {0.9999, "99.99%"}, {0.99999, "99.999%"}, {0.999999, "99.9999%"}}
	for i, t := range all {
		if t.Value > e.high+1e-12 {
			return all[:i]
		}
	}
	return all
}
