// Package schedule says when requests are intended to be sent. A schedule is
// computed, never stored: a sender that falls behind finds its backlog by
// asking for the next time, however long it was held up.
package schedule

import (
	"fmt"
	"math/rand/v2"
)

// Schedule gives the intended times of one sender's arrivals, in ns after the
// start. Times never decrease. A Schedule belongs to one goroutine.
type Schedule interface {
	Next() int64
}

// Part is a sender's share of a common schedule: sender Index of Count. The
// zero value is the only sender. All parts together are the whole schedule.
type Part struct {
	Index, Count int
}

func (p Part) count() int { return max(p.Count, 1) }

// Constant is evenly spaced arrivals; the zero value sends without pause.
type Constant struct {
	RatePerS float64 // of all parts together
	Part     Part
	n        uint64
}

// Next implements Schedule.
func (c *Constant) Next() int64 {
	if c.RatePerS <= 0 {
		return 0
	}
	k := float64(c.n)*float64(c.Part.count()) + float64(c.Part.Index)
	c.n++
	return int64(k / c.RatePerS * 1e9)
}

// Burst is groups of Len arrivals at once, evenly spaced so that the rate
// holds on average; the zero value sends without pause.
type Burst struct {
	RatePerS float64
	Len      int // 0 is 1
	Part     Part
	n        uint64
}

// Next implements Schedule.
func (b *Burst) Next() int64 {
	if b.RatePerS <= 0 {
		return 0
	}
	k := b.n*uint64(b.Part.count()) + uint64(b.Part.Index)
	b.n++
	length := uint64(max(b.Len, 1))
	return int64(float64(k/length*length) / b.RatePerS * 1e9)
}

// Poisson is arrivals with independent exponential gaps. Parts are independent
// processes of an equal share of the rate, which together are a Poisson
// process of the whole rate. The zero value sends without pause.
type Poisson struct {
	RatePerS float64
	Part     Part
	Seed     uint64
	random   *rand.Rand
	atNs     float64
}

// Next implements Schedule.
func (p *Poisson) Next() int64 {
	if p.RatePerS <= 0 {
		return 0
	}
	if p.random == nil {
		p.random = rand.New(rand.NewPCG(p.Seed, uint64(p.Part.Index)+1))
	}
	p.atNs += p.random.ExpFloat64() * 1e9 * float64(p.Part.count()) / p.RatePerS
	return int64(p.atNs)
}

// Names lists what New knows.
func Names() []string { return []string{"constant", "poisson", "burst"} }

// New returns one part of the named schedule.
func New(name string, ratePerS float64, burstLen int, seed uint64, part Part) (Schedule, error) {
	if !(ratePerS > 0 && ratePerS <= 1e9) { // NaN included
		return nil, fmt.Errorf("arrival rate %g/s: want above 0 and at most 1e9", ratePerS)
	}
	switch name {
	case "constant":
		return &Constant{RatePerS: ratePerS, Part: part}, nil
	case "poisson":
		return &Poisson{RatePerS: ratePerS, Part: part, Seed: seed}, nil
	case "burst":
		if burstLen < 1 {
			return nil, fmt.Errorf("burst arrivals need a burst length of at least 1, not %d", burstLen)
		}
		return &Burst{RatePerS: ratePerS, Len: burstLen, Part: part}, nil
	}
	return nil, fmt.Errorf("unknown arrival process %q: want one of %q", name, Names())
}
