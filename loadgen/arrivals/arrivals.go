// Package arrivals tests whether requests arrived as their arrival process says.
//
// What was planned is tested exactly: a Poisson plan must have exponential gaps
// (Kolmogorov–Smirnov) that don't depend on each other (rank correlation of
// successive gaps) at the right rate.
//
// What was sent is planned times plus the generator's lag, so on enough requests
// an exact test rejects every real generator. Sends are therefore tested for a
// difference that matters: beyond a tolerance in time, and a share of the gaps.
//
// Every test keeps the chance of a false alarm below Alpha at any sample size:
// the limits come from the Dvoretzky–Kiefer–Wolfowitz inequality with Massart's
// constant and from Hoeffding's, which need no asymptotics.
package arrivals

import (
	"fmt"
	"math"
	"slices"
	"time"

	"gonum.org/v1/gonum/mathext"
)

// Alpha is the chance of a false alarm of one call of Plan or Sends.
const Alpha = 1e-6

const (
	// SamplesMin is the number of gaps below which nothing is tested.
	SamplesMin = 50
	// ShareMax is the distance between the distributions of sent and planned
	// gaps, and the share of displaced gaps, that is put up with.
	ShareMax     = 0.05
	rateErrorMax = 0.01
	// correlationMax is what lag within the tolerance may add to the correlation
	// of successive blocks: both share one end.
	correlationMax = 0.1
)

// Test is one statistic and its limit.
type Test struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Limit float64 `json:"limit"`
	N     int     `json:"n"` // gaps or blocks that were looked at
}

// Failed says that the statistic is beyond its limit; NaN is.
func (t Test) Failed() bool { return !(t.Value <= t.Limit) }

func (t Test) String() string {
	return fmt.Sprintf("%s %.3f, at most %.3f (n=%d)", t.Name, t.Value, t.Limit, t.N)
}

// FirstFailed returns the first test that failed.
func FirstFailed(tests []Test) (Test, bool) {
	for _, t := range tests {
		if t.Failed() {
			return t, true
		}
	}
	return Test{}, false
}

// PlanPoisson tests planned times (sorted, ns) against a Poisson process of the
// rate. It returns nothing for fewer than SamplesMin gaps.
func PlanPoisson(atNs []int64, ratePerS float64) []Test {
	gaps := gapsOf(atNs, 1)
	n := len(gaps)
	if n < SamplesMin {
		return nil
	}
	const alpha = Alpha / 3
	meanNs := 1e9 / ratePerS
	// The sum of n exponential gaps has a relative deviation of 1/√n.
	span := float64(atNs[n] - atNs[0])
	return []Test{
		{"distance of the planned gaps from the exponential distribution", distance(gaps, 0, func(x float64) float64 { return -math.Expm1(-x / meanNs) }), dkw(n, alpha), n},
		{"rank correlation of successive planned gaps", math.Abs(serialRankCorrelation(gaps)), normalLimit(alpha) / math.Sqrt(float64(n-1)), n},
		{"relative error of the planned rate", math.Abs(span/(float64(n)*meanNs) - 1), normalLimit(alpha)/math.Sqrt(float64(n)) + 1/float64(n), n},
	}
}

