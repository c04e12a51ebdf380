package keys

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"
)

// chiSquare compares counts with expected ones; classes that expect fewer than
// ten are joined. It returns the normalised excess (about N(0,1)).
func chiSquare(counts []int, probability func(k int) float64, draws int) float64 {
	var sum, expected, got float64
	freedom := -1
	for k, n := range counts {
		expected += probability(k) * float64(draws)
		got += float64(n)
		if expected >= 10 || k == len(counts)-1 {
			sum += (got - expected) * (got - expected) / max(expected, 1e-9)
			freedom++
			expected, got = 0, 0
		}
	}
	f := float64(freedom)
	// Wilson and Hilferty's cube root transform.
	return (math.Cbrt(sum/f) - (1 - 2/(9*f))) / math.Sqrt(2/(9*f))
}

func TestZipfFollowsItsLaw(t *testing.T) {
	const draws = 400_000
	for _, theta := range []float64{0.2, 0.5, 0.99, 1, 1.000001, 1.2, 3} {
		for _, n := range []int{2, 10, 1000} {
			z, err := New("zipf", uint64(n), theta, 11, 5)
			if err != nil {
				t.Fatal(err)
			}
			total := 0.0
			for k := range n {
				total += math.Pow(float64(k+1), -theta)
			}
			counts := make([]int, n)
			for range draws {
				counts[z.Pick()]++
			}
			p := func(k int) float64 { return math.Pow(float64(k+1), -theta) / total }
			if excess := chiSquare(counts, p, draws); excess > 3.5 {
				t.Errorf("theta %g over %d: chi square %.1f deviations above", theta, n, excess)
			}
			uniform := func(int) float64 { return 1 / float64(n) }
			if excess := chiSquare(counts, uniform, draws); excess < 3.5 {
				t.Errorf("theta %g over %d passes for uniform", theta, n)
			}
		}
	}
}

// Constant memory and time: a key space no table could hold.
func TestZipfOverManyKeys(t *testing.T) {
	z, err := New("zipf", 1<<50, 0.99, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	first, beyond := 0, 0
	for range 100_000 {
		switch k := z.Pick(); {
		case k >= 1<<50:
			t.Fatalf("rank %d", k)
		case k == 0:
			first++
		case k > 1<<40:
			beyond++
		}
	}
	if first == 0 || beyond == 0 {
		t.Errorf("%d draws of the first rank, %d of the far tail", first, beyond)
	}
}

func TestUniformAndSequential(t *testing.T) {
	u, err := New("uniform", 100, 0, 3, 9)
	if err != nil {
		t.Fatal(err)
	}
	counts := make([]int, 100)
	for range 100_000 {
		counts[u.Pick()]++
	}
	if excess := chiSquare(counts, func(int) float64 { return 0.01 }, 100_000); excess > 3.5 {
		t.Errorf("uniform: %.1f deviations", excess)
	}
	s := &Sequential{N: 5, Start: 3, Step: 2}
	for i, want := range []uint64{3, 0, 2, 4, 1, 3} {
		if got := s.Pick(); got != want {
			t.Errorf("sequential pick %d is %d, want %d", i, got, want)
		}
	}
}

func TestSameSeedSameKeys(t *testing.T) {
	for _, name := range Names() {
		a, _ := New(name, 1<<40, 0.99, 1, 2)
		b, _ := New(name, 1<<40, 0.99, 1, 2)
		c, _ := New(name, 1<<40, 0.99, 1, 3)
		same := 0
		for range 1000 {
			x := a.Pick()
			if x != b.Pick() {
				t.Fatalf("%s: the same seed and stream give other keys", name)
			}
			if x == c.Pick() {
				same++
			}
		}
		if name != "sequential" && same > 100 {
			t.Errorf("%s: another stream gives %d of 1000 alike", name, same)
		}
	}
}

func TestPayload(t *testing.T) {
	seen := map[string]bool{}
	for n := range uint64(1000) {
		p := make([]byte, 37)
		Payload(p, 1, 2, n)
		again := make([]byte, 21)
		Payload(again, 1, 2, n)
		// Whole words are a prefix property; the last part of one is too.
		if !bytes.Equal(again, p[:21]) {
			t.Fatalf("payload %d: %x isn't a prefix of %x", n, again, p)
		}
		if seen[string(p)] {
			t.Fatalf("payload %d appeared before", n)
		}
		seen[string(p)] = true
	}
	ones := 0
	p := make([]byte, 1<<16)
	Payload(p, 9, 9, 9)
	for _, b := range p {
		for ; b > 0; b &= b - 1 {
			ones++
		}
	}
	if off := math.Abs(float64(ones-len(p)*4)) / math.Sqrt(float64(len(p)*2)); off > 4 {
		t.Errorf("%d of %d bits set: %.1f deviations", ones, len(p)*8, off)
	}
}

func TestBadKeys(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for _, theta := range []float64{0, -1, 11, math.NaN()} {
		if _, err := NewZipf(10, theta, random); err == nil {
			t.Errorf("exponent %g was accepted", theta)
		}
	}
	if _, err := New("zipf", 0, 1, 1, 1); err == nil {
		t.Error("no keys were accepted")
	}
	if _, err := New("pareto", 10, 1, 1, 1); err == nil {
		t.Error("an unknown name was accepted")
	}
}

func BenchmarkPick(b *testing.B) {
	for _, name := range Names() {
		b.Run(name, func(b *testing.B) {
			p, err := New(name, 1<<20, 0.99, 1, 1)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				p.Pick()
			}
		})
	}
}

func BenchmarkPayload1KiB(b *testing.B) {
	p := make([]byte, 1024)
	b.SetBytes(1024)
	b.ReportAllocs()
	for b.Loop() {
		Payload(p, 1, 2, 3)
	}
}
