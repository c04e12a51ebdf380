package calibration

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/nexuscore-labs/nexus/reports/stats"
)

// Share is how often something happened in simulation, with the range in which
// it must lie; the range already allows for four standard errors.
type Share struct {
	Group    string  `json:"group"` // coverage, size, power, warm-up
	What     string  `json:"what"`
	Case     string  `json:"case"`
	Values   int     `json:"values"` // n of each sample or series
	Share    float64 `json:"share"`
	StdErr   float64 `json:"std_err"`
	Low      float64 `json:"low"`
	High     float64 `json:"high"`
	Claim    string  `json:"claim"` // where the range comes from
	OK       bool    `json:"ok"`
	Repeated int     `json:"repeated"`
}

// experiment is one share to be estimated.
type experiment struct {
	group, what, name string
	values, repeat    int
	low, high         float64
	claim             string
	once              func(*rand.Rand) bool
}

// run repeats the experiment with draws of its own, which follow from the seed
// and its name, so that the order of experiments does not matter.
func (e *experiment) run(seed uint64) Share {
	name := fnv.New64a()
	fmt.Fprint(name, e.group, e.what, e.name, e.values)
	random := rand.New(rand.NewPCG(seed, name.Sum64()))
	hits := 0
	for range e.repeat {
		if e.once(random) {
			hits++
		}
	}
	n := float64(e.repeat)
	share := float64(hits) / n
	// The error is that at the nearer bound: at a share of 0 its own would be 0.
	bound := math.Min(math.Max(share, e.low), e.high)
	slack := 4 * math.Sqrt(math.Max(bound*(1-bound), 1/n)/n)
	return Share{e.group, e.what, e.name, e.values, share, math.Sqrt(share * (1 - share) / n), e.low, e.high, e.claim,
		share >= e.low-slack && share <= e.high+slack, e.repeat}
}

// Shares runs all simulations on all processors, thoroughness times as often as
// takes some ten seconds. Equal arguments give equal shares.
func Shares(seed uint64, thoroughness int) []Share {
	var all []experiment
	for _, more := range [][]experiment{medianCoverage(), ratioCoverage(), testSize(), testPower(), withinTrial(), warmups()} {
		all = append(all, more...)
	}
	for i := range all {
		all[i].repeat *= max(1, thoroughness)
	}
	out := make([]Share, len(all))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := range all {
		group.Go(func() error {
			out[i] = all[i].run(seed)
			return nil
		})
	}
	_ = group.Wait() // no experiment returns an error
	return out
}

// distribution draws values with a known median.
type distribution struct {
	name   string
	median float64
	draw   func(*rand.Rand) float64
}

var distributions = []distribution{
	{"normal", 100, func(r *rand.Rand) float64 { return 100 + 10*r.NormFloat64() }},
	{"log-normal, σ 1", 1, func(r *rand.Rand) float64 { return math.Exp(r.NormFloat64()) }},
	{"Student, 2 degrees", 100, func(r *rand.Rand) float64 { return 100 + r.NormFloat64()/math.Sqrt(r.ExpFloat64()) }},
	{"Pareto, α 1.5", math.Pow(0.5, -1/1.5), func(r *rand.Rand) float64 { return math.Pow(1-r.Float64(), -1/1.5) }},
	{"1 of 5 stalls", stallMedian, func(r *rand.Rand) float64 {
		if r.Float64() < 0.2 {
			return 150 + 10*r.NormFloat64()
		}
		return 100 + 2*r.NormFloat64()
	}},
}

// stallMedian is where 0.8·Φ((x−100)/2) is a half: the stalls all lie above.
const stallMedian = 100 + 2*0.318639363964375

func sampleOf(r *rand.Rand, n int, draw func(*rand.Rand) float64) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = draw(r)
	}
	return out
}

var sizes = []int{5, 8, 10, 20}

func medianCoverage() []experiment {
	var out []experiment
	add := func(what string, d distribution, n, repeat int, low, high float64, claim string, interval func([]float64) stats.Interval) {
		out = append(out, experiment{"coverage", what, d.name, n, repeat, low, high, claim, func(r *rand.Rand) bool {
			return interval(sampleOf(r, n, d.draw)).Contains(d.median)
		}})
	}
	for _, d := range distributions {
		for _, n := range sizes {
			low, high, claim := 0.935, 0.962, "near 95%; n=5: exactly 15/16"
			if n == 5 {
				low, high = 0.9375, 0.9375
			}
			add("median", d, n, 4000, low, high, claim, stats.InterpolatedCI)
			exact := stats.OrderStatCI(make([]float64, n)).Confidence
			add("median, order statistics", d, n, 1000, exact, exact, "exact for every distribution", stats.OrderStatCI)
		}
	}
	for _, n := range []int{7, 8, 10} {
		add("median, bootstrap (not used)", distributions[1], n, 200, 0.84, 0.98, "what it was replaced for",
			func(values []float64) stats.Interval {
				return stats.BootstrapMedianCI(values, math.Float64bits(values[0]))
			})
	}
	return out
}

// ratioCoverage is of runs that are not paired; in the second case one side
// scatters three times as much.
func ratioCoverage() []experiment {
	var out []experiment
	for _, n := range sizes {
		for _, c := range []struct {
			name   string
			wider  float64
			heavy  bool
			lo, hi float64
		}{
			{"one side 3 × wider", 3, false, 0.93, 0.98}, {"Student, 2 degrees", 1, true, 0.935, 0.985},
		} {
			out = append(out, experiment{"coverage", "ratio of medians of two runs", c.name, n, 150, c.lo, c.hi, "bootstrap, at least 93%", func(r *rand.Rand) bool {
				draw := func(scale float64) func(*rand.Rand) float64 {
					return func(r *rand.Rand) float64 {
						v := r.NormFloat64()
						if c.heavy {
							v /= math.Sqrt(r.ExpFloat64())
						}
						return 100 * math.Exp(0.1*scale*v)
					}
				}
				return stats.MedianRatioCI(sampleOf(r, n, draw(c.wider)), sampleOf(r, n, draw(1)), r.Uint64()).Contains(1)
			}})
		}
		out = append(out, experiment{"coverage", "paired ratio", "rounds differ 2-fold", n, 4000, pairedLow(n), 0.962, "near 95%; n=5: exactly 15/16", func(r *rand.Rand) bool {
			subject, against := make([]float64, n), make([]float64, n)
			for i := range n {
				round := 100 * math.Exp(0.35*r.NormFloat64()) // what a round does to both
				subject[i], against[i] = 3*round*math.Exp(0.05*r.NormFloat64()), round*math.Exp(0.05*r.NormFloat64())
			}
			return stats.RatioCI(subject, against, 0).Contains(3)
		}})
	}
	return out
}

func pairedLow(n int) float64 {
	if n == 5 {
		return 0.9375
	}
	return 0.935
}
