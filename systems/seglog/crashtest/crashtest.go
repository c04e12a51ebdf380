// Package crashtest tries to make a segment log lose an acknowledged record:
// power cuts at seeded moments and injected I/O errors at every operation on a
// simulated disk, and kill -9 of real processes on the real one. A dumb oracle
// remembers what was submitted and what was acknowledged and compares it with
// what a recovered log holds.
package crashtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
)

// Mode is the kind of crash.
type Mode string

const (
	// PowerCut cuts the power of a simulated disk during a seeded operation.
	PowerCut Mode = "powercut"
	// Errors injects EIO, ENOSPC and short writes, one point for each operation
	// of a workload, and then cuts power.
	Errors Mode = "errors"
	// Kill kills a child process that appends over the real device.
	Kill Mode = "kill"
)

// Options of Run.
type Options struct {
	Mode   Mode
	Seed   uint64
	Points int // crash points; Errors: at most so many of the sweep, 0 means all
	// AckBeforeSync breaks the log on purpose (simulated disk only).
	AckBeforeSync bool
	// FinishOutOfOrder breaks it on purpose: the oldest commit is taken for
	// finished when any is (simulated disk only).
	FinishOutOfOrder bool

	// Kill only: Dir is a folder for the logs; the child is the program Self
	// with SelfArgs and then the arguments of ChildMain.
	Dir      string
	Self     string
	SelfArgs []string
	Env      []string // added to the child's environment

	Progress func(done, total int) // may be nil; called from one goroutine at a time
}

// Counts is what Run saw.
type Counts struct {
	Points   uint64 // crashes
	Checked  uint64 // acknowledged records looked for after recovery
	Lost     uint64 // acknowledged and not found, or found behind a refusal to open
	Phantom  uint64 // found and never submitted
	Wrong    uint64 // found with other content or out of order
	Torn     uint64 // recoveries that cut a torn tail
	Unacked  uint64 // submitted, not acknowledged and yet found: allowed
	Faults   uint64 // injected errors that hit
	Recrash  uint64 // crashes during recovery
	Killed   uint64 // of the points, the process died before power was cut
	Retired  uint64 // segments removed by retention
	Overlaps uint64 // crashes and commit errors with two commits out
	Failures []string
}

const failuresKept = 10

func (c *Counts) add(o Counts) {
	c.Points += o.Points
	c.Checked += o.Checked
	c.Lost += o.Lost
	c.Phantom += o.Phantom
	c.Wrong += o.Wrong
	c.Torn += o.Torn
	c.Unacked += o.Unacked
	c.Faults += o.Faults
	c.Recrash += o.Recrash
	c.Killed += o.Killed
	c.Retired += o.Retired
	c.Overlaps += o.Overlaps
	for _, f := range o.Failures {
		c.note("%s", f)
	}
}

func (c *Counts) note(format string, args ...any) {
	if len(c.Failures) < failuresKept {
		c.Failures = append(c.Failures, fmt.Sprintf(format, args...))
	}
}

// Bad is the number of violations.
func (c *Counts) Bad() uint64 { return c.Lost + c.Phantom + c.Wrong }

// Run tries all points. An error means that points could not be tried;
// violations are counted, not returned.
func Run(ctx context.Context, o Options) (Counts, error) {
	if o.Points < 0 || o.Points > 10_000_000 {
		return Counts{}, fmt.Errorf("crashtest: %d points", o.Points)
	}
	switch o.Mode {
	case PowerCut:
		return parallel(ctx, o, o.Points, powerCut)
	case Errors:
		points := sweep(o)
		return parallel(ctx, o, len(points), func(o Options, i int) (Counts, error) { return errorPoint(o, points[i]) })
	case Kill:
		return killTrials(ctx, o)
	default:
		return Counts{}, fmt.Errorf("crashtest: mode %q: want %s, %s or %s", o.Mode, PowerCut, Errors, Kill)
	}
}

// parallel runs points on all CPUs and adds their counts up.
func parallel(ctx context.Context, o Options, n int, point func(Options, int) (Counts, error)) (Counts, error) {
	var mu sync.Mutex
	var total Counts
	var firstErr error
	var next atomic.Int64
	var wg sync.WaitGroup
	done := 0
	for range min(runtime.GOMAXPROCS(0), max(n, 1)) {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				c, err := point(o, i)
				mu.Lock()
				total.add(c)
				firstErr = errors.Join(firstErr, err)
				done++
				if o.Progress != nil {
					o.Progress(done, n)
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return total, errors.Join(firstErr, ctx.Err())
}

func rngFor(seed uint64, point int, use uint64) *rand.Rand {
	return rand.New(rand.NewPCG(seed^use<<56, uint64(point)))
}
