package stats

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/perf/benchmath"
)

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if math.IsNaN(got) != math.IsNaN(want) || math.Abs(got-want) > tolerance {
		t.Errorf("%s = %.9g, want %.9g ± %g", what, got, want, tolerance)
	}
}

// Known answers: R's documentation of wilcox.test, and distributions small enough
// to count by hand.
func TestMannWhitneyKnownAnswers(t *testing.T) {
	cases := []struct {
		name string
		a, b []float64
		u, p float64
	}{
		{"separate 3 and 3", []float64{1, 2, 3}, []float64{4, 5, 6}, 0, 2.0 / 20},
		{"separate 5 and 5", []float64{1, 2, 3, 4, 5}, []float64{6, 7, 8, 9, 10}, 0, 2.0 / 252},
		{"R's permeability example", []float64{0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46},
			[]float64{1.15, 0.88, 0.90, 0.74, 1.21}, 35, 0.2544122544},
		{"all equal", []float64{7, 7, 7}, []float64{7, 7}, 3, 1},
		{"tie across", []float64{1, 2}, []float64{2, 3}, 0.5, 4.0 / 6},
		{"one each", []float64{1}, []float64{2}, 0, 1},
	}
	for _, c := range cases {
		u, p := MannWhitney(c.a, c.b)
		near(t, c.name+" u", u, c.u, 0)
		near(t, c.name+" p", p, c.p, 5e-4)
	}
}

func TestMannWhitneyRefusesUnusableValues(t *testing.T) {
	for _, a := range [][]float64{nil, {}, {math.NaN()}, {1, math.Inf(1)}} {
		if u, p := MannWhitney(a, []float64{1, 2}); !math.IsNaN(u) || !math.IsNaN(p) {
			t.Errorf("MannWhitney(%v) = %v, %v; want NaN", a, u, p)
		}
	}
}

// benchmath is an independent implementation, the one that benchstat uses. Its
// exact p-value doubles one tail, which is the permutation one only without ties;
// with ties the judge is TestMannWhitneyMeetsEnumeration.
func TestAgreesWithBenchmath(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	for range 300 {
		a, b := draw(random, 2+random.IntN(12), false), draw(random, 2+random.IntN(12), false)
		thresholds := benchmath.DefaultThresholds
		want := benchmath.AssumeNothing.Compare(benchmath.NewSample(slices.Clone(a), &thresholds), benchmath.NewSample(slices.Clone(b), &thresholds))
		_, p := MannWhitney(a, b)
		near(t, "p", p, want.P, 1e-9)

		summary := benchmath.AssumeNothing.Summary(benchmath.NewSample(slices.Clone(a), &thresholds), Confidence)
		ours := OrderStatCI(a)
		near(t, "median", ours.Center, summary.Center, 1e-12)
		if len(a) < 6 {
			continue // benchmath then answers with an infinite interval
		}
		// benchmath may drop one more value at one end only; ours is symmetric.
		if ours.Lo > summary.Lo || ours.Hi < summary.Hi || ours.Confidence < summary.Confidence-1e-12 {
			t.Errorf("n=%d: %+v does not hold benchmath's %+v", len(a), ours, summary)
		}
		if math.Abs(ours.Confidence-summary.Confidence) < 1e-9 && (ours.Lo != summary.Lo || ours.Hi != summary.Hi) {
			t.Errorf("n=%d: %+v and benchmath's %+v differ at equal confidence", len(a), ours, summary)
		}
	}
}

// The dumb way: every choice of len(a) values out of the pooled ones.
func TestMannWhitneyMeetsEnumeration(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 9))
	for range 60 {
		a, b := draw(random, 1+random.IntN(6), true), draw(random, 1+random.IntN(6), true)
		pooled := slices.Concat(a, b)
		middle := float64(len(a)*len(b)) / 2
		observed := math.Abs(pairsAbove(a, b) - middle)
		all, extreme := 0, 0
		for mask := range 1 << len(pooled) {
			var left, right []float64
			for i, v := range pooled {
				if mask>>i&1 == 1 {
					left = append(left, v)
				} else {
					right = append(right, v)
				}
			}
			if len(left) != len(a) {
				continue
			}
			all++
			if math.Abs(pairsAbove(left, right)-middle) >= observed {
				extreme++
			}
		}
		u, p := MannWhitney(a, b)
		near(t, "u", u, pairsAbove(a, b), 0)
		near(t, "p", p, float64(extreme)/float64(all), 1e-12)
	}
}

