// Package toggle measures what a switch costs by throwing it to and fro in short
// slices of one steady run. Neighbouring slices share the state of the machine, so
// hundreds of pairs of them resolve what whole trials, with their drift, cannot.
package toggle

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// slicesPerBlock: on-off-off-on or off-on-on-off, so that a drift that is linear
// over the block falls out.
const slicesPerBlock = 4

// Plan says how to slice.
type Plan struct {
	Slice  time.Duration // measured part of a slice
	Settle time.Duration // passed over after the switch was thrown
	Length time.Duration // of the whole; a block that is not complete by then is dropped
	Seed   uint64        // draws for each block which position comes first
}

// Reading is what has happened so far: its differences are a slice's.
type Reading struct {
	AtNs  int64  // monotonic clock
	Ops   uint64 // operations done
	CPUNs int64  // CPU time of what does them
}

// Slice is one stretch with the switch in one position.
type Slice struct {
	On    bool
	Ns    int64
	Ops   uint64
	CPUNs int64
}

// Block is four slices, two with the switch on and two with it off.
type Block [slicesPerBlock]Slice

// Switch is what is thrown, and what is read on the way.
type Switch struct {
	Throw func(on bool) error
	Read  func() (Reading, error)
}

// Run throws the switch for the plan's length, or until ctx ends, and returns the
// whole blocks in the order of time. It leaves the switch in either position.
func Run(ctx context.Context, plan Plan, s Switch) ([]Block, error) {
	ctx, cancel := context.WithTimeout(ctx, plan.Length)
	defer cancel()
	random := rand.New(rand.NewPCG(plan.Seed, 0x746f67676c65))
	var out []Block
	for {
		first := random.IntN(2) == 0
		var block Block
		for i := range block {
			outer := i == 0 || i == slicesPerBlock-1
			slice, err := one(ctx, plan, s, outer == first)
			if err != nil {
				return nil, err
			}
			if ctx.Err() != nil {
				return out, nil
			}
			block[i] = slice
		}
		out = append(out, block)
	}
}

func one(ctx context.Context, plan Plan, s Switch, on bool) (Slice, error) {
	if err := s.Throw(on); err != nil {
		return Slice{}, fmt.Errorf("throw the switch: %w", err)
	}
	sleep(ctx, plan.Settle)
	before, err := s.Read()
	if err != nil {
		return Slice{}, fmt.Errorf("read before a slice: %w", err)
	}
	sleep(ctx, plan.Slice)
	after, err := s.Read()
	if err != nil {
		return Slice{}, fmt.Errorf("read after a slice: %w", err)
	}
	return Slice{On: on, Ns: after.AtNs - before.AtNs, Ops: after.Ops - before.Ops, CPUNs: after.CPUNs - before.CPUNs}, nil
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Sum adds up the slices of one position over all blocks.
func Sum(blocks []Block, on bool) Slice {
	sum := Slice{On: on}
	for i := range blocks {
		for _, s := range blocks[i] {
			if s.On == on {
				sum.Ns += s.Ns
				sum.Ops += s.Ops
				sum.CPUNs += s.CPUNs
			}
		}
	}
	return sum
}
