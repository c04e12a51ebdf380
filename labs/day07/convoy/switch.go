package convoy

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// SwitchMethod is how two tasks on one CPU hand it to each other.
type SwitchMethod string

const (
	// YieldFIFO is sched_yield under SCHED_FIFO: the least a switch can cost,
	// because the scheduler has nothing to weigh.
	YieldFIFO SwitchMethod = "sched_yield_fifo"
	// YieldFair is sched_yield under the normal policy.
	YieldFair SwitchMethod = "sched_yield"
	// Futex wakes the other and sleeps, futex(2).
	Futex SwitchMethod = "futex"
	// Pipe writes a byte to the other and waits for one.
	Pipe SwitchMethod = "pipe"
)

// SwitchMethods are all of them.
var SwitchMethods = []SwitchMethod{YieldFIFO, YieldFair, Futex, Pipe}

// Space says whether the two tasks share an address space.
type Space string

const (
	Threads   Space = "threads"   // one address space
	Processes Space = "processes" // two, so every switch changes page tables
)

// SwitchRateOptions size SwitchRate.
type SwitchRateOptions struct {
	Rounds int
	Window time.Duration
	CPU    int // to pin both to; -1 is the last that the process may use
}

// QuickSwitchRate is the size of the lab's quick mode.
func QuickSwitchRate() SwitchRateOptions {
	return SwitchRateOptions{Rounds: 2, Window: 40 * time.Millisecond, CPU: -1}
}

// FullSwitchRate is the size of the lab's full mode.
func FullSwitchRate() SwitchRateOptions {
	return SwitchRateOptions{Rounds: 10, Window: 80 * time.Millisecond, CPU: -1}
}

// switchWindowMax keeps a pair under SCHED_FIFO from starving its CPU for long.
const switchWindowMax = 500 * time.Millisecond

// SwitchPoint is one method and space.
type SwitchPoint struct {
	Method       SwitchMethod
	Space        Space
	SwitchesPerS []float64 // per round, as the kernel counted them for the two tasks
	Err          error     // wraps ErrNotMeasurable where the machine refuses the method
}

// SwitchRateResult has a point for every method and space.
type SwitchRateResult struct {
	CPU    int
	Points []SwitchPoint
}

// Best returns the point with the highest single rate in one space; nil if none
// was measured.
func (r SwitchRateResult) Best(space Space) *SwitchPoint {
	var best *SwitchPoint
	for i := range r.Points {
		p := &r.Points[i]
		if p.Space == space && p.Max() > 0 && (best == nil || p.Max() > best.Max()) {
			best = p
		}
	}
	return best
}

// Max returns the highest rate of all rounds; 0 if there is none.
func (p *SwitchPoint) Max() float64 {
	var m float64
	for _, rate := range p.SwitchesPerS {
		m = max(m, rate)
	}
	return m
}

// SwitchRate measures how many context switches a second one CPU makes at best:
// two tasks, pinned to it, that do nothing but hand it to each other. Rates are
// what the kernel counted in /proc/<pid>/status, not what was asked for.
func SwitchRate(ctx context.Context, o SwitchRateOptions) (SwitchRateResult, error) {
	if o.Rounds < 1 || o.Window <= 0 || o.Window > switchWindowMax {
		return SwitchRateResult{}, fmt.Errorf("switch rate: %d rounds of %v", o.Rounds, o.Window)
	}
	cpu, err := chooseCPU(o.CPU)
	if err != nil {
		return SwitchRateResult{}, err
	}
	result := SwitchRateResult{CPU: cpu}
	for _, method := range SwitchMethods {
		for _, space := range []Space{Threads, Processes} {
			result.Points = append(result.Points, SwitchPoint{Method: method, Space: space})
		}
	}
	for range o.Rounds {
		for i := range result.Points {
			if err := ctx.Err(); err != nil {
				return result, err
			}
			if err := result.Points[i].measure(cpu, o.Window); err != nil {
				return result, err
			}
		}
	}
	return result, nil
}

func (p *SwitchPoint) measure(cpu int, length time.Duration) error {
	if p.Err != nil {
		return nil
	}
	rate, err := pairRate(p.Method, p.Space, cpu, length)
	if errors.Is(err, ErrNotMeasurable) {
		p.Err = err
		return nil
	}
	if err != nil {
		return fmt.Errorf("switch between %s by %s: %w", p.Space, p.Method, err)
	}
	p.SwitchesPerS = append(p.SwitchesPerS, rate)
	return nil
}
