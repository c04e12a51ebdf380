package schedule

import (
	"math"
	"slices"
	"testing"
)

// merged takes all parts of a schedule together, up to a time.
func merged(t *testing.T, name string, rate float64, burst, parts int, untilNs int64) []int64 {
	t.Helper()
	var all []int64
	for i := range parts {
		s, err := New(name, rate, burst, 42, Part{Index: i, Count: parts})
		if err != nil {
			t.Fatal(err)
		}
		last := int64(0)
		for {
			at := s.Next()
			if at < last {
				t.Fatalf("%s: %d after %d", name, at, last)
			}
			if at >= untilNs {
				break
			}
			last = at
			all = append(all, at)
		}
	}
	slices.Sort(all)
	return all
}

func TestPartsAreTheWhole(t *testing.T) {
	for _, name := range []string{"constant", "burst"} {
		whole := merged(t, name, 10_000, 7, 1, 1e9)
		for _, parts := range []int{2, 7, 64, 333} {
			if got := merged(t, name, 10_000, 7, parts, 1e9); !slices.Equal(got, whole) {
				t.Errorf("%s: %d parts give %d arrivals unlike the %d of the whole", name, parts, len(got), len(whole))
			}
		}
		if len(whole) < 9_999 || len(whole) > 10_007 {
			t.Errorf("%s: %d arrivals in a second at 10000/s", name, len(whole))
		}
	}
}

func TestConstantAndBurstShapes(t *testing.T) {
	constant := merged(t, "constant", 1000, 0, 3, 1e9)
	for i, at := range constant {
		if at != int64(i)*1e6 {
			t.Fatalf("constant arrival %d at %d", i, at)
		}
	}
	burst := merged(t, "burst", 1000, 10, 3, 1e9)
	for i, at := range burst {
		if at != int64(i/10)*10e6 {
			t.Fatalf("burst arrival %d at %d", i, at)
		}
	}
}

// kolmogorov is the largest distance of the gaps' distribution from the
// exponential one, times the root of their number.
func kolmogorov(at []int64, meanNs float64) float64 {
	gaps := make([]float64, 0, len(at))
	for i := 1; i < len(at); i++ {
		gaps = append(gaps, float64(at[i]-at[i-1]))
	}
	slices.Sort(gaps)
	n := float64(len(gaps))
	worst := 0.0
	for i, g := range gaps {
		cdf := -math.Expm1(-g / meanNs)
		worst = max(worst, cdf-float64(i)/n, float64(i+1)/n-cdf)
	}
	return worst * math.Sqrt(n)
}

// The 0.1% point of Kolmogorov's distribution. Seeds are fixed, so this is no
// matter of luck.
const kolmogorovLimit = 1.95

func TestPoissonGapsAreExponential(t *testing.T) {
	for _, parts := range []int{1, 2, 64, 256} {
		const rate, untilNs = 20_000.0, int64(5e9)
		at := merged(t, "poisson", rate, 0, parts, untilNs)
		want := rate * float64(untilNs) / 1e9
		if off := math.Abs(float64(len(at))-want) / math.Sqrt(want); off > 3.3 {
			t.Errorf("%d parts: %d arrivals, %.0f expected: %.1f deviations off", parts, len(at), want, off)
		}
		if d := kolmogorov(at, 1e9/rate); d > kolmogorovLimit {
			t.Errorf("%d parts: gaps aren't exponential: D√n = %.2f", parts, d)
		}
		// Independence: the lag-1 correlation of gaps is 0 within 1/√n.
		if c := correlation(at) * math.Sqrt(float64(len(at))); math.Abs(c) > 3.3 {
			t.Errorf("%d parts: successive gaps correlate: %.2f deviations", parts, c)
		}
	}
	// The test can fail: other processes do.
	for _, name := range []string{"constant", "burst"} {
		if d := kolmogorov(merged(t, name, 20_000, 4, 1, 1e9), 50_000); d < kolmogorovLimit {
			t.Errorf("%s arrivals pass for Poisson: %.2f", name, d)
		}
	}
}

func correlation(at []int64) float64 {
	mean := float64(at[len(at)-1]-at[0]) / float64(len(at)-1)
	var product, square float64
	for i := 2; i < len(at); i++ {
		a, b := float64(at[i-1]-at[i-2])-mean, float64(at[i]-at[i-1])-mean
		product += a * b
		square += b * b
	}
	return product / square
}

func TestSeeds(t *testing.T) {
	a, b, c := &Poisson{RatePerS: 100, Seed: 1}, &Poisson{RatePerS: 100, Seed: 1}, &Poisson{RatePerS: 100, Seed: 2}
	same := 0
	for range 100 {
		x := a.Next()
		if x != b.Next() {
			t.Fatal("the same seed gives other arrivals")
		}
		if x == c.Next() {
			same++
		}
	}
	if same > 1 {
		t.Fatalf("another seed gives %d of the same arrivals", same)
	}
}

func TestZeroValuesSendWithoutPause(t *testing.T) {
	for _, s := range []Schedule{&Constant{}, &Burst{}, &Poisson{}} {
		for range 3 {
			if at := s.Next(); at != 0 {
				t.Errorf("%T: %d", s, at)
			}
		}
	}
}

func TestBadSchedules(t *testing.T) {
	for _, c := range []struct {
		name  string
		rate  float64
		burst int
	}{{"constant", 0, 0}, {"poisson", -1, 0}, {"burst", 10, 0}, {"uniform", 10, 0}, {"constant", math.Inf(1), 0}, {"constant", math.NaN(), 0}} {
		if _, err := New(c.name, c.rate, c.burst, 1, Part{}); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
}

func BenchmarkNext(b *testing.B) {
	for _, name := range Names() {
		b.Run(name, func(b *testing.B) {
			s, err := New(name, 1e6, 8, 1, Part{Index: 3, Count: 64})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				s.Next()
			}
		})
	}
}
