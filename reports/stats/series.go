package stats

import (
	"math"

	"gonum.org/v1/gonum/stat/distuv"
)

// Mean is NaN for no values or when any is not finite. Values are summed as
// differences from the first, which keeps digits that are common to all.
func Mean(values []float64) float64 {
	if len(values) == 0 || !allFinite(values) {
		return math.NaN()
	}
	sum := 0.0
	for _, v := range values {
		sum += v - values[0]
	}
	return values[0] + sum/float64(len(values))
}

// StdDev is the sample's standard deviation (divisor n−1), NaN below two values.
func StdDev(values []float64) float64 {
	mean := Mean(values)
	if len(values) < 2 || math.IsNaN(mean) {
		return math.NaN()
	}
	squares, rest := 0.0, 0.0
	for _, v := range values {
		squares += (v - mean) * (v - mean)
		rest += v - mean // zero but for rounding, which this corrects (Chan, Golub, LeVeque 1983)
	}
	n := float64(len(values))
	return math.Sqrt((squares - rest*rest/n) / (n - 1))
}

// Autocorrelation at a lag, by NIST's definition: the covariance of the series
// with itself shifted, over its variance, both about the mean of all. It is NaN
// for a constant series or one that is not longer than the lag.
func Autocorrelation(series []float64, lag int) float64 {
	mean := Mean(series)
	if lag < 0 || len(series) <= lag || math.IsNaN(mean) {
		return math.NaN()
	}
	shifted, whole := 0.0, 0.0
	for i, v := range series {
		whole += (v - mean) * (v - mean)
		if i+lag < len(series) {
			shifted += (v - mean) * (series[i+lag] - mean)
		}
	}
	if whole == 0 {
		return math.NaN()
	}
	return shifted / whole
}

// EffectiveSamples is how many independent values would tell the mean as well
// as this series does: n over its integrated autocorrelation time, which is
// summed by Geyer's initial positive sequence (Statistical Science 7, 1992): pairs
// of neighbouring lags, as long as a pair is positive. It is at most n, and NaN
// for a constant series or fewer than four values.
func EffectiveSamples(series []float64) float64 {
	n := len(series)
	if n < 4 || math.IsNaN(Autocorrelation(series, 0)) {
		return math.NaN()
	}
	time, least := -1.0, math.Inf(1)
	for lag := 0; lag+1 < n/2; lag += 2 {
		pair := Autocorrelation(series, lag) + Autocorrelation(series, lag+1)
		if pair <= 0 {
			break
		}
		least = math.Min(least, pair) // the monotone form: a noisy tail must not add up
		time += 2 * least
	}
	return float64(n) / math.Max(1, time)
}

// batches is how many batch means an interval is made of: few, so that a batch is
// long against the correlation, as the interval's cost for that is small
// (Schmeiser, Operations Research 30, 1982).
const batches = 10

// BatchMeansCI is the mean of a correlated series with its 95% interval, from
// Student's t over ten batch means. Below twenty values it is not Valid; N is
// the number of batches. Up to nine values at the front are left out to make the
// batches equal. Where the batch means themselves are correlated it covers less:
// `nexus selftest statistics` prints by how much.
func BatchMeansCI(series []float64) Interval {
	size := len(series) / batches
	if size < 2 || !allFinite(series) {
		return invalid(len(series))
	}
	kept := series[len(series)-size*batches:]
	means := make([]float64, batches)
	for i := range means {
		means[i] = Mean(kept[i*size : (i+1)*size])
	}
	center := Mean(means)
	t := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: batches - 1}.Quantile(1 - (1-Confidence)/2)
	half := t * StdDev(means) / math.Sqrt(batches)
	return Interval{Center: center, Lo: center - half, Hi: center + half, Confidence: Confidence, N: batches}
}
