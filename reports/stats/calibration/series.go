package calibration

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/nexuscore-labs/nexus/reports/stats"
)

// A trial has some 150 intervals, of which the first fifth is its warm-up.
const (
	seriesLen  = 150
	seriesWarm = 30
)

// series is an autoregressive process of order 1 about 100; scatter is its
// relative standard deviation. Heavy innovations are log-normal.
func series(r *rand.Rand, phi, scatter float64, heavy bool) []float64 {
	const settle = 60
	out := make([]float64, seriesLen)
	state := 0.0
	for i := -settle; i < seriesLen; i++ {
		shock := r.NormFloat64()
		if heavy {
			shock = (math.Exp(shock) - math.Exp(0.5)) / math.Sqrt(math.E*(math.E-1))
		}
		state = phi*state + math.Sqrt(1-phi*phi)*shock
		if i >= 0 {
			out[i] = 100 * (1 + scatter*state)
		}
	}
	return out
}

// withinTrial is the coverage of the interval of a trial's own mean. It sinks
// with the correlation, as the true number of independent values does.
func withinTrial() []experiment {
	var out []experiment
	for _, c := range []struct{ phi, low, high float64 }{{0, 0.93, 0.97}, {0.5, 0.92, 0.96}, {0.8, 0.87, 0.94}, {0.9, 0.8, 0.89}} {
		worth := seriesLen * (1 - c.phi) / (1 + c.phi)
		out = append(out,
			experiment{"coverage", "mean within a trial, batch means", fmt.Sprintf("correlation %g: worth %.0f values", c.phi, worth), seriesLen, 1500, c.low, c.high,
				"95% where worth 50 or more", func(r *rand.Rand) bool { return stats.BatchMeansCI(series(r, c.phi, 0.1, false)).Contains(100) }},
			experiment{"coverage", "mean within a trial, as if independent (not used)", fmt.Sprintf("correlation %g", c.phi), seriesLen, 1500, 0, 1,
				"what ignoring it would cost", func(r *rand.Rand) bool {
					x := series(r, c.phi, 0.1, false)
					return math.Abs(stats.Mean(x)-100) <= 1.96*stats.StdDev(x)/math.Sqrt(seriesLen)
				}})
	}
	return out
}

// warmups is how often a trial is doubted that was steady, and one that was not.
func warmups() []experiment {
	var out []experiment
	doubted := func(x []float64) bool {
		s, ok := stats.Settle(x, seriesWarm)
		return ok && (s.Late || s.Never)
	}
	for _, phi := range []float64{0, 0.5, 0.8, 0.9} {
		for _, heavy := range []bool{false, true} {
			for _, scatter := range []float64{0.1, 0.4} {
				shape := "normal"
				if heavy {
					shape = "log-normal"
				}
				name := fmt.Sprintf("correlation %g, %s, scatter %.0f%%", phi, shape, 100*scatter)
				out = append(out, experiment{"warm-up", "false alarms on steady trials", name, seriesLen, 800, 0, 0.03, "at most 3%",
					func(r *rand.Rand) bool { return doubted(series(r, phi, scatter, heavy)) }})
			}
		}
	}
	for _, c := range []struct {
		name    string
		low     float64
		disturb func(x []float64)
	}{
		{"nothing for the first third", 0.9, func(x []float64) { clear(x[:seriesLen/3]) }},
		{"half speed for the first third", 0.9, func(x []float64) { scale(x[:seriesLen/3], 0.5) }},
		{"a fifth slower for the first third", 0.5, func(x []float64) { scale(x[:seriesLen/3], 0.8) }},
		{"slows down by a third over the trial", 0.9, func(x []float64) {
			for i := range x {
				x[i] *= 1 - float64(i)/seriesLen/3
			}
		}},
	} {
		for _, phi := range []float64{0, 0.5} {
			out = append(out, experiment{"warm-up", "found", fmt.Sprintf("%s, correlation %g", c.name, phi), seriesLen, 300, c.low, 1, "scatter 10%",
				func(r *rand.Rand) bool {
					x := series(r, phi, 0.1, false)
					c.disturb(x)
					return doubted(x)
				}})
		}
	}
	return out
}

func scale(x []float64, by float64) {
	for i := range x {
		x[i] *= by
	}
}
