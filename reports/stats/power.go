package stats

import (
	"math"

	"gonum.org/v1/gonum/stat/distuv"
)

const (
	resolvePower = 0.8 // how often TrialsToResolve finds the effect
	// efficiency of the Mann–Whitney test relative to Student's for normal values;
	// for heavier tails it is more.
	efficiency = 3 / math.Pi
	trialsMost = 10_000 // more than anybody runs
)

// TrialsToResolve is how many trials each side would need for the Mann–Whitney
// test, at alpha over a family of so many tests, to find a relative change of
// effect in four runs of five, if further trials scatter as these do. It is 0
// when that can't be said: too few values, or values of 0 or less.
func TrialsToResolve(a, b []float64, effect, alpha float64, family int) int {
	variance, ok := logVariance(a, b)
	if !ok || !(effect > 0) || !(alpha > 0) || family < 1 {
		return 0
	}
	// An estimate of the scatter from few trials is as often too low as too high, and
	// too few trials are asked for at a higher price: it is raised to what the true
	// one exceeds in 30% of cases.
	freedom := float64(len(a) + len(b) - 2)
	variance *= freedom / distuv.ChiSquared{K: freedom}.Quantile(0.3)
	each := alpha / float64(family)
	quantile := distuv.UnitNormal.Quantile
	sum := quantile(1-each/2) + quantile(resolvePower)
	change := math.Log1p(effect)
	// The last term is Guenther's (1981) for small samples.
	exact := 2*variance*sum*sum/(change*change*efficiency) + quantile(1-each/2)*quantile(1-each/2)/4
	n := int(math.Min(trialsMost, math.Ceil(exact)))
	n = max(n, 2)
	for n < trialsMost && LeastP(n, n) >= each {
		n++
	}
	return n
}

// logVariance is the pooled variance of the logarithms about each side's mean.
func logVariance(a, b []float64) (float64, bool) {
	squares, freedom := 0.0, 0
	for _, side := range [][]float64{a, b} {
		logs := make([]float64, len(side))
		for i, v := range side {
			if !(v > 0) {
				return 0, false
			}
			logs[i] = math.Log(v)
		}
		sd := StdDev(logs)
		if math.IsNaN(sd) {
			return 0, false
		}
		squares += sd * sd * float64(len(side)-1)
		freedom += len(side) - 1
	}
	return squares / float64(freedom), true
}
