package reports

import (
	"math"
	"slices"
	"strings"

	"github.com/nexuscore-labs/nexus/reports/chart"
	"github.com/nexuscore-labs/nexus/reports/quantity"
	"github.com/nexuscore-labs/nexus/reports/stats"
)

func (v *view) throughputBars(point string) chart.Chart {
	c := chart.Chart{
		Name: stem("throughput", point), Title: "Throughput at " + point,
		Caption: "Verified answers per second: median over trials with its " + confidenceWords(v.throughputs(point)) + ". Higher is better.",
		X:       chart.Axis{Label: "answers per second →", Unit: quantity.PerS, Zero: true},
	}
	measured := false
	for _, contender := range v.Contenders {
		p := v.results[place{contender.Name, point}]
		if p == nil {
			continue
		}
		bar := chart.Bar{Name: contender.Name + " (" + contender.Role + ")", Style: v.styles[contender.Name]}
		if p.ThroughputPerS == nil {
			bar.Missing = quantity.NotMeasured
		} else {
			bar.Value, bar.Lo, bar.Hi = p.ThroughputPerS.Center, p.ThroughputPerS.Lo, p.ThroughputPerS.Hi
			measured = true
		}
		c.Bars = append(c.Bars, bar)
	}
	if !measured {
		c.Bars = nil
	}
	return c
}

const latencyCaption = "All valid trials together, counted from the intended send time. "

func (v *view) percentileCurve(point string) chart.Chart {
	c := chart.Chart{
		Name: stem("latency-percentiles", point), Title: "Latency by percentile at " + point,
		Caption: latencyCaption + "Lower is better.",
		X:       chart.Axis{Label: "percentile →", Unit: quantity.Share, Scale: chart.Nines},
		Y:       chart.Axis{Label: "latency (log) — lower is better", Unit: quantity.Ns, Scale: chart.Log},
	}
	const perDecade = 24
	v.eachLatency(point, func(l chart.Line, at place) {
		for _, p := range PercentileCurve(v.latency[at], perDecade) {
			l.X, l.Y = append(l.X, p.Share), append(l.Y, p.ValueNs)
		}
		c.Lines = append(c.Lines, l)
	})
	return c
}

func (v *view) cdf(point string) chart.Chart {
	c := chart.Chart{
		Name: stem("latency-cdf", point), Title: "Latency distribution at " + point,
		Caption: latencyCaption + "Further left is better.",
		X:       chart.Axis{Label: "latency (log) — further left is better", Unit: quantity.Ns, Scale: chart.Log},
		Y:       chart.Axis{Label: "share of requests answered within", Unit: quantity.Share, Zero: true},
		Legend:  true,
	}
	const bounds = 120
	v.eachLatency(point, func(l chart.Line, at place) {
		for _, p := range CDF(v.latency[at], bounds) {
			l.X, l.Y = append(l.X, p.ValueNs), append(l.Y, p.Share)
		}
		c.Lines = append(c.Lines, l)
	})
	return c
}

func (v *view) eachLatency(point string, add func(chart.Line, place)) {
	for _, contender := range v.Contenders {
		at := place{contender.Name, point}
		if v.latency[at] != nil {
			add(chart.Line{Name: contender.Name, Style: v.styles[contender.Name]}, at)
		}
	}
}

// scaling is throughput over the one thing that the sweep varies.
func (v *view) scaling(over curve) chart.Chart {
	c := chart.Chart{
		Name: stem("scaling", over.name), Title: "Throughput by " + words(over.name),
		Caption: "Median over trials; the band is its " + confidenceWords(v.throughputs(over.names()...)) + ". Higher is better.",
		X:       chart.Axis{Label: words(over.name) + " →", Unit: unitOfKey(over.key), Scale: chart.Log},
		Y:       chart.Axis{Label: "answers per second (log) — higher is better", Unit: quantity.PerS, Scale: chart.Log},
	}
	if over.key == "" {
		return c
	}
	for _, contender := range v.Contenders {
		l := chart.Line{Name: contender.Name, Style: v.styles[contender.Name], Dots: true}
		for _, p := range over.points {
			result := v.results[place{contender.Name, p.name}]
			if result != nil && result.ThroughputPerS != nil && p.sweep[over.key] > 0 {
				appendInterval(&l, p.sweep[over.key], *result.ThroughputPerS)
			}
		}
		if len(l.X) > 0 {
			c.Lines = append(c.Lines, l)
		}
	}
	return c
}

