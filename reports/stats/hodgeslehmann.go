package stats

import (
	"math"
	"slices"
)

// walshMax bounds the differences of HodgesLehmannCI: their pairs are sorted.
const walshMax = 2000

// HodgesLehmannCI is the centre of symmetry of the differences, the median of
// the means of all pairs of them, with the interval that SignedRank does not
// reject (Hollander and Wolfe 1973; the depth is the normal approximation's,
// within one of the exact one). It is not Valid for fewer than six differences,
// which can't show anything at 95%, more than walshMax, or one that is not finite.
func HodgesLehmannCI(differences []float64) Interval {
	n := len(differences)
	if n < 6 || n > walshMax || !allFinite(differences) {
		return invalid(n)
	}
	means := make([]float64, 0, n*(n+1)/2)
	for i := range differences {
		for j := range i + 1 {
			means = append(means, (differences[i]+differences[j])/2)
		}
	}
	slices.Sort(means)
	const z = 1.959963984540054
	size := float64(n)
	depth := max(0, int(math.Round(size*(size+1)/4-z*math.Sqrt(size*(size+1)*(2*size+1)/24)))-1)
	return Interval{Center: sortedMedian(means), Lo: means[depth], Hi: means[len(means)-1-depth], Confidence: Confidence, N: n}
}