func pairsAbove(a, b []float64) float64 {
	pairs := 0.0
	for _, x := range a {
		for _, y := range b {
			if x > y {
				pairs++
			} else if x == y {
				pairs += 0.5
			}
		}
	}
	return pairs
}

func draw(random *rand.Rand, n int, tied bool) []float64 {
	values := make([]float64, n)
	for i := range values {
		values[i] = 100 + 10*random.NormFloat64()
		if tied {
			values[i] = math.Round(values[i] / 8)
		}
	}
	return values
}

func TestNormalApproximationMeetsExact(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for trial := range 20 {
		a, b := draw(random, 30, trial%2 == 0), draw(random, 30, trial%2 == 0)
		u, exact := MannWhitney(a, b)
		_, ties := doubledMidranks(a, b)
		near(t, "normal p", normalP(u, 30, 30, ties), exact, 0.03) // the tied samples have few distinct sums
	}
	if _, p := MannWhitney(make([]float64, 40), make([]float64, 40)); p != 1 {
		t.Errorf("p of equal values = %v, want 1", p)
	}
}

// For an odd count the bootstrap distribution of the median has a closed form:
// P(median* ≤ x_k) = P(Binomial(n, k/n) > n/2).
func TestBootstrapMeetsClosedForm(t *testing.T) {
	for _, n := range []int{3, 5, 7, 11, 15, 21} {
		values := make([]float64, n)
		for i := range values {
			values[i] = float64(i) // the index is the value, so bounds read as ranks
		}
		ci := BootstrapMedianCI(values, 42)
		lo, hi := closedFormBound(n, 0.025), closedFormBound(n, 0.975)
		near(t, "lo rank", ci.Lo, lo, 1)
		near(t, "hi rank", ci.Hi, hi, 1)
		near(t, "center", ci.Center, float64(n/2), 0)
	}
}

func closedFormBound(n int, q float64) float64 {
	for k := 1; k <= n; k++ {
		share, p := 0.0, float64(k)/float64(n)
		for i := n/2 + 1; i <= n; i++ {
			share += binomial(n, i) * math.Pow(p, float64(i)) * math.Pow(1-p, float64(n-i))
		}
		if share >= q {
			return float64(k - 1)
		}
	}
	return float64(n - 1)
}

func binomial(n, k int) float64 {
	ways := 1.0
	for i := range k {
		ways = ways * float64(n-i) / float64(i+1)
	}
	return ways
}

// The interval must hold the true median about as often as it says, also for
// skewed values like latencies.
func TestMedianCICoverage(t *testing.T) {
	random := rand.New(rand.NewPCG(11, 13))
	for _, n := range []int{5, 6, 7, 8, 9, 10, 15, 20} {
		const samples = 4000
		held := 0
		for range samples {
			values := make([]float64, n)
			for j := range values {
				values[j] = math.Exp(random.NormFloat64())
			}
			if MedianCI(values, 0).Contains(1) {
				held++
			}
		}
		// the seed is fixed, so this can fail only when the interval changes.
		if share := float64(held) / samples; share < 0.93 {
			t.Errorf("n=%d: interval held the median in %.3f of samples, want about %.2f", n, share, Confidence)
		}
	}
}

func TestIntervalsAreDeterministic(t *testing.T) {
	a := []float64{5, 1, 4, 2, 3, 9}
	b := []float64{2, 2, 3, 1, 2, 5}
	if BootstrapMedianCI(a, 3) != BootstrapMedianCI(a, 3) || MedianCI(a, 3) != MedianCI(a, 4) || RatioCI(a, b, 3) != RatioCI(a, b, 3) || MedianRatioCI(a, b, 3) != MedianRatioCI(a, b, 3) {
		t.Error("equal seeds gave different intervals")
	}
	if !slices.Equal(a, []float64{5, 1, 4, 2, 3, 9}) {
		t.Error("the input was changed")
	}
}

func TestRatioCI(t *testing.T) {
	against := []float64{10, 20, 40, 80, 160} // rounds that differ 16-fold
	subject := make([]float64, len(against))
	for i, v := range against {
		subject[i] = 3 * v
	}
	ci := RatioCI(subject, against, 1)
	if ci.Center != 3 || ci.Lo != 3 || ci.Hi != 3 || ci.N != 5 {
		t.Errorf("ratio of an exact multiple = %+v, want 3 with no width", ci)
	}
	if wide := MedianRatioCI(subject, against, 1); wide.Hi-wide.Lo <= 1 {
		t.Errorf("unpaired interval %+v must carry the difference between rounds", wide)
	}
}

