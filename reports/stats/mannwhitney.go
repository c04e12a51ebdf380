package stats

import (
	"cmp"
	"math"
	"slices"
)

// exactLimit is the pooled size up to which MannWhitney counts permutations.
const exactLimit = 60

// MannWhitney is the two-sided test that a and b come from one distribution.
// u is the number of pairs in which a exceeds b, ties counting one half. The
// p-value is the exact permutation one, ties included, up to 60 pooled values,
// and above that the normal approximation with tie and continuity correction.
// p is NaN when either sample is empty or any value is not finite.
func MannWhitney(a, b []float64) (u, p float64) {
	n, m := len(a), len(b)
	if n == 0 || m == 0 || !allFinite(a) || !allFinite(b) {
		return math.NaN(), math.NaN()
	}
	ranks, ties := doubledMidranks(a, b)
	sum := 0
	for _, r := range ranks[:n] {
		sum += r
	}
	u = float64(sum)/2 - float64(n*(n+1))/2
	if n+m <= exactLimit {
		return u, exactP(ranks, n, sum)
	}
	return u, normalP(u, n, m, ties)
}

// doubledMidranks are twice the ranks in the pooled sample (a first), tied
// values sharing their mean rank: doubling keeps them whole numbers. ties is the
// sum of t³−t over groups of t tied values.
func doubledMidranks(a, b []float64) (ranks []int, ties float64) {
	type entry struct {
		value float64
		index int
	}
	pooled := make([]entry, 0, len(a)+len(b))
	for _, v := range slices.Concat(a, b) {
		pooled = append(pooled, entry{v, len(pooled)})
	}
	slices.SortFunc(pooled, func(x, y entry) int { return cmp.Compare(x.value, y.value) })
	ranks = make([]int, len(pooled))
	for start := 0; start < len(pooled); {
		end := start + 1
		for end < len(pooled) && pooled[end].value == pooled[start].value {
			end++
		}
		for _, e := range pooled[start:end] {
			ranks[e.index] = start + 1 + end // (first rank + last rank), that is, twice the mean
		}
		t := float64(end - start)
		ties += t*t*t - t
		start = end
	}
	return ranks, ties
}

// exactP is the share of all ways to choose n of the ranks whose sum is at least
// as far from its mean as the observed one, found by counting subsets by size
// and sum.
func exactP(ranks []int, n, observed int) float64 {
	total := 0
	for _, r := range ranks {
		total += r
	}
	ways := make([][]float64, n+1)
	for k := range ways {
		ways[k] = make([]float64, total+1)
	}
	ways[0][0] = 1
	for _, r := range ranks {
		for k := n; k >= 1; k-- {
			for s := total; s >= r; s-- {
				ways[k][s] += ways[k-1][s-r]
			}
		}
	}
	// The mean sum is n·total/len(ranks); comparing len(ranks)·s keeps it whole.
	distance := abs(len(ranks)*observed - n*total)
	all, extreme := 0.0, 0.0
	for s, count := range ways[n] {
		all += count
		if abs(len(ranks)*s-n*total) >= distance {
			extreme += count
		}
	}
	return extreme / all
}

func abs(v int) int {
	if v < 0 {
		return -v
	}
	return v
}

func normalP(u float64, n, m int, ties float64) float64 {
	product, pooled := float64(n)*float64(m), float64(n+m)
	variance := product / 12 * (pooled + 1 - ties/(pooled*(pooled-1)))
	if variance <= 0 {
		return 1 // every value is the same
	}
	distance := math.Max(0, math.Abs(u-product/2)-0.5)
	return math.Erfc(distance / math.Sqrt(variance) / math.Sqrt2)
}

// Holm adjusts the p-values of one family of tests so that
// rejecting those below α keeps the chance of any false rejection below α (Holm
// 1979). A NaN stands for a test that could not be made: it stays NaN and still
// counts in the family.
func Holm(p []float64) []float64 {
	order := make([]int, 0, len(p))
	adjusted := make([]float64, len(p))
	for i, v := range p {
		adjusted[i] = math.NaN()
		if !math.IsNaN(v) {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(x, y int) int { return cmp.Compare(p[x], p[y]) })
	floor := 0.0
	for rank, i := range order {
		floor = math.Max(floor, math.Min(1, p[i]*float64(len(p)-rank)))
		adjusted[i] = floor
	}
	return adjusted
}

// LeastP is the smallest p-value that MannWhitney can give for samples of n and
// m values without ties: below it nothing can be shown, whatever the values.
func LeastP(n, m int) float64 {
	if n < 1 || m < 1 {
		return 1
	}
	ways := 1.0
	for i := range min(n, m) {
		ways = ways * float64(n+m-i) / float64(i+1)
	}
	return math.Min(1, 2/ways)
}
