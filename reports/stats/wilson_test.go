package stats

import "testing"

// Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
func TestWilsonKnownAnswers(t *testing.T) {
	for _, c := range []struct {
		k, n   int
		lo, hi float64
	}{{81, 263, 0.2553, 0.3662}, {15, 148, 0.0624, 0.1605}, {0, 20, 0, 0.1611}, {1, 29, 0.0061, 0.1718}} {
		ci := Wilson(c.k, c.n)
		near(t, "lo", ci.Lo, c.lo, 1e-4)
		near(t, "hi", ci.Hi, c.hi, 1e-4)
	}
	if Wilson(3, 2).Valid() || Wilson(0, 0).Valid() {
		t.Error("an impossible share is valid")
	}
}