func TestIntervalsFailClosed(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for _, values := range [][]float64{nil, {}, {1}, {1, nan}, {inf, 1, 2}} {
		for name, ci := range map[string]Interval{
			"MedianCI": MedianCI(values, 1), "BootstrapMedianCI": BootstrapMedianCI(values, 1), "OrderStatCI": OrderStatCI(values), "RatioCI": RatioCI(values, values, 1),
			"MedianRatioCI": MedianRatioCI(values, values, 1),
		} {
			if ci.Valid() || ci.Ptr() != nil || ci.Contains(1) || !math.IsNaN(ci.Center) {
				t.Errorf("%s(%v) = %+v, want an invalid interval", name, values, ci)
			}
		}
	}
	for _, against := range [][]float64{{1, 0}, {1, -1}, {1}, {1, 2, 3}} {
		if ci := RatioCI([]float64{1, 2}, against, 1); ci.Valid() {
			t.Errorf("RatioCI against %v = %+v, want invalid", against, ci)
		}
	}
	if ci := MedianRatioCI([]float64{1, 2}, []float64{0, 1}, 1); ci.Valid() {
		t.Errorf("MedianRatioCI by 0 = %+v, want invalid", ci)
	}
}

func TestHolm(t *testing.T) {
	// R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm") = 0.03 0.06 0.06 0.02
	got := Holm([]float64{0.01, 0.04, 0.03, 0.005})
	for i, want := range []float64{0.03, 0.06, 0.06, 0.02} {
		near(t, "holm", got[i], want, 1e-12)
	}
	got = Holm([]float64{math.NaN(), 0.02})
	if !math.IsNaN(got[0]) || got[1] != 0.04 {
		t.Errorf("Holm with a missing test = %v, want NaN and 0.04: it still counts", got)
	}
	if len(Holm(nil)) != 0 {
		t.Error("Holm(nil) is not empty")
	}
}

func TestInvert(t *testing.T) {
	ci := Interval{Center: 2, Lo: 1, Hi: 4, Confidence: Confidence, N: 5}.Invert()
	if ci.Center != 0.5 || ci.Lo != 0.25 || ci.Hi != 1 || !ci.Valid() {
		t.Errorf("Invert = %+v", ci)
	}
	if (Interval{Center: 1, Lo: 0, Hi: 2, N: 5}).Invert().Valid() {
		t.Error("inverse of an interval with 0 is valid")
	}
}

func FuzzMannWhitney(f *testing.F) {
	f.Add([]byte{1, 2, 3}, []byte{3, 4})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		left, right := floats(a), floats(b)
		u, p := MannWhitney(left, right)
		mirrored, q := MannWhitney(right, left)
		if len(left) == 0 || len(right) == 0 {
			return
		}
		near(t, "p mirrored", p, q, 1e-9)
		near(t, "u + u mirrored", u+mirrored, float64(len(left)*len(right)), 1e-9)
		if p < 0 || p > 1 {
			t.Errorf("p = %v", p)
		}
	})
}

func floats(raw []byte) []float64 {
	values := make([]float64, min(len(raw), 40))
	for i := range values {
		values[i] = float64(raw[i])
	}
	return values
}

func BenchmarkMedianCI10(b *testing.B) {
	values := draw(rand.New(rand.NewPCG(1, 1)), 10, false)
	for b.Loop() {
		MedianCI(values, 1)
	}
}

func BenchmarkMannWhitney10(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 1))
	x, y := draw(random, 10, false), draw(random, 10, false)
	for b.Loop() {
		MannWhitney(x, y)
	}
}

// Below six values the interval is the whole range, and says what that covers.
func TestSmallSamplesStateTheirCoverage(t *testing.T) {
	values := []float64{3, 1, 4, 1.5, 9, 2.6}
	for n, want := range map[int]float64{2: 0.5, 3: 0.75, 4: 0.875, 5: 0.9375, 6: Confidence} {
		ci := MedianCI(values[:n], 1)
		if ci.Confidence != want {
			t.Errorf("n=%d: confidence %g, want %g", n, ci.Confidence, want)
		}
		if n < 6 && (ci.Lo != slices.Min(values[:n]) || ci.Hi != slices.Max(values[:n])) {
			t.Errorf("n=%d: [%g, %g] is not the whole range", n, ci.Lo, ci.Hi)
		}
	}
}
