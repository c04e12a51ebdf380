package toggle

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"

	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/reports/stats"
)

// Pairs compares the two positions block by block. A block in which either did
// nothing (the disk stood still throughout) says nothing and is left out.
func Pairs(blocks []Block) []reports.CostPair {
	out := []reports.CostPair{}
	for i := range blocks {
		on, off := Sum(blocks[i:i+1], true), Sum(blocks[i:i+1], false)
		if on.Ops == 0 || off.Ops == 0 || on.CPUNs <= 0 || off.CPUNs <= 0 || on.Ns <= 0 || off.Ns <= 0 {
			continue
		}
		perOp := float64(off.Ops) / float64(on.Ops)
		out = append(out, reports.CostPair{
			CPU:        float64(on.CPUNs) / float64(off.CPUNs) * perOp,
			Throughput: float64(on.Ns) / float64(off.Ns) * perOp,
		})
	}
	return out
}

// trim is the share of ratios that is cut off at either end: a stall of the disk
// makes a few that are many times too large or too small.
const trim = 0.2

// Effect is the trimmed mean of the ratios, on the scale of logarithms, with its
// 95% interval (Tukey and McLaughlin 1963: Student's t with the winsorised
// deviation). Series are ratios in the order of time, one series per trial; where
// neighbours resemble each other they count as fewer, see stats.EffectiveSamples. It
// is not Valid for fewer than ten ratios or any that is not above 0 and finite.
func Effect(series ...[]float64) stats.Interval {
	var logs []float64
	independent := 0.0
	for _, ratios := range series {
		part := logarithms(ratios)
		logs = append(logs, part...)
		independent += worth(part)
	}
	n := len(logs)
	nan := math.NaN()
	invalid := stats.Interval{Center: nan, Lo: nan, Hi: nan, Confidence: stats.Confidence, N: n}
	sorted := slices.Sorted(slices.Values(logs))
	if n < 10 || math.IsNaN(sorted[0]) || math.IsInf(sorted[0], 0) || math.IsInf(sorted[n-1], 0) {
		return invalid
	}
	cut := int(trim * float64(n))
	kept := float64(n - 2*cut)
	center := stats.Mean(sorted[cut : n-cut])
	for i := range cut {
		sorted[i], sorted[n-1-i] = sorted[cut], sorted[n-1-cut]
	}
	// kept/n of the values carry the mean, and they are worth independent/n each.
	deviation := stats.StdDev(sorted) / (kept / float64(n)) / math.Sqrt(independent)
	degrees := math.Max(1, kept*independent/float64(n)-1)
	half := deviation * distuv.StudentsT{Mu: 0, Sigma: 1, Nu: degrees}.Quantile(0.5+stats.Confidence/2)
	return stats.Interval{Center: math.Exp(center), Lo: math.Exp(center - half), Hi: math.Exp(center + half),
		Confidence: stats.Confidence, N: n}
}

func logarithms(ratios []float64) []float64 {
	out := make([]float64, len(ratios))
	for i, r := range ratios {
		out[i] = math.Log(r)
	}
	return out
}

// worth is how many independent values a series counts for. Its few extremes are
// pulled in first, because one of them alone would hide any autocorrelation.
func worth(logs []float64) float64 {
	sorted := slices.Sorted(slices.Values(logs))
	n := len(sorted)
	if n == 0 {
		return 0
	}
	cut := int(trim * float64(n))
	pulled := make([]float64, n)
	for i, v := range logs {
		pulled[i] = min(max(v, sorted[cut]), sorted[n-1-cut])
	}
	if effective := stats.EffectiveSamples(pulled); !math.IsNaN(effective) {
		return min(effective, float64(n))
	}
	return float64(n)
}
