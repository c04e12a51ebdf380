package calibration

import (
	"math"
	"math/rand/v2"

	"github.com/nexuscore-labs/nexus/reports/stats"
)

const alpha = 0.05

// repeats keeps the exact test's cost, which grows with the fourth power of n,
// within bounds.
func repeats(n int) int { return 50_000 / (n * n) }

// testSize: with no difference the test must not reject more often than alpha.
func testSize() []experiment {
	var out []experiment
	for _, n := range sizes {
		for _, d := range distributions {
			out = append(out, experiment{"size", "Mann–Whitney", d.name, n, repeats(n), 0, alpha, "at most 5%", func(r *rand.Rand) bool {
				_, p := stats.MannWhitney(sampleOf(r, n, d.draw), sampleOf(r, n, d.draw))
				return p < alpha
			}})
		}
		rounded := func(r *rand.Rand) float64 { return math.Round(distributions[0].draw(r) / 8) }
		out = append(out, experiment{"size", "Mann–Whitney", "many ties", n, repeats(n), 0, alpha, "at most 5%", func(r *rand.Rand) bool {
			_, p := stats.MannWhitney(sampleOf(r, n, rounded), sampleOf(r, n, rounded))
			return p < alpha
		}})
		out = append(out, experiment{"size", "Mann–Whitney", "one side 3 × wider", n, repeats(n), 0, 0.1, "not promised: up to 10%", func(r *rand.Rand) bool {
			wide := func(r *rand.Rand) float64 { return 100 + 30*r.NormFloat64() }
			_, p := stats.MannWhitney(sampleOf(r, n, wide), sampleOf(r, n, distributions[0].draw))
			return p < alpha
		}})
	}
	const tests = 20
	out = append(out, experiment{"size", "Holm over 20 tests", "any false alarm, normal", 10, 200, 0, alpha, "at most 5% of tables", func(r *rand.Rand) bool {
		p := make([]float64, tests)
		for i := range p {
			_, p[i] = stats.MannWhitney(sampleOf(r, 10, distributions[0].draw), sampleOf(r, 10, distributions[0].draw))
		}
		for _, adjusted := range stats.Holm(p) {
			if adjusted < alpha {
				return true
			}
		}
		return false
	}})
	return out
}

// testPower: what shift, in standard deviations, is found how often; and whether
// the number of trials that TrialsToResolve asks for keeps its promise of 80%.
func testPower() []experiment {
	var out []experiment
	// Student's test would find these in 29, 46, 56, 87% and 79, 96, 99, 100%; the
	// ranks lose little, and at five values the exact test can't use all of its 5%.
	for i, n := range sizes {
		for _, c := range []struct {
			shift float64
			low   [4]float64
		}{{1, [4]float64{0.19, 0.38, 0.48, 0.8}}, {2, [4]float64{0.65, 0.9, 0.96, 0.99}}} {
			name := map[float64]string{1: "shift of 1 σ, normal", 2: "shift of 2 σ, normal"}[c.shift]
			out = append(out, experiment{"power", "Mann–Whitney", name, n, repeats(n), c.low[i], 1, "near Student's", func(r *rand.Rand) bool {
				b := sampleOf(r, n, func(r *rand.Rand) float64 { return 100 + 10*(r.NormFloat64()+c.shift) })
				_, p := stats.MannWhitney(sampleOf(r, n, distributions[0].draw), b)
				return p < alpha
			}})
		}
	}
	for _, c := range []struct {
		name          string
		sigma, effect float64
	}{{"5% change, 4% scatter", 0.04, 0.05}, {"10% change, 8% scatter", 0.08, 0.1}, {"20% change, 10% scatter", 0.1, 0.2}} {
		out = append(out, experiment{"power", "after as many trials as compare asks for", c.name, 0, 400, 0.75, 0.95, "80% or more", func(r *rand.Rand) bool {
			draw := func(level float64) func(*rand.Rand) float64 {
				return func(r *rand.Rand) float64 { return level * math.Exp(c.sigma*r.NormFloat64()) }
			}
			n := stats.TrialsToResolve(sampleOf(r, 10, draw(100)), sampleOf(r, 10, draw(100)), c.effect, alpha, 1)
			_, p := stats.MannWhitney(sampleOf(r, n, draw(100)), sampleOf(r, n, draw(100*(1+c.effect))))
			return p < alpha
		}})
	}
	return out
}
