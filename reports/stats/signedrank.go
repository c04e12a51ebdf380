package stats

import (
	"cmp"
	"math"
	"slices"
)

// SignedRank is Wilcoxon's signed-rank test of whether differences are symmetric
// about 0, two-sided: w is the sum of the ranks of the positive ones, zeros are
// left out and ties share their mean rank. The p-value is the exact one over all
// sign changes, ties included, up to 60 differences, and above that the normal
// approximation with tie correction. p is 1 when all differences are 0, and NaN
// for no values or one that is not finite.
func SignedRank(differences []float64) (w, p float64) {
	if len(differences) == 0 || !allFinite(differences) {
		return math.NaN(), math.NaN()
	}
	ranks, positive, ties := signedRanks(differences)
	if len(ranks) == 0 {
		return 0, 1
	}
	if len(ranks) <= exactLimit {
		return float64(positive) / 2, exactSignedP(ranks, positive)
	}
	n := float64(len(ranks))
	variance := n*(n+1)*(2*n+1)/24 - ties/48
	distance := math.Max(0, math.Abs(float64(positive)/2-n*(n+1)/4)-0.5)
	return float64(positive) / 2, math.Erfc(distance / math.Sqrt(variance) / math.Sqrt2)
}

// signedRanks are twice the midranks of the absolute differences other than 0,
// the sum of those of positive ones, and the sum of t³−t over ties.
func signedRanks(differences []float64) (ranks []int, positive int, ties float64) {
	kept := slices.DeleteFunc(slices.Clone(differences), func(d float64) bool { return d == 0 })
	slices.SortFunc(kept, func(x, y float64) int { return cmp.Compare(math.Abs(x), math.Abs(y)) })
	for start := 0; start < len(kept); {
		end := start + 1
		for end < len(kept) && math.Abs(kept[end]) == math.Abs(kept[start]) {
			end++
		}
		for _, d := range kept[start:end] {
			rank := start + 1 + end
			ranks = append(ranks, rank)
			if d > 0 {
				positive += rank
			}
		}
		t := float64(end - start)
		ties += t*t*t - t
		start = end
	}
	return ranks, positive, ties
}

// exactSignedP counts the sign choices by their sum.
func exactSignedP(ranks []int, observed int) float64 {
	total := 0
	for _, r := range ranks {
		total += r
	}
	ways := make([]float64, total+1)
	ways[0] = 1
	for _, r := range ranks {
		for s := total; s >= r; s-- {
			ways[s] += ways[s-r]
		}
	}
	all, extreme := 0.0, 0.0
	for s, count := range ways {
		all += count
		if abs(2*s-total) >= abs(2*observed-total) {
			extreme += count
		}
	}
	return extreme / all
}
