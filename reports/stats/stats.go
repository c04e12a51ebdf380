// Package stats holds the statistics of results: intervals of medians and of
// ratios, the Mann–Whitney test and Holm's correction. The sample is always the
// trial. Nothing here guesses: too few or unusable values give an interval that
// is not Valid, never a number.
package stats

import (
	"math"
	"slices"
)

// Confidence is the nominal confidence of all intervals made here.
const Confidence = 0.95

// Interval is an estimate with its confidence interval. When Valid is false its
// bounds are NaN, which JSON can't carry: use Ptr to turn it into a null.
type Interval struct {
	Center     float64 `json:"center"`
	Lo         float64 `json:"lo"`
	Hi         float64 `json:"hi"`
	Confidence float64 `json:"confidence"` // 0.95; less for fewer than six values, see MedianCI
	N          int     `json:"n"`          // trials or pairs behind it
}

// Valid says whether the interval bounds anything: all three numbers are finite
// and in order, and at least two values are behind them.
func (i Interval) Valid() bool {
	for _, v := range []float64{i.Center, i.Lo, i.Hi} {
		if !finite(v) {
			return false
		}
	}
	return i.N >= 2 && i.Lo <= i.Center && i.Center <= i.Hi
}

// Ptr is the interval for a nullable field of a result: nil when not Valid.
func (i Interval) Ptr() *Interval {
	if !i.Valid() {
		return nil
	}
	return &i
}

// Contains says whether v lies in the interval; an invalid one contains nothing.
func (i Interval) Contains(v float64) bool { return i.Valid() && i.Lo <= v && v <= i.Hi }

// Invert is the interval of 1/x; it is invalid when x may be 0 or less.
func (i Interval) Invert() Interval {
	if !i.Valid() || i.Lo <= 0 {
		return invalid(i.N)
	}
	return Interval{Center: 1 / i.Center, Lo: 1 / i.Hi, Hi: 1 / i.Lo, Confidence: i.Confidence, N: i.N}
}

func invalid(n int) Interval {
	nan := math.NaN()
	return Interval{Center: nan, Lo: nan, Hi: nan, Confidence: Confidence, N: n}
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

func allFinite(values []float64) bool {
	return !slices.ContainsFunc(values, func(v float64) bool { return !finite(v) })
}

// Median is the middle value, the mean of the middle two for an even count, and
// NaN for none or when any value is not finite.
func Median(values []float64) float64 {
	if len(values) == 0 || !allFinite(values) {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	return sortedMedian(sorted)
}

func sortedMedian(sorted []float64) float64 {
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return sorted[n/2-1] + (sorted[n/2]-sorted[n/2-1])/2
}

// quantile interpolates linearly between order statistics (Hyndman–Fan type 7,
// the default of R and NumPy).
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	low := int(math.Floor(at))
	if low >= len(sorted)-1 {
		return sorted[len(sorted)-1]
	}
	return sorted[low] + (at-float64(low))*(sorted[low+1]-sorted[low])
}
