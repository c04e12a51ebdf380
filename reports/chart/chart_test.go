package chart

import (
	"bytes"
	"encoding/xml"
	"errors"
	"image/png"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/nexuscore-labs/nexus/reports/quantity"
)

func charts() []Chart {
	style := Style{Role: "subject"}
	nan := math.NaN()
	return []Chart{
		{Name: "lines", Title: `a "title" <with> & marks`, X: Axis{Unit: quantity.Count, Scale: Log}, Y: Axis{Unit: quantity.Ns, Scale: Log},
			Lines: []Line{{Name: "<b>", Style: style, Dots: true, X: []float64{1, 10, 100}, Y: []float64{5, nan, 700}, Lo: []float64{4, nan, 600}, Hi: []float64{6, nan, 900}},
				{Name: "other", Style: Style{"peer", 3}, X: []float64{1, 2}, Y: []float64{5, 5}}},
			Marks: []Mark{{At: 50, Name: "rolled & gone"}}},
		{Name: "one", X: Axis{Unit: quantity.PerS, Zero: true}, Y: Axis{Unit: quantity.Share, Zero: true}, Lines: []Line{{Name: "x", Style: style, X: []float64{0}, Y: []float64{0}}}},
		{Name: "nines", X: Axis{Scale: Nines}, Y: Axis{Unit: quantity.Ns, Scale: Log}, Lines: []Line{{Name: "x", Style: style, X: []float64{0, 0.5, 0.99}, Y: []float64{1, 2, 3}}}},
		{Name: "bars", X: Axis{Unit: quantity.PerS, Zero: true}, Bars: []Bar{{Name: "a", Style: style, Value: 5, Lo: 4, Hi: 6}, {Name: "b", Missing: "not measured"}}},
		{Name: "heat", X: Axis{Unit: quantity.Ns, Scale: Log}, Edges: []float64{1, 10, 100}, Heat: []HeatRow{{Name: "a", Style: style, Note: "n", Shares: []float64{0.9, 0.1}}}},
		{Name: "nothing but gaps", X: Axis{Scale: Log}, Y: Axis{Scale: Log}, Lines: []Line{{Name: "x", X: []float64{1, 2}, Y: []float64{nan, nan}}}},
	}
}

// Whatever is drawn is well-formed XML, inside its own edges, without NaN, and
// all text is escaped.
func TestSVGIsWellFormed(t *testing.T) {
	for _, c := range charts() {
		for _, width := range []float64{Wide, Narrow} {
			text := c.SVG(width)
			if err := wellFormed(text); err != nil {
				t.Errorf("%s: %v\n%s", c.Name, err, text)
			}
			if strings.Contains(text, "NaN") || strings.Contains(text, "Inf") || strings.Contains(text, "<b>") {
				t.Errorf("%s: %s", c.Name, text)
			}
		}
	}
}

func wellFormed(text string) error {
	decoder := xml.NewDecoder(strings.NewReader(text))
	for {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func TestMissingBarHasNoLength(t *testing.T) {
	c := charts()[3]
	text := c.SVG(Wide)
	if !strings.Contains(text, "not measured") || strings.Count(text, `class="bar `) != 1 {
		t.Errorf("an absent value was drawn: %s", text)
	}
}

func TestFiles(t *testing.T) {
	for _, c := range charts() {
		svg, picture, err := c.Files()
		if err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		if err := wellFormed(string(svg)); err != nil || bytes.Contains(svg, []byte("NaN")) {
			t.Errorf("%s: %v", c.Name, err)
		}
		if _, err := png.Decode(bytes.NewReader(picture)); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
	}
}

func TestTicks(t *testing.T) {
	labels := func(a Axis, low, high float64, count int) string {
		var all []string
		for _, tick := range a.ticks(extent{low, high}, count) {
			if tick.Label != "" {
				all = append(all, tick.Label)
			}
		}
		return strings.Join(all, " ")
	}
	for _, c := range []struct {
		axis      Axis
		low, high float64
		count     int
		want      string
	}{
		{Axis{Unit: quantity.Share}, 0, 1, 5, "0% 20% 40% 60% 80% 100%"},
		{Axis{Unit: quantity.Ns, Scale: Log}, 1e3, 1e6, 6, "1 µs 10 µs 100 µs 1 ms"},
		{Axis{Unit: quantity.Ns, Scale: Log}, 1e3, 1e4, 6, "1 µs 2 µs 5 µs 10 µs"},
		{Axis{Unit: quantity.Count, Scale: Log}, 1, 1e12, 6, "1 100 10k 1M 100M 10G 1T"},
		{Axis{Scale: Nines}, 0, 0.999, 6, "0 50% 90% 99% 99.9%"},
		{Axis{Unit: quantity.Bytes}, 0, 4096, 4, "0 B 1 KiB 2 KiB 3 KiB 4 KiB"},
	} {
		if got := labels(c.axis, c.low, c.high, c.count); got != c.want {
			t.Errorf("%+v: %q, want %q", c, got, c.want)
		}
	}
}

func TestEndLabelsDontTouch(t *testing.T) {
	c := Chart{X: Axis{Unit: quantity.Count}, Y: Axis{Unit: quantity.Count}}
	for i := range 8 {
		c.Lines = append(c.Lines, Line{Name: "line", Style: Style{"peer", i}, X: []float64{0, 1}, Y: []float64{0, 1 + float64(i)/1e6}})
	}
	var last float64
	decoder := xml.NewDecoder(strings.NewReader(c.SVG(Wide)))
	for {
		token, err := decoder.Token()
		if err != nil {
			break
		}
		element, is := token.(xml.StartElement)
		if !is || element.Name.Local != "text" {
			continue
		}
		attribute := map[string]string{}
		for _, a := range element.Attr {
			attribute[a.Name.Local] = a.Value
		}
		if attribute["class"] != "name peer" {
			continue
		}
		y := parse(t, attribute["y"])
		if last != 0 && y-last < lineStep-0.2 {
			t.Errorf("labels at %v and %v touch", last, y)
		}
		last = y
	}
	if last == 0 {
		t.Error("no labels")
	}
}

func parse(t *testing.T, text string) float64 {
	t.Helper()
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// Sizes have ticks at powers of two, never "1000 B" or "9.77 KiB".
func TestByteTicksArePowersOfTwo(t *testing.T) {
	for _, c := range []struct {
		low, high float64
		count     int
		want      string
	}{
		{1000, 10_000, 9, "512 B|1 KiB|2 KiB|4 KiB|8 KiB|16 KiB"},
		{512, 1 << 20, 9, "1 KiB|4 KiB|16 KiB|64 KiB|256 KiB|1 MiB"},
		{1, 1 << 30, 8, "1 B|32 B|1 KiB|32 KiB|1 MiB|32 MiB|1 GiB"},
		{4096, 4096, 6, "2 KiB|4 KiB|8 KiB"},
	} {
		axis := Axis{Unit: quantity.Bytes, Scale: Log}
		var labels []string
		for _, tick := range axis.ticks(axis.round(extent{c.low, c.high}), c.count) {
			if tick.Label != "" {
				labels = append(labels, tick.Label)
			}
		}
		if got := strings.Join(labels, "|"); got != c.want {
			t.Errorf("%v to %v in %d: %s, want %s", c.low, c.high, c.count, got, c.want)
		}
	}
}
