package stats

import (
	"math"
	"slices"
)

// wholeRangeBelow is the number of values from which on two order statistics
// other than the smallest and the largest can reach Confidence.
const wholeRangeBelow = 6

// InterpolatedCI is the median with the interval of Hettmansperger and Sheather
// (Statistics & Probability Letters 4, 1986): between the two symmetric
// intervals of order statistics whose exact coverages enclose 95%, interpolated
// so that a symmetric distribution is covered at nearly 95% whatever its tails;
// Nyblom (1992) shows the same for skewed ones. Up to five values it is the
// whole range, and Confidence says what that is worth.
func InterpolatedCI(values []float64) Interval {
	n := len(values)
	if n < 2 || !allFinite(values) {
		return invalid(n)
	}
	sorted := slices.Sorted(slices.Values(values))
	ci := Interval{Center: sortedMedian(sorted), Lo: sorted[0], Hi: sorted[n-1], Confidence: 1 - math.Exp2(float64(1-n)), N: n}
	if n < wholeRangeBelow {
		return ci
	}
	depth, outer, inner := enclosing(n)
	share := (outer - Confidence) / (outer - inner)
	weight := float64(n-depth) * share / (float64(depth) + float64(n-2*depth)*share)
	ci.Lo = between(sorted[depth-1], sorted[depth], weight)
	ci.Hi = between(sorted[n-depth], sorted[n-depth-1], weight)
	ci.Confidence = Confidence
	return ci
}

// between is exact at both ends, and monotone.
func between(from, to, weight float64) float64 { return from + (to-from)*weight }

// enclosing is the largest depth at which the interval of the depth-th smallest
// and the depth-th largest of n values covers the median with at least
// Confidence, that coverage, and the coverage one deeper.
func enclosing(n int) (depth int, outer, inner float64) {
	depth, outer = 1, depthCoverage(n, 1)
	for {
		if inner = depthCoverage(n, depth+1); inner < Confidence {
			return depth, outer, inner
		}
		depth, outer = depth+1, inner
	}
}

// depthCoverage is 1 − 2·P(Binomial(n, ½) < depth), exact for any continuous
// distribution.
func depthCoverage(n, depth int) float64 {
	tail := 0.0
	for k := range depth {
		tail += math.Exp(logChoose(n, k) - float64(n)*math.Ln2)
	}
	return 1 - 2*tail
}

func logChoose(n, k int) float64 {
	a, _ := math.Lgamma(float64(n + 1))
	b, _ := math.Lgamma(float64(k + 1))
	c, _ := math.Lgamma(float64(n - k + 1))
	return a - b - c
}

// OrderStatCI is the median with the narrowest symmetric interval of order
// statistics whose coverage, exact for any continuous distribution, is at least
// 95%; Confidence is that coverage. Five values or fewer can't reach 95%: the
// interval is then the whole range and Confidence says what that is worth.
func OrderStatCI(values []float64) Interval {
	n := len(values)
	if n < wholeRangeBelow {
		return InterpolatedCI(values)
	}
	if !allFinite(values) {
		return invalid(n)
	}
	sorted := slices.Sorted(slices.Values(values))
	depth, coverage, _ := enclosing(n)
	return Interval{Center: sortedMedian(sorted), Lo: sorted[depth-1], Hi: sorted[n-depth], Confidence: coverage, N: n}
}
