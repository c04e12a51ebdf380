// Package keys draws keys and payloads from a seed, so that every contender
// gets the same and an oracle can compute them again.
package keys

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
)

// Picker draws numbers below its bound. It belongs to one goroutine and needs
// constant memory.
type Picker interface {
	Pick() uint64
}

// Sequential counts from Start by Step (0 is 1) and wraps at N.
type Sequential struct {
	N, Start, Step uint64
	given          uint64
}

// Pick implements Picker.
func (s *Sequential) Pick() uint64 {
	k := s.Start + s.given*max(s.Step, 1)
	s.given++
	return k % max(s.N, 1)
}

// Uniform draws all numbers below N alike.
type Uniform struct {
	n      uint64
	random *rand.Rand
}

// Pick implements Picker.
func (u *Uniform) Pick() uint64 { return u.random.Uint64N(u.n) }

// Zipf draws rank k below N with probability proportional to 1/(k+1)^Theta, by
// rejection-inversion (Hörmann and Derflinger 1996): constant memory and time
// for every exponent above 0, so YCSB's 0.99 and beyond 1 alike.
type Zipf struct {
	n                  float64
	theta              float64
	hFirst, hLast, cut float64
	random             *rand.Rand
}

// NewZipf returns ranks below n, the smallest the likeliest.
func NewZipf(n uint64, theta float64, random *rand.Rand) (*Zipf, error) {
	if n == 0 || n > 1<<53 {
		return nil, fmt.Errorf("zipf over %d keys: want 1 to 2^53", n)
	}
	if math.IsNaN(theta) || theta <= 0 || theta > 10 {
		return nil, fmt.Errorf("zipf exponent %g: want above 0 and at most 10", theta)
	}
	z := &Zipf{n: float64(n), theta: theta, random: random}
	z.hFirst = z.integral(1.5) - 1
	z.hLast = z.integral(z.n + 0.5)
	z.cut = 2 - z.inverse(z.integral(2.5)-z.density(2))
	return z, nil
}

// Pick implements Picker.
func (z *Zipf) Pick() uint64 {
	for {
		u := z.hLast + z.random.Float64()*(z.hFirst-z.hLast)
		x := z.inverse(u)
		k := min(max(math.Floor(x+0.5), 1), z.n)
		// The first test accepts nearly always without a power to compute.
		if k-x <= z.cut || u >= z.integral(k+0.5)-z.density(k) {
			return uint64(k) - 1
		}
	}
}

// density is the unnormalised probability x^-theta.
func (z *Zipf) density(x float64) float64 { return math.Exp(-z.theta * math.Log(x)) }

// integral is the density's, (x^(1-theta)-1)/(1-theta), steady through theta 1.
func (z *Zipf) integral(x float64) float64 {
	logX := math.Log(x)
	return expm1Ratio((1-z.theta)*logX) * logX
}

// inverse is that of integral.
func (z *Zipf) inverse(y float64) float64 {
	t := max(y*(1-z.theta), -1)
	return math.Exp(log1pRatio(t) * y)
}

// expm1Ratio is (e^x-1)/x.
func expm1Ratio(x float64) float64 {
	if math.Abs(x) > 1e-8 {
		return math.Expm1(x) / x
	}
	return 1 + x/2*(1+x/3*(1+x/4))
}

// log1pRatio is log(1+x)/x.
func log1pRatio(x float64) float64 {
	if math.Abs(x) > 1e-8 {
		return math.Log1p(x) / x
	}
	return 1 - x*(0.5-x*(1.0/3-x/4))
}

// Names lists what New knows.
func Names() []string { return []string{"zipf", "uniform", "sequential"} }

// New returns the named distribution over n keys. theta is Zipf's exponent.
// The same seed and stream give the same keys; other streams give independent
// ones.
func New(name string, n uint64, theta float64, seed, stream uint64) (Picker, error) {
	if n == 0 {
		return nil, fmt.Errorf("keys: %s over no keys", name)
	}
	random := rand.New(rand.NewPCG(seed, Mix(stream)))
	switch name {
	case "zipf":
		return NewZipf(n, theta, random)
	case "uniform":
		return &Uniform{n: n, random: random}, nil
	case "sequential":
		return &Sequential{N: n}, nil
	}
	return nil, fmt.Errorf("unknown key distribution %q: want one of %q", name, Names())
}

// Mix is the finaliser of SplitMix64: a bijection of 64-bit numbers whose
// outputs look independent. It scatters ranks over the key space.
func Mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Payload fills dst with the bytes of request n of a stream. They depend on
// nothing but the three numbers and their position: an oracle computes any
// payload, or a prefix of one, without those before it.
func Payload(dst []byte, seed, stream, n uint64) {
	state := Mix(Mix(Mix(seed)^stream) ^ n)
	for len(dst) >= 8 {
		binary.LittleEndian.PutUint64(dst, Mix(state))
		state++
		dst = dst[8:]
	}
	if len(dst) > 0 {
		var last [8]byte
		binary.LittleEndian.PutUint64(last[:], Mix(state))
		copy(dst, last[:])
	}
}
