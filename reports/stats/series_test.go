package stats

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// ar1 is an autoregressive series about 100 with standard deviation 10.
func ar1(random *rand.Rand, n int, phi float64) []float64 {
	out := make([]float64, n)
	state := random.NormFloat64()
	for i := range out {
		state = phi*state + math.Sqrt(1-phi*phi)*random.NormFloat64()
		out[i] = 100 + 10*state
	}
	return out
}

// The integrated autocorrelation time of this process is (1+φ)/(1−φ).
func TestEffectiveSamplesOfAKnownProcess(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 4))
	for _, phi := range []float64{0, 0.5, 0.8, 0.9} {
		const n = 20_000
		want := n * (1 - phi) / (1 + phi)
		if got := EffectiveSamples(ar1(random, n, phi)); math.Abs(got/want-1) > 0.15 {
			t.Errorf("φ = %g: worth %.0f, want %.0f", phi, got, want)
		}
	}
	alternating := make([]float64, 100)
	for i := range alternating {
		alternating[i] = float64(i % 2)
	}
	if got := EffectiveSamples(alternating); got != 100 {
		t.Errorf("alternating: worth %g, want at most the 100 there are", got)
	}
}

func TestSeriesFailClosed(t *testing.T) {
	constant := slices.Repeat([]float64{3}, 50)
	for name, got := range map[string]float64{
		"mean of none": Mean(nil), "mean with NaN": Mean([]float64{1, math.NaN()}), "sd of one": StdDev([]float64{1}),
		"lag beyond": Autocorrelation([]float64{1, 2}, 2), "negative lag": Autocorrelation([]float64{1, 2}, -1),
		"constant": Autocorrelation(constant, 1), "worth of a constant": EffectiveSamples(constant), "worth of three": EffectiveSamples([]float64{1, 2, 3}),
	} {
		if !math.IsNaN(got) {
			t.Errorf("%s = %g, want NaN", name, got)
		}
	}
	if ci := BatchMeansCI(make([]float64, 19)); ci.Valid() {
		t.Errorf("19 values: %+v", ci)
	}
	if ci := BatchMeansCI(constant); !ci.Valid() || ci.Lo != 3 || ci.Hi != 3 {
		t.Errorf("constant: %+v", ci)
	}
	for _, from := range []int{-1, 11} {
		if _, ok := Settle(constant, from); ok {
			t.Errorf("50 values measured from %d were judged", from)
		}
	}
	if _, ok := Settle(make([]float64, 100), 10); ok {
		t.Error("a series of zeros was judged")
	}
}

// A level shift with little noise: the place is known.
func TestMSERFindsTheShift(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 5))
	for _, shift := range []int{20, 40, 60} {
		series := ar1(random, 150, 0)
		for i := range shift {
			series[i] -= 60
		}
		if got := mser(series); got < shift || got > shift+3*mserBatch {
			t.Errorf("shift at %d found at %d", shift, got)
		}
	}
}

func TestSettleOfACorrelatedSeriesDoesNotJudge(t *testing.T) {
	random := rand.New(rand.NewPCG(6, 6))
	judged := 0
	for range 200 {
		s, ok := Settle(ar1(random, 150, 0.97), 30)
		if !ok {
			t.Fatal("not looked at")
		}
		if s.Late || s.Never {
			judged++
		}
		if s.Independent >= independentMin && s.Independent > 60 {
			t.Errorf("worth %g", s.Independent)
		}
	}
	if judged > 10 {
		t.Errorf("%d of 200 nearly random walks were called warm-ups or drifts", judged)
	}
}
