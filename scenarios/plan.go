package scenarios

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// slot is one trial that the plan asks for. If it turns out invalid it is
// repeated in place, so that its round stays a round.
type slot struct {
	index     int
	contender string
	point     *Point
	warmup    time.Duration // the point's, or the contender's where that is more
	round     int
	seed      uint64 // of the trial's requests; equal for all contenders of the round and point
	reference bool   // served by the other build
	costing   bool   // measures what the probes cost
}

func (s slot) String() string {
	text := fmt.Sprintf("%s at %s, round %d", s.contender, s.point.ID, s.round)
	if s.costing {
		text += ", costing the probes"
	}
	if s.reference {
		text += ", the reference build"
	}
	return text
}

// place is what a slot measures, the same in every round.
func (s slot) place() string { return s.contender + " at " + pointID(s) }

// plan returns the trials in the order in which they are to run. Every round
// holds each contender once per point, so that what changes on the machine
// during the run changes for all alike. Inside a round the points, and at each
// point the contenders, are in an order drawn from the seed; the contenders of
// one point follow each other, which keeps the trials of a pair close. Every
// second round runs in the reverse order of the round before it (ABBA), so that in
// any even number of rounds each of a pair is first equally often: what coming
// first is worth, and what drifts during two rounds, cancels out.
// The same scenario gives the same plan.
func plan(s *Scenario) []slot {
	var out []slot
	random := rand.New(rand.NewPCG(s.Seed, trialSeed(s.Seed, "plan", 0)))
	rounds := 0
	for i := range s.Points {
		rounds = max(rounds, s.Points[i].Trials)
	}
	if s.Overhead != nil {
		rounds = max(rounds, s.Overhead.Trials)
	}
	var order []int
	var ranks map[string]float64
	for round := range rounds {
		if mirrored := round%2 == 1; !mirrored {
			order, ranks = random.Perm(len(s.Points)), map[string]float64{}
		} else {
			slices.Reverse(order)
			for key, rank := range ranks {
				ranks[key] = -rank
			}
		}
		for _, i := range order {
			at := slotsOf(s, &s.Points[i], round)
			for _, one := range at {
				key := one.place()
				if _, drawn := ranks[key]; !drawn {
					ranks[key] = random.Float64()
				}
			}
			slices.SortStableFunc(at, func(a, b slot) int { return cmp.Compare(ranks[a.place()], ranks[b.place()]) })
			out = append(out, at...)
		}
	}
	for i := range out {
		out[i].index = i
	}
	return out
}

// slotsOf returns one round's trials at one point.
func slotsOf(s *Scenario, p *Point, round int) []slot {
	var out []slot
	seed := trialSeed(s.Seed, p.ID, round)
	if round < p.Trials {
		for _, name := range p.Contenders {
			one := slot{contender: name, point: p, warmup: s.warmup(name, p), round: round, seed: seed}
			out = append(out, one)
			if s.twins[name] {
				one.reference = true
				out = append(out, one)
			}
		}
	}
	if o := s.Overhead; o != nil && o.Point == p.ID && round < o.Trials {
		costing := *p
		costing.Duration = o.Duration
		out = append(out, slot{contender: o.Contender, point: &costing, warmup: s.warmup(o.Contender, p), round: round, seed: seed, costing: true})
	}
	return out
}

// warmup is how long the contender is driven at the point before it is measured.
func (s *Scenario) warmup(contender string, p *Point) time.Duration {
	out := p.Warmup
	for i := range s.Contenders {
		if c := &s.Contenders[i]; c.Name == contender {
			out = max(out, c.Warmup)
		}
	}
	return out
}

// trialSeed derives a seed from the scenario's.
func trialSeed(seed uint64, what string, round int) uint64 {
	text := fmt.Sprintf("nexus %d %q %d", seed, what, round)
	sum := sha256.Sum256([]byte(text))
	return binary.LittleEndian.Uint64(sum[:])
}
