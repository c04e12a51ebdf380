package toggle

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/nexuscore-labs/nexus/reports"
)

// The tests run on clocks and noise of their own, so that they say the same on a
// crowded machine: what is known goes in, and has to come out.

// Every block holds each position twice, mirrored, and either begins.
func TestRunIsBalanced(t *testing.T) {
	on, now := false, Reading{}
	thrown := 0
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	blocks, err := Run(ctx, Plan{Slice: time.Nanosecond, Length: time.Hour, Seed: 7}, Switch{
		Throw: func(to bool) error {
			if thrown++; thrown > 400 {
				cancel()
			}
			on = to
			return nil
		},
		Read: func() (Reading, error) {
			now.AtNs += 1000
			now.Ops += 10
			now.CPUNs += 500
			if on {
				now.CPUNs += 50
			}
			return now, nil
		},
	})
	if err != nil || len(blocks) != 100 {
		t.Fatalf("%d blocks, %v; want 100", len(blocks), err)
	}
	firstOn := 0
	for _, b := range blocks {
		if b[0].On != b[3].On || b[1].On != b[2].On || b[0].On == b[1].On {
			t.Fatalf("block %+v is not mirrored", b)
		}
		if b[0].On {
			firstOn++
		}
	}
	if firstOn < 20 || firstOn > 80 {
		t.Errorf("%d of 100 blocks began with on", firstOn)
	}
	for _, p := range Pairs(blocks) {
		if math.Abs(p.CPU-1.1) > 1e-12 || p.Throughput != 1 {
			t.Fatalf("pair %+v, want 1.1 and 1", p)
		}
	}
}

// A drift that is linear over the block falls out.
func TestDriftFallsOut(t *testing.T) {
	var blocks []Block
	for i := range 50 {
		var b Block
		for k := range b {
			on := (k == 0 || k == 3) == (i%2 == 0)
			cpu := int64(10_000 + 100*(4*i+k))
			if on {
				cpu += 1000
			}
			b[k] = Slice{On: on, Ns: 1e6, Ops: 100, CPUNs: cpu}
		}
		blocks = append(blocks, b)
	}
	for i, p := range Pairs(blocks) {
		off := Sum(blocks[i:i+1], false)
		if want := 1 + 2000/float64(off.CPUNs); math.Abs(p.CPU-want) > 1e-12 {
			t.Errorf("block %d: %g, want %g", i, p.CPU, want)
		}
	}
}

func TestStandstillIsLeftOut(t *testing.T) {
	b := Block{{On: true, Ns: 1, Ops: 0, CPUNs: 1}, {Ns: 1, Ops: 1, CPUNs: 1}, {Ns: 1, Ops: 1, CPUNs: 1}, {On: true, Ns: 1, Ops: 0, CPUNs: 1}}
	if got := Pairs([]Block{b}); len(got) != 0 {
		t.Errorf("a standstill gave %+v", got)
	}
}

// noise is what slices of the real log look like: 15% of scatter, one block in
// twenty hit by a stall, neighbours that resemble each other.
func noise(random *rand.Rand, n int, truth, phi float64) []float64 {
	out := make([]float64, n)
	state := 0.0
	for i := range out {
		state = phi*state + math.Sqrt(1-phi*phi)*random.NormFloat64()
		d := 0.15 * state
		if random.IntN(20) == 0 {
			d += 2 * random.NormFloat64()
		}
		out[i] = truth * math.Exp(d)
	}
	return out
}

// The interval holds the truth as often as it says, whatever the neighbours.
func TestEffectCovers(t *testing.T) {
	for _, phi := range []float64{0, 0.3} {
		random := rand.New(rand.NewPCG(1, 2))
		const rounds, truth = 1500, 1.02
		held := 0
		for range rounds {
			ci := Effect(noise(random, 90, truth, phi), noise(random, 90, truth, phi), noise(random, 90, truth, phi))
			if !ci.Valid() || ci.N != 270 {
				t.Fatalf("interval %+v", ci)
			}
			if ci.Contains(truth) {
				held++
			}
		}
		share := float64(held) / rounds
		t.Logf("phi %g: %.1f%%", phi, 100*share)
		if share < 0.93 || share > 0.98 {
			t.Errorf("phi %g: the 95%% interval held the truth in %.1f%% of %d rounds", phi, 100*share, rounds)
		}
	}
}

func TestEffectRefuses(t *testing.T) {
	ones := []float64{1, 1, 1, 1, 1, 1, 1, 1, 1, 1}
	for name, series := range map[string][]float64{
		"nothing": nil, "too few": ones[:9], "not a number": append([]float64{math.NaN()}, ones...),
		"zero": append([]float64{0}, ones...), "infinite": append([]float64{math.Inf(1)}, ones...), "negative": append([]float64{-1}, ones...),
	} {
		if ci := Effect(series); ci.Valid() {
			t.Errorf("%s: %+v", name, ci)
		}
	}
	if ci := Effect(ones); !ci.Valid() || ci.Center != 1 {
		t.Errorf("ten ones: %+v", ci)
	}
}

func TestAccountedRatio(t *testing.T) {
	a := reports.AccountedCost{CPUNsPerOp: 1000, Programs: []reports.ProgramAccount{
		{On: reports.RunCost{NsPerOp: 60}, Off: reports.RunCost{NsPerOp: 40}},
		{On: reports.RunCost{NsPerOp: 15}, Off: reports.RunCost{NsPerOp: 5}},
	}}
	if got := a.Ratio(); math.Abs(got-1.03) > 1e-12 {
		t.Errorf("ratio %g, want 1.03", got)
	}
}