func (v *view) throughputLatency(over curve) chart.Chart {
	c := chart.Chart{
		Name: stem("throughput-latency", over.name), Title: "p99 latency against throughput, by " + words(over.name),
		Caption: "One dot per sweep point: median over trials; the band is the " + confidenceWords(v.throughputs(over.names()...)) + " of the p99. Lower and further right is better.",
		X:       chart.Axis{Label: "answers per second (log) →", Unit: quantity.PerS, Scale: chart.Log},
		Y:       chart.Axis{Label: "p99 latency (log) — lower is better", Unit: quantity.Ns, Scale: chart.Log},
	}
	for _, contender := range v.Contenders {
		l := chart.Line{Name: contender.Name, Style: v.styles[contender.Name], Dots: true}
		for _, p := range over.points {
			result := v.results[place{contender.Name, p.name}]
			if result == nil || result.ThroughputPerS == nil {
				continue
			}
			if p99, measured := result.LatencyNs["p99"]; measured {
				appendInterval(&l, result.ThroughputPerS.Center, p99)
			}
		}
		if len(l.X) > 0 {
			c.Lines = append(c.Lines, l)
		}
	}
	return c
}

func appendInterval(l *chart.Line, x float64, y stats.Interval) {
	l.X, l.Y = append(l.X, x), append(l.Y, y.Center)
	l.Lo, l.Hi = append(l.Lo, y.Lo), append(l.Hi, y.Hi)
}

func (v *view) timelineRate(point string) chart.Chart {
	c := v.timeline(point, func(ticks []Tick, i int) float64 {
		began := int64(0)
		if i > 0 {
			began = ticks[i-1].OffsetNs
		}
		if ticks[i].OffsetNs <= began {
			return math.NaN()
		}
		return float64(ticks[i].Completed) / (float64(ticks[i].OffsetNs-began) / 1e9)
	})
	c.Name, c.Title = stem("timeline-rate", point), "One trial over time at "+point+": answers"
	c.Caption = "The trial of median throughput of each contender, in the whole intervals of its measured part. Higher and steadier is better."
	c.Y = chart.Axis{Label: "answers per second — higher is better", Unit: quantity.PerS, Zero: true}
	return c
}

func (v *view) timelineP99(point string) chart.Chart {
	c := v.timeline(point, func(ticks []Tick, i int) float64 {
		if ticks[i].Completed == 0 {
			return math.NaN()
		}
		return float64(ticks[i].P99Ns)
	})
	c.Name, c.Title = stem("timeline-p99", point), "One trial over time at "+point+": p99"
	c.Caption = "p99 of each interval in the same trials; gaps are intervals without an answer. Lower and flatter is better."
	c.Y = chart.Axis{Label: "p99 latency (log) — lower is better", Unit: quantity.Ns, Scale: chart.Log}
	return c
}

func (v *view) timeline(point string, value func([]Tick, int) float64) chart.Chart {
	c := chart.Chart{X: chart.Axis{Label: "time since the measured part began →", Unit: quantity.Ns, Zero: true}}
	for _, contender := range v.Contenders {
		t := v.medianTrial(place{contender.Name, point})
		if t == nil {
			continue
		}
		ticks := t.measuredTicks()
		if len(ticks) < 2 {
			continue
		}
		l := chart.Line{Name: contender.Name, Style: v.styles[contender.Name]}
		for i, tick := range ticks {
			l.X, l.Y = append(l.X, float64(tick.OffsetNs)), append(l.Y, value(ticks, i))
		}
		c.Lines = append(c.Lines, l)
		if contender.Role == RoleSubject {
			for _, e := range t.Events {
				if e.OffsetNs > ticks[len(ticks)-1].OffsetNs {
					continue
				}
				c.Marks = append(c.Marks, chart.Mark{At: float64(e.OffsetNs), Name: e.Name})
			}
		}
	}
	return c
}

// measuredTicks are the intervals that lie within the measured part as a whole.
// The one in which it ended and those in which stragglers came hold a part of an
// interval's answers: as rates they would show a drop that nothing had.
func (t *Trial) measuredTicks() []Tick {
	end := slices.IndexFunc(t.Timeline, func(tick Tick) bool { return tick.OffsetNs > t.ElapsedNs })
	if end < 0 {
		return t.Timeline
	}
	return t.Timeline[:end]
}

// unitOfKey reads the unit out of a sweep key's last word.
func unitOfKey(key string) quantity.Unit {
	switch {
	case strings.HasSuffix(key, "_bytes"):
		return quantity.Bytes
	case strings.HasSuffix(key, "_per_s"):
		return quantity.PerS
	case strings.HasSuffix(key, "_ns"):
		return quantity.Ns
	}
	return quantity.Count
}

// words is a key for people: without its unit and underscores.
func words(key string) string {
	for _, unit := range []string{"_bytes", "_per_s", "_ns"} {
		key = strings.ReplaceAll(key, unit, "")
	}
	return strings.ReplaceAll(key, "_", " ")
}

// stem is a file name made of what a chart shows.
func stem(parts ...string) string {
	return strings.Trim(strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-':
			return c
		case c >= 'A' && c <= 'Z':
			return c - 'A' + 'a'
		}
		return '-'
	}, strings.Join(parts, "-")), "-")
}
