package arrivals

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/nexuscore-labs/nexus/loadgen/schedule"
)

const tolerance = 100 * time.Microsecond

// poisson draws n arrivals.
func poisson(t *testing.T, ratePerS float64, n int, seed uint64) []int64 {
	t.Helper()
	s, err := schedule.New("poisson", ratePerS, 0, seed, schedule.Part{})
	if err != nil {
		t.Fatal(err)
	}
	at := make([]int64, n)
	for i := range at {
		at[i] = s.Next()
	}
	return at
}

// late adds lag to each arrival and keeps their order, as a generator does.
func late(at []int64, lag func(i int) int64) []int64 {
	out := make([]int64, len(at))
	for i, t := range at {
		out[i] = t + lag(i)
		if i > 0 {
			out[i] = max(out[i], out[i-1])
		}
	}
	return out
}

// True Poisson arrivals raise no alarm at any size and rate, whatever lag
// within the tolerance does to them. At Alpha, none is expected in 10⁵ tries.
func TestNoFalseAlarms(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, ratePerS := range []float64{300, 7_000, 20_000, 200_000} {
		for _, n := range []int{SamplesMin + 1, 1_000, 20_000} {
			tries := max(3, 40_000/n)
			for seed := range tries {
				at := poisson(t, ratePerS, n, uint64(seed+1))
				if bad, failed := FirstFailed(PlanPoisson(at, ratePerS)); failed {
					t.Errorf("plan at %g/s, seed %d: %s", ratePerS, seed, bad)
				}
				lags := map[string]func(int) int64{
					"none":    func(int) int64 { return 0 },
					"even":    func(int) int64 { return 90_000 },
					"jitter":  func(int) int64 { return random.Int64N(100_000) },
					"preempt": func(i int) int64 { return int64(max(0, 3e6-float64(at[i]%500_000_000))) }, // 3 ms twice a second
				}
				for name, lag := range lags {
					if bad, failed := FirstFailed(SendsPoisson(late(at, lag), ratePerS, tolerance)); failed {
						t.Errorf("sends at %g/s with lag %s, n=%d, seed %d: %s", ratePerS, name, n, seed, bad)
					}
				}
			}
		}
	}
}

// What is not Poisson is found, in the plan and in what was sent.
func TestAlarms(t *testing.T) {
	const n, ratePerS = 20_000, 2_000.0
	const meanNs = 1e9 / ratePerS
	random := rand.New(rand.NewPCG(3, 4))
	build := func(gap func(i int) float64) []int64 {
		at, sum := make([]int64, n), 0.0
		for i := range at {
			sum += gap(i)
			at[i] = int64(sum)
		}
		return at
	}
	previous := 1.0
	cases := map[string][]int64{
		"constant": build(func(int) float64 { return meanNs }),
		"uniform":  build(func(int) float64 { return 2 * meanNs * random.Float64() }),
		"bursts of ten": build(func(i int) float64 {
			if i%10 == 0 {
				return 10 * meanNs
			}
			return 0
		}),
		"pairs": build(func(i int) float64 {
			if i%2 == 0 {
				return 2 * meanNs * random.ExpFloat64()
			}
			return 0
		}),
		"20% fast": build(func(int) float64 { return 0.8 * meanNs * random.ExpFloat64() }),
		// Exponential gaps, each like the one before: only order gives it away.
		"runs of like gaps": build(func(int) float64 {
			if random.Float64() < 0.5 {
				previous = random.ExpFloat64()
			}
			return meanNs * previous
		}),
		"rate swings": build(func(i int) float64 {
			return meanNs * random.ExpFloat64() * (1 + 0.8*math.Sin(float64(i)/300))
		}),
	}
	for name, at := range cases {
		if _, failed := FirstFailed(PlanPoisson(at, ratePerS)); !failed {
			t.Errorf("a plan of %s passes for Poisson: %v", name, PlanPoisson(at, ratePerS))
		}
		if _, failed := FirstFailed(SendsPoisson(at, ratePerS, tolerance)); !failed {
			t.Errorf("sends of %s pass for Poisson: %v", name, SendsPoisson(at, ratePerS, tolerance))
		}
	}
	// A sound plan that is sent in batches: every 2 ms what is due.
	at := poisson(t, 20_000, n, 9)
	batched := late(at, func(i int) int64 { return 2_000_000 - at[i]%2_000_000 })
	if _, failed := FirstFailed(SendsPoisson(batched, 20_000, tolerance)); !failed {
		t.Error("sends in batches every 2 ms pass for Poisson")
	}
}

func TestDisplaced(t *testing.T) {
	at := make([]int64, 5_000)
	for i := range at {
		at[i] = int64(i) * 500_000
	}
	random := rand.New(rand.NewPCG(5, 6))
	for name, c := range map[string]struct {
		lag  func(i int) int64
		want bool
	}{
		"punctual":        {func(int) int64 { return 0 }, false},
		"all alike late":  {func(int) int64 { return 40_000_000 }, false},
		"jitter":          {func(int) int64 { return random.Int64N(90_000) }, false},
		"one stall":       {func(i int) int64 { return max(0, 20e6-int64(max(0, i-1000))*500_000) * int64(min(1, i/1000)) }, false},
		"every other one": {func(i int) int64 { return int64(i%2) * 300_000 }, true},
		"batches of ten":  {func(i int) int64 { return int64(9-i%10) * 500_000 }, true},
	} {
		bad, failed := FirstFailed(Displaced(at, late(at, c.lag), tolerance))
		if failed != c.want {
			t.Errorf("%s: failed %v (%s)", name, failed, bad)
		}
	}
}

func TestTooFewAreNotTested(t *testing.T) {
	at := poisson(t, 1_000, SamplesMin, 1)
	if got := slices.Concat(PlanPoisson(at, 1_000), SendsPoisson(at, 1_000, 0), Displaced(at, at, 0), SendsPoisson(nil, 1, 0)); got != nil {
		t.Errorf("%d gaps were tested: %v", SamplesMin-1, got)
	}
}

// Known answers, by hand.
func TestStatistics(t *testing.T) {
	uniform := func(x float64) float64 { return min(max(x, 0), 1) }
	if d := distance([]float64{0.3, 0.6, 0.9}, 0, uniform); math.Abs(d-0.3) > 1e-12 {
		t.Errorf("Kolmogorov's distance is %g, want 0.3", d)
	}
	if d := distance([]float64{0.3, 0.6, 0.9}, 0.1, uniform); math.Abs(d-0.2) > 1e-12 {
		t.Errorf("with a tolerance of 0.1 the distance is %g, want 0.2", d)
	}
	if got := ranksOf([]float64{5, 1, 5, 3}); !slices.Equal(got, []float64{3.5, 1, 3.5, 2}) {
		t.Errorf("ranks %v", got)
	}
	if z := normalLimit(0.05); math.Abs(z-1.959964) > 1e-5 {
		t.Errorf("normal limit %g", z)
	}
	if c := dkw(100, 0.05); math.Abs(c-0.135810) > 1e-5 {
		t.Errorf("DKW limit %g", c)
	}
}
