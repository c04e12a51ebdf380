// Package calibration holds the project's statistics against known answers and
// against simulation: published data sets, two independent implementations on
// recorded runs, and the real coverage, size and power of intervals and tests.
package calibration

import (
	"fmt"
	"math"
	"slices"

	"github.com/nexuscore-labs/nexus/reports/stats"
)

// Answer is one statistic with what it should be. Of several comparisons of a
// kind it is the worst.
type Answer struct {
	Statistic   string  `json:"statistic"`
	Source      string  `json:"source"`
	Comparisons int     `json:"comparisons"`
	Reference   float64 `json:"reference"`
	Ours        float64 `json:"ours"`
	Difference  float64 `json:"difference"` // relative to the reference, or absolute where that is below 1e-300
	Tolerance   float64 `json:"tolerance"`
	OK          bool    `json:"ok"`
}

func answer(statistic, source string, reference, ours, tolerance float64) Answer {
	difference := math.Abs(ours - reference)
	if size := math.Abs(reference); size > 1e-300 {
		difference /= size
	}
	if math.IsNaN(difference) {
		difference = math.MaxFloat64 // JSON has no NaN, and one of the two must not be
	}
	return Answer{statistic, source, 1, reference, ours, difference, tolerance, difference <= tolerance}
}

// worst is the answer of a kind that is furthest off, counting all.
func worst(all []Answer) Answer {
	out := slices.MaxFunc(all, func(a, b Answer) int {
		switch {
		case a.Difference/a.Tolerance < b.Difference/b.Tolerance:
			return -1
		case a.Difference/a.Tolerance > b.Difference/b.Tolerance:
			return 1
		}
		return 0
	})
	out.Comparisons = len(all)
	return out
}

// Answers are all comparisons with known answers.
func Answers() ([]Answer, error) {
	out := textbook()
	for _, more := range []func() ([]Answer, error){nistAnswers, scipyAnswers, benchstatAnswers} {
		found, err := more()
		if err != nil {
			return nil, fmt.Errorf("known answers: %w", err)
		}
		out = append(out, found...)
	}
	return out, nil
}

// textbook are published examples.
func textbook() []Answer {
	var out []Answer
	for _, c := range []struct {
		source    string
		a, b      []float64
		u, p      float64
		tolerance float64
	}{
		{"Hollander & Wolfe 1973 p. 69 (R wilcox.test)", []float64{0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46},
			[]float64{1.15, 0.88, 0.90, 0.74, 1.21}, 35, 0.254412254412, 1e-9},
		{"SciPy manual, mannwhitneyu", []float64{19, 22, 16, 29, 24}, []float64{20, 11, 17, 12}, 17, 1.0 / 9, 1e-12},
	} {
		u, p := stats.MannWhitney(c.a, c.b)
		out = append(out, answer("Mann–Whitney U", c.source, c.u, u, 0), answer("Mann–Whitney p", c.source, c.p, p, c.tolerance))
	}
	// R manual, p.adjust: c(0.01, 0.04, 0.03, 0.005), "holm" gives these.
	adjusted := stats.Holm([]float64{0.01, 0.04, 0.03, 0.005})
	var holm []Answer
	for i, want := range []float64{0.03, 0.06, 0.06, 0.02} {
		holm = append(holm, answer("Holm's adjusted p", "R p.adjust, Holm 1979", want, adjusted[i], 1e-12))
	}
	out = append(out, worst(holm))
	// Tables of the sign test: coverage of [x(d), x(n+1−d)], Conover, Practical
	// Nonparametric Statistics, table A3: 1 − 2·P(Binomial(n, ½) < d).
	var coverage []Answer
	for n, want := range map[int]float64{6: 1 - 2.0/64, 8: 1 - 2.0/256, 9: 1 - 20.0/512, 10: 1 - 22.0/1024, 12: 1 - 158.0/4096, 20: 1 - 2*21700.0/1048576} {
		values := make([]float64, n)
		for i := range values {
			values[i] = float64(i)
		}
		coverage = append(coverage, answer("coverage of order statistics", "sign test, exact fractions", want, stats.OrderStatCI(values).Confidence, 1e-12))
	}
	return append(out, worst(coverage))
}