// SendsPoisson tests the times at which requests were really sent (sorted, ns)
// against a Poisson process of the rate; lag that changes a gap by no more than
// the tolerance does not count. Where the mean gap is shorter than that, blocks
// of successive gaps are tested instead, long enough for their deviation to be
// twice the tolerance: at high rates only coarser bunching can be seen.
func SendsPoisson(atNs []int64, ratePerS float64, tolerance time.Duration) []Test {
	toleranceNs := float64(tolerance)
	meanNs := 1e9 / ratePerS
	k := max(1, int(math.Ceil(math.Pow(2*toleranceNs/meanNs, 2))))
	blocks := gapsOf(atNs, k)
	n := len(blocks)
	if n < SamplesMin {
		return nil
	}
	const alpha = Alpha / 3
	name := "gaps"
	if k > 1 {
		name = fmt.Sprintf("blocks of %d gaps", k)
	}
	erlang := func(x float64) float64 {
		if x <= 0 {
			return 0
		}
		return mathext.GammaIncReg(float64(k), x/meanNs)
	}
	span, gaps := float64(atNs[n*k]-atNs[0]), float64(n*k)
	return []Test{
		{"relative error of the sent rate", math.Abs(span/(gaps*meanNs) - 1), rateErrorMax + normalLimit(alpha)/math.Sqrt(gaps) + 2*toleranceNs/span, n * k},
		{"distance of the sent " + name + " from the Poisson process", distance(blocks, toleranceNs, erlang), ShareMax + dkw(n, alpha), n},
		{"rank correlation of successive sent " + name, math.Abs(serialRankCorrelation(blocks)), correlationMax + normalLimit(alpha)/math.Sqrt(float64(n-1)), n},
	}
}

// Displaced tests sends of a process without chance: the share of gaps that
// differ from the planned ones by more than the tolerance. Both times are
// sorted and belong to the same requests.
func Displaced(plannedNs, sentNs []int64, tolerance time.Duration) []Test {
	n := min(len(plannedNs), len(sentNs)) - 1
	if n < SamplesMin {
		return nil
	}
	displaced := 0
	for i := range n {
		off := (sentNs[i+1] - sentNs[i]) - (plannedNs[i+1] - plannedNs[i])
		if off > int64(tolerance) || off < -int64(tolerance) {
			displaced++
		}
	}
	limit := ShareMax + math.Sqrt(-math.Log(Alpha)/(2*float64(n)))
	return []Test{{"share of gaps sent otherwise than planned", float64(displaced) / float64(n), limit, n}}
}

// gapsOf are the times between every k-th arrival.
func gapsOf(atNs []int64, k int) []float64 {
	if len(atNs) <= k {
		return nil
	}
	gaps := make([]float64, 0, len(atNs)/k)
	for i := k; i < len(atNs); i += k {
		gaps = append(gaps, float64(atNs[i]-atNs[i-k]))
	}
	return gaps
}

// distance is how far the empirical distribution leaves the band that the
// distribution makes when each value may be off by the tolerance. With 0 it is
// the Kolmogorov–Smirnov statistic.
func distance(values []float64, tolerance float64, cdf func(float64) float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := float64(len(sorted))
	worst := 0.0
	for i, x := range sorted {
		above := float64(i+1)/n - cdf(x+tolerance)
		below := cdf(x-tolerance) - float64(i)/n
		worst = max(worst, above, below)
	}
	return worst
}

// dkw is the distance that a sample of n exceeds with a chance of at most alpha.
func dkw(n int, alpha float64) float64 { return math.Sqrt(-math.Log(alpha/2) / (2 * float64(n))) }

// normalLimit is exceeded by a standard normal value, either side, with the chance alpha.
func normalLimit(alpha float64) float64 { return math.Sqrt2 * math.Erfcinv(alpha) }

// serialRankCorrelation is Spearman's correlation of each value with the next.
func serialRankCorrelation(values []float64) float64 {
	n := len(values)
	ranks := ranksOf(values)
	mean := float64(n+1) / 2
	var product, square float64
	for i, r := range ranks {
		square += (r - mean) * (r - mean)
		if i > 0 {
			product += (ranks[i-1] - mean) * (r - mean)
		}
	}
	if square == 0 {
		return 1 // all equal: each says everything about the next
	}
	return product / square
}

// ranksOf gives equal values their mean rank.
func ranksOf(values []float64) []float64 {
	order := make([]int, len(values))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		switch {
		case values[a] < values[b]:
			return -1
		case values[a] > values[b]:
			return 1
		}
		return 0
	})
	ranks := make([]float64, len(values))
	for start := 0; start < len(order); {
		end := start + 1
		for end < len(order) && values[order[end]] == values[order[start]] {
			end++
		}
		for _, i := range order[start:end] {
			ranks[i] = float64(start+end+1) / 2
		}
		start = end
	}
	return ranks
}
