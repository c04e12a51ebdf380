package calibration

import (
	"embed"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/nexuscore-labs/nexus/reports/stats"
)

//go:embed nist recorded golden/reference.json
var files embed.FS

// certified are NIST's StRD univariate data sets (public domain) and their
// certified mean, standard deviation and lag-1 autocorrelation:
// https://www.itl.nist.gov/div898/strd/univ/homepage.html
type certified struct {
	name               string
	series             func() ([]float64, error)
	mean, stddev, lag1 float64
}

var nist = []certified{
	{"Michelso", fromFile("Michelso"), 299.852400000000, 0.0790105478190518, 0.535199668621283},
	{"Mavro", fromFile("Mavro"), 2.00185600000000, 0.000429123454003053, 0.937989183438248},
	{"NumAcc1", func() ([]float64, error) { return []float64{10000001, 10000003, 10000002}, nil }, 10000002, 1, -0.5},
	{"NumAcc2", numAcc(1), 1.2, 0.1, -0.999},
	{"NumAcc3", numAcc(1_000_000), 1000000.2, 0.1, -0.999},
	{"NumAcc4", numAcc(10_000_000), 10000000.2, 0.1, -0.999},
}

func fromFile(name string) func() ([]float64, error) {
	return func() ([]float64, error) {
		text, err := files.ReadFile("nist/" + name + ".txt")
		if err != nil {
			return nil, err
		}
		var values []float64
		for _, word := range strings.Fields(string(text)) {
			v, err := strconv.ParseFloat(word, 64)
			if err != nil {
				return nil, fmt.Errorf("data set %s: %w", name, err)
			}
			values = append(values, v)
		}
		return values, nil
	}
}

// numAcc is x.2, then x.1 and x.3 in turn: 1001 values.
func numAcc(whole float64) func() ([]float64, error) {
	return func() ([]float64, error) {
		values := []float64{whole + 0.2}
		for range 500 {
			values = append(values, whole+0.1, whole+0.3)
		}
		return values, nil
	}
}

// nistAnswers holds each statistic against the certified one. NIST certifies 15
// digits; the tolerance is relative, and wider for NumAcc3 and 4, whose values
// are no binary fractions and lose digits before any arithmetic.
func nistAnswers() ([]Answer, error) {
	var out []Answer
	for _, set := range nist {
		series, err := set.series()
		if err != nil {
			return nil, err
		}
		tolerance := 1e-12
		if strings.HasPrefix(set.name, "NumAcc") {
			tolerance = 1e-8
		}
		source := "NIST StRD " + set.name
		out = append(out,
			answer("mean", source, set.mean, stats.Mean(series), tolerance),
			answer("standard deviation", source, set.stddev, stats.StdDev(series), tolerance),
			answer("autocorrelation, lag 1", source, set.lag1, stats.Autocorrelation(series, 1), tolerance*math.Max(1, 1/math.Abs(set.lag1))),
		)
	}
	return out, nil
}
