package stats

import (
	"math"
	"math/rand/v2"
	"testing"
)

// R's documentation of wilcox.test: the depression data of Hollander and Wolfe
// (1973), V = 40, two-sided p = 2 × 0.01953.
func TestSignedRankKnownAnswers(t *testing.T) {
	x := []float64{1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30}
	y := []float64{0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29}
	differences := make([]float64, len(x))
	for i := range x {
		differences[i] = x[i] - y[i]
	}
	w, p := SignedRank(differences)
	near(t, "V", w, 40, 0)
	near(t, "p", p, 2*0.01953125, 1e-9)
	if _, p := SignedRank([]float64{0, 0}); p != 1 {
		t.Errorf("p of no difference = %v, want 1", p)
	}
	if _, p := SignedRank([]float64{1, math.NaN()}); !math.IsNaN(p) {
		t.Errorf("p of NaN = %v, want NaN", p)
	}
}

// The dumb way: every choice of signs.
func TestSignedRankMeetsEnumeration(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 8))
	for range 60 {
		differences := draw(random, 1+random.IntN(9), true)
		for i := range differences {
			differences[i] -= 12
		}
		ranks, positive, _ := signedRanks(differences)
		total := 0
		for _, r := range ranks {
			total += r
		}
		all, extreme := 0, 0
		for mask := range 1 << len(ranks) {
			sum := 0
			for i, r := range ranks {
				if mask>>i&1 == 1 {
					sum += r
				}
			}
			all++
			if abs(2*sum-total) >= abs(2*positive-total) {
				extreme++
			}
		}
		_, p := SignedRank(differences)
		near(t, "p", p, float64(extreme)/float64(all), 1e-12)
	}
}

func TestSignedRankNormalMeetsExact(t *testing.T) {
	random := rand.New(rand.NewPCG(6, 1))
	for range 10 {
		differences := make([]float64, 61)
		for i := range differences {
			differences[i] = random.NormFloat64() + 0.2
		}
		_, normal := SignedRank(differences)
		ranks, positive, _ := signedRanks(differences)
		near(t, "normal p", normal, exactSignedP(ranks, positive), 0.005)
	}
}
