package stats

import (
	"math"
	"math/rand/v2"
	"slices"
)

// Resamples is how many bootstrap samples an interval is made from: enough for
// its bounds to vary by less than the distance of neighbouring values.
const Resamples = 10_000

// MedianCI is the median of the values with the interval that covers best at
// their number. It is not Valid for fewer than two values or when any is not
// finite.
//
// From six values on it is InterpolatedCI, whose coverage is 93.5% to 96% for
// every distribution and number tried (`nexus selftest statistics` prints it).
// The percentile bootstrap, which this was before, covers 87% at seven values
// and 92% to 97% elsewhere. Up to five values it is the whole range, which
// misses the median of a continuous distribution with the chance 2^(1-n), that
// all values fall on one side of it; Confidence says so: 0.9375 for five.
//
// The seed is not used any more: nothing is drawn.
func MedianCI(values []float64, _ uint64) Interval { return InterpolatedCI(values) }

// BootstrapMedianCI is the median with its 95% percentile bootstrap interval.
// Equal values and seed give the equal interval. It is kept as the measure of
// MedianCI, which covers better. Percentile and not BCa: BCa takes its
// acceleration from the jackknife, which is inconsistent for a median (Efron 1979).
func BootstrapMedianCI(values []float64, seed uint64) Interval {
	if len(values) < 2 || !allFinite(values) {
		return invalid(len(values))
	}
	sorted := slices.Sorted(slices.Values(values))
	boot := newBootstrap(len(sorted), seed)
	medians := make([]float64, Resamples)
	for i := range medians {
		medians[i] = boot.median(sorted)
	}
	return percentiles(sortedMedian(sorted), medians, len(values))
}

// RatioCI is the median of subject[i]/against[i] with its interval, see MedianCI.
// Index i is the round that both were measured in, so what disturbed a round
// disturbs both sides and leaves the ratio. It is not Valid when the counts
// differ, for fewer than two pairs, for a divisor of 0 or less, a negative
// dividend, or any value that is not finite.
func RatioCI(subject, against []float64, seed uint64) Interval {
	if len(subject) != len(against) {
		return invalid(min(len(subject), len(against)))
	}
	ratios := make([]float64, len(subject))
	for i := range subject {
		if !(against[i] > 0) || !(subject[i] >= 0) {
			return invalid(len(subject))
		}
		ratios[i] = subject[i] / against[i]
	}
	return MedianCI(ratios, seed)
}

// MedianRatioCI is median(subject)/median(against) with its bootstrap interval,
// for samples that are not paired: trials of different runs. N is the smaller
// count. Its simulated coverage is 94% to 97% from five values a side on, also
// when one side scatters more. The interval of Hodges and Lehmann, which inverts
// the Mann–Whitney test, is up to 30% narrower and covers 91% in that case. It is not Valid under the same conditions as RatioCI, except that the
// counts may differ.
func MedianRatioCI(subject, against []float64, seed uint64) Interval {
	n := min(len(subject), len(against))
	if n < 2 || !allFinite(subject) || !allFinite(against) {
		return invalid(n)
	}
	over := slices.Sorted(slices.Values(subject))
	under := slices.Sorted(slices.Values(against))
	if under[0] <= 0 || over[0] < 0 {
		return invalid(n)
	}
	bootOver, bootUnder := newBootstrap(len(over), seed), newBootstrap(len(under), ^seed)
	ratios := make([]float64, Resamples)
	for i := range ratios {
		ratios[i] = bootOver.median(over) / bootUnder.median(under)
	}
	return percentiles(sortedMedian(over)/sortedMedian(under), ratios, n)
}

// percentiles sorts the bootstrap estimates and cuts the interval out of them.
// It always holds the center: the median of an even sample can lie between two
// equal quantiles of the bootstrap.
func percentiles(center float64, estimates []float64, n int) Interval {
	slices.Sort(estimates)
	tail := (1 - Confidence) / 2
	return Interval{
		Center:     center,
		Lo:         math.Min(center, quantile(estimates, tail)),
		Hi:         math.Max(center, quantile(estimates, 1-tail)),
		Confidence: Confidence,
		N:          n,
	}
}

// bootstrap draws medians of resamples with replacement. Resampled values of a
// sorted sample are known by how often each index was drawn, so none is sorted.
type bootstrap struct {
	random *rand.PCG
	drawn  []int
}

func newBootstrap(n int, seed uint64) *bootstrap {
	const stream = 0x6e65787573 // any constant: it keeps these draws apart from other users of the seed
	return &bootstrap{random: rand.NewPCG(seed, stream), drawn: make([]int, n)}
}

func (b *bootstrap) median(sorted []float64) float64 {
	n := len(sorted)
	clear(b.drawn)
	// Two draws from each 64 random bits, by multiplying and shifting; the bias of
	// n/2^32 is far below what the resamples can show.
	for i := 0; i < n; i += 2 {
		bits := b.random.Uint64()
		b.drawn[(bits>>32)*uint64(n)>>32]++
		if i+1 < n {
			b.drawn[(bits&math.MaxUint32)*uint64(n)>>32]++
		}
	}
	upper := b.at(sorted, n/2)
	if n%2 == 1 {
		return upper
	}
	lower := b.at(sorted, n/2-1)
	return lower + (upper-lower)/2
}

// at is the rank-th smallest value of the resample.
func (b *bootstrap) at(sorted []float64, rank int) float64 {
	seen := 0
	for i, times := range b.drawn {
		if seen += times; seen > rank {
			return sorted[i]
		}
	}
	return sorted[len(sorted)-1]
}
