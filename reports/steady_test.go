package reports

import (
	"math/rand/v2"
	"testing"
)

// paceOf is a trial of 150 intervals of which 30 are warm-up, with so many
// answers in each as rate says, scattered by a tenth.
func paceOf(seed uint64, rate func(i int) float64) *Pace {
	random := rand.New(rand.NewPCG(seed, 1))
	p := &Pace{IntervalNs: 2e6, MeasuredFrom: 30}
	for i := range 150 {
		n := max(0, rate(i)*(1+0.1*random.NormFloat64()))
		p.Answered = append(p.Answered, uint64(n))
		p.LatencySumNs = append(p.LatencySumNs, int64(n*1e6*(1+0.1*random.NormFloat64())))
	}
	return p
}

func TestSteadyTrialsAreNotDoubted(t *testing.T) {
	doubted := 0
	for seed := range uint64(400) {
		p := paceOf(seed, func(i int) float64 { return 500 * min(1, float64(i+1)/10) }) // settles inside the warm-up
		p.Judge(true)
		if p.Steady == nil {
			t.Fatal("not judged")
		}
		doubted += len(p.Steady.Doubts())
	}
	if doubted > 4 {
		t.Errorf("%d of 400 steady trials are doubted", doubted)
	}
}

func TestLateWarmupsAndDriftsAreDoubted(t *testing.T) {
	for name, c := range map[string]struct {
		rate func(i int) float64
		want func(*Steady) bool
	}{
		"silent until after the warm-up": {func(i int) float64 {
			if i < 45 {
				return 0
			}
			return 500
		}, func(s *Steady) bool { return s.Late && s.FromNs >= 26e6 && s.FromNs <= 40e6 && s.BiasRatio < -0.1 }},
		"slower and slower": {func(i int) float64 { return 500 * (1 - float64(i)/300) }, func(s *Steady) bool { return s.Late || s.Never }},
	} {
		p := paceOf(1, c.rate)
		p.Judge(true)
		if p.Steady == nil || !c.want(p.Steady) || len(p.Steady.Doubts()) != 1 {
			t.Errorf("%s: %+v", name, p.Steady)
		}
	}
}

// An open loop answers at the offered rate, so its latency is looked at.
func TestOpenLoopIsJudgedByLatency(t *testing.T) {
	p := paceOf(3, func(int) float64 { return 40 })
	for i := range 50 {
		p.LatencySumNs[i] *= 3
	}
	p.Judge(false)
	if s := p.Steady; s == nil || s.Signal != SignalLatency || !s.Late || s.BiasRatio < 0.2 {
		t.Errorf("%+v", s)
	}
}

func TestTooLittleIsNotJudged(t *testing.T) {
	seldom := &Pace{IntervalNs: 2e6, MeasuredFrom: 30, Answered: make([]uint64, 150), LatencySumNs: make([]int64, 150)}
	seldom.Answered[70], seldom.LatencySumNs[70] = 1, 1e6
	for name, p := range map[string]*Pace{"one answer": seldom, "nothing": {}, "short": {IntervalNs: 1e6, Answered: []uint64{5, 5}, LatencySumNs: []int64{1, 1}}} {
		p.Judge(false)
		if p.Steady != nil || p.Steady.Doubts() != nil {
			t.Errorf("%s: %+v", name, p.Steady)
		}
	}
}
