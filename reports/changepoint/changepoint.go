// Package changepoint finds where the mean of a series changes: E-divisive means
// (Matteson and James, Journal of the American Statistical Association 109, 2014)
// with permutation significance, as MongoDB (Daly et al., ICPE 2020) and Hunter
// (Fleming et al., ICPE 2023; now Apache Otava) apply it to histories of
// benchmarks. Nothing is assumed of the distribution of the values, but their
// order must be that of time, and without a change they must be exchangeable: a
// slow drift is found as a staircase.
package changepoint

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Options of Find; the zero value has the defaults.
type Options struct {
	Alpha        float64 // largest p-value of a change; 0 is 0.01
	Permutations int     // 0 is 999: p is then never below 0.001
	SegmentMin   int     // values on each side of a change at least; 0 is 3
	Seed         uint64  // of the permutations
}

// ValuesMax bounds a series: the work grows with its square.
const ValuesMax = 2000

func (o Options) withDefaults() Options {
	if o.Alpha == 0 {
		o.Alpha = 0.01
	}
	if o.Permutations == 0 {
		o.Permutations = 999
	}
	if o.SegmentMin == 0 {
		o.SegmentMin = 3
	}
	return o
}

// Change is one change of the mean.
type Change struct {
	Index  int     `json:"index"`  // the first value after it
	P      float64 `json:"p"`      // by permutation, when it was found
	Before float64 `json:"before"` // mean of the values since the previous change
	After  float64 `json:"after"`  // and until the next one
}

// Find returns the changes in order. Equal arguments give equal changes. It is
// safe for concurrent use. A value that is not finite is an error: a gap in a
// history must be left out, not guessed.
func Find(series []float64, opts Options) ([]Change, error) {
	opts = opts.withDefaults()
	if opts.Alpha <= 0 || opts.Alpha >= 1 || opts.SegmentMin < 2 || opts.Permutations < 1 {
		return nil, fmt.Errorf("find changes: option out of range: %+v", opts)
	}
	if len(series) > ValuesMax {
		return nil, fmt.Errorf("find changes: %d values, at most %d", len(series), ValuesMax)
	}
	for i, v := range series {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("find changes: value %d is %g", i, v)
		}
	}
	random := rand.New(rand.NewPCG(opts.Seed, 0x6368616e6765))
	cuts := []int{0, len(series)}
	var changes []Change
	for {
		at, q := bestOver(series, cuts, opts.SegmentMin)
		if at < 0 {
			break
		}
		p := significance(series, cuts, q, opts, random)
		if p > opts.Alpha {
			break
		}
		cuts = append(cuts, at)
		slices.Sort(cuts)
		changes = append(changes, Change{Index: at, P: p})
	}
	slices.SortFunc(changes, func(a, b Change) int { return a.Index - b.Index })
	for i := range changes {
		changes[i].Before, changes[i].After = mean(series[cuts[i]:cuts[i+1]]), mean(series[cuts[i+1]:cuts[i+2]])
	}
	return changes, nil
}

// bestOver is the best split of all segments, or -1.
func bestOver(series []float64, cuts []int, segmentMin int) (at int, q float64) {
	at = -1
	for i := 1; i < len(cuts); i++ {
		split, value := best(series[cuts[i-1]:cuts[i]], segmentMin)
		if split >= 0 && value > q {
			at, q = cuts[i-1]+split, value
		}
	}
	return at, q
}

// best is the split of x with the largest divergence, or -1 where x is too short
// or constant. Moving the split by one value changes three sums by the distances
// of that value, so that the whole takes the square of len(x) and no memory.
func best(x []float64, segmentMin int) (split int, q float64) {
	n := len(x)
	split = -1
	if n < 2*segmentMin {
		return split, 0
	}
	var left, right, across float64 // sums of distances within and between
	for i := range x {
		for j := range i {
			right += math.Abs(x[i] - x[j])
		}
	}
	for k := 1; k < n; k++ { // x[k-1] goes to the left
		var toLeft, toRight float64
		for i := range k - 1 {
			toLeft += math.Abs(x[k-1] - x[i])
		}
		for i := k; i < n; i++ {
			toRight += math.Abs(x[k-1] - x[i])
		}
		left += toLeft
		right -= toRight
		across += toRight - toLeft
		if k < segmentMin || n-k < segmentMin {
			continue
		}
		if value := divergence(across, left, right, float64(k), float64(n-k)); value > q+1e-12*math.Abs(across) {
			split, q = k, value
		}
	}
	return split, q
}

// divergence is the scaled sample energy distance of two segments with m and n
// values, from the sums of distances between and within them.
func divergence(across, left, right, m, n float64) float64 {
	return m * n / (m + n) * (2*across/(m*n) - 2*left/(m*(m-1)) - 2*right/(n*(n-1)))
}

// significance is the share of permutations within the segments that split at
// least as well.
func significance(series []float64, cuts []int, q float64, opts Options, random *rand.Rand) float64 {
	shuffled := slices.Clone(series)
	as := 1 // the series itself
	for range opts.Permutations {
		for i := 1; i < len(cuts); i++ {
			segment := shuffled[cuts[i-1]:cuts[i]]
			random.Shuffle(len(segment), func(a, b int) { segment[a], segment[b] = segment[b], segment[a] })
		}
		if _, value := bestOver(shuffled, cuts, opts.SegmentMin); value >= q {
			as++
		}
	}
	return float64(as) / float64(opts.Permutations+1)
}

func mean(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}
