package stats

import (
	"math"
	"slices"
)

const (
	// mserBatch values are averaged before the rule looks at them: MSER-5 (White,
	// Cobb and Spratt, Winter Simulation Conference 2000).
	mserBatch = 5
	// steadyValuesMin are too few to tell a trend from noise below it.
	steadyValuesMin = 40
	// driftZ and driftMin are what a change within a trial must reach to be called
	// one. Both come from simulation; see Settle.
	driftZ   = 4.0
	driftMin = 0.03
	// independentMin is how many independent values a steady part must be worth
	// before a change in it is called one: with fewer the estimate of their
	// number is itself too uncertain, and one in twelve steady trials was blamed.
	independentMin = 20
	// fenceWidth is in interquartile ranges, Tukey's.
	fenceWidth = 1.5
)

// Settling says when a trial became steady.
type Settling struct {
	From  int     // index of the first steady value, by MSER-5
	Bias  float64 // (mean of the measured values) / (mean of the steady ones) − 1
	Late  bool    // what was measured before From differs from the steady state, and moves the mean
	Never bool    // what follows From still drifts
	// Independent is how many independent values the steady part is worth, its own
	// trend left out. Below twenty it is too correlated to judge: neither Late nor Never.
	Independent float64
}

// Settle looks for the end of the warm-up in a whole series and compares it
// with the index where measuring began. A trial is Late only if the
// difference moves its mean by 3% or more and is beyond four standard errors,
// correlation included; it is Never steady if the two halves of what
// MSER-5 leaves differ by as much. ok is false when there is too little to say.
func Settle(series []float64, measuredFrom int) (s Settling, ok bool) {
	if len(series)-measuredFrom < steadyValuesMin || measuredFrom < 0 || !allFinite(series) {
		return s, false
	}
	whole := series
	series = clipped(series)
	s.From = mser(series)
	middle := Mean(whole[s.From:])
	if !(middle > 0) {
		return s, false
	}
	s.Bias = Mean(whole[measuredFrom:])/middle - 1
	steady := series[s.From:]
	s.Independent = EffectiveSamples(detrended(steady))
	if s.Independent < independentMin {
		return s, true
	}
	if s.From > measuredFrom {
		s.Late = math.Abs(s.Bias) >= driftMin && differs(series[measuredFrom:s.From], steady)
	}
	half := len(steady) / 2
	first, second := steady[:half], steady[half:]
	s.Never = math.Abs(Mean(first)/Mean(second)-1) >= driftMin && differs(first, second)
	return s, true
}

// mser is the truncation point that minimises the squared standard error of the
// mean of the rest, over at most the first half.
func mser(series []float64) int {
	n := len(series) / mserBatch
	means := make([]float64, n)
	for i := range means {
		means[i] = Mean(series[i*mserBatch : (i+1)*mserBatch])
	}
	best, least := 0, math.Inf(1)
	for d := 0; d <= n/2; d++ {
		rest := means[d:]
		s := StdDev(rest)
		if score := s * s * float64(len(rest)-1) / float64(len(rest)*len(rest)); score < least {
			best, least = d, score
		}
	}
	return best * mserBatch
}

// clipped brings outliers to the fences of Tukey's box plot of the second half: a
// single stall is no warm-up, wherever it is, and must not drag the rule there.
func clipped(series []float64) []float64 {
	sorted := slices.Sorted(slices.Values(series[len(series)/2:]))
	low, high := quantile(sorted, 0.25), quantile(sorted, 0.75)
	fence := fenceWidth * (high - low)
	out := make([]float64, len(series))
	for i, v := range series {
		out[i] = math.Min(math.Max(v, low-fence), high+fence)
	}
	return out
}

// differs compares two stretches of one series, the second being the reference
// for how much, and how correlated, its values scatter about their own trend.
func differs(a, b []float64) bool {
	rest := detrended(b)
	long := StdDev(rest) * math.Sqrt(float64(len(b))/EffectiveSamples(rest))
	if math.IsNaN(long) {
		return Mean(a) != Mean(b) // the reference is constant
	}
	return math.Abs(Mean(a)-Mean(b)) > driftZ*long*math.Sqrt(1/float64(len(a))+1/float64(len(b)))
}

// detrended is the series less its least-squares line.
func detrended(series []float64) []float64 {
	mean, middle := Mean(series), float64(len(series)-1)/2
	with, square := 0.0, 0.0
	for i, v := range series {
		at := float64(i) - middle
		with += at * (v - mean)
		square += at * at
	}
	out := make([]float64, len(series))
	for i, v := range series {
		out[i] = v - mean - with/square*(float64(i)-middle)
	}
	return out
}
