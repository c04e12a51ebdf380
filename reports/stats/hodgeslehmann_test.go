package stats

import (
	"math/rand/v2"
	"testing"
)

// R: wilcox.test(x, y, paired = TRUE, conf.int = TRUE) on the depression data
// gives 0.46 with 95.7% interval -0.01 .. 0.786.
func TestHodgesLehmannKnownAnswer(t *testing.T) {
	ci := HodgesLehmannCI([]float64{0.952, -0.147, 1.022, 0.43, 0.62, 0.59, 0.49, -0.08, 0.01})
	near(t, "center", ci.Center, 0.46, 1e-9)
	near(t, "lo", ci.Lo, -0.01, 0.03)
	near(t, "hi", ci.Hi, 0.786, 0.03)
}

func TestHodgesLehmannCoverage(t *testing.T) {
	random := rand.New(rand.NewPCG(2, 3))
	for _, n := range []int{8, 20, 60} {
		const samples = 1000
		held := 0
		for range samples {
			values := make([]float64, n)
			for i := range values {
				values[i] = random.NormFloat64()
			}
			if HodgesLehmannCI(values).Contains(0) {
				held++
			}
		}
		if share := float64(held) / samples; share < 0.93 || share > 0.975 {
			t.Errorf("n=%d: interval held the centre in %.3f of samples, want about 0.95", n, share)
		}
	}
}
