package scenarios

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nexuscore-labs/nexus/bpf"
	"github.com/nexuscore-labs/nexus/machine"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/scenarios/toggle"
)

// How a trial that costs the probes is divided. Noise within a slice hardly depends
// on its length (from 2 to 50 ms), so slices are short and many; attaching takes
// longer, and so do the slices around it.
const (
	switchedShare  = 0.6
	accountedShare = 0.15
	attachedSlice  = 40 * time.Millisecond
	attachedSettle = 10 * time.Millisecond
	costSlice      = 4 * time.Millisecond
	costSettle     = time.Millisecond
	// Reading the accounts takes a system call for each program, which the
	// programs see too: slices long enough for it not to matter.
	accountedSlice = 24 * time.Millisecond
)

// costing finds out what the probes cost, while the trial's load goes on.
type costing struct {
	t      *trialRun
	cancel context.CancelFunc
	done   chan struct{}
	began  time.Time
	cost   reports.ProbeCost
	err    error
}

// startCosting begins; the probes must not be in use. Call finish.
func startCosting(t *trialRun) (*costing, error) {
	if err := t.probes.Start(t.group.ID); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &costing{t: t, cancel: cancel, done: make(chan struct{}), began: time.Now(),
		cost: reports.ProbeCost{SliceNs: costSlice.Nanoseconds(), SettleNs: costSettle.Nanoseconds()}}
	go func() {
		defer close(c.done)
		c.err = c.phases(ctx)
	}()
	return c, nil
}

// finish ends what still goes on and puts the outcome into the trial. What the
// probes counted meanwhile is of slices, and dropped.
func (c *costing) finish() error {
	c.cancel()
	<-c.done
	_, err := c.t.probes.Stop()
	if err = errors.Join(c.err, err); err != nil {
		return fmt.Errorf("find out what the probes cost: %w", err)
	}
	c.t.trial.ProbeCost = &c.cost
	return nil
}

func (c *costing) phases(ctx context.Context) error {
	length := c.t.slot.point.Duration
	share := func(s float64) time.Duration { return time.Duration(s * float64(length)) }
	plan := toggle.Plan{Slice: costSlice, Settle: costSettle, Length: share(switchedShare), Seed: c.t.slot.seed}
	blocks, err := toggle.Run(ctx, plan, toggle.Switch{Throw: c.throw, Read: c.read})
	if err != nil {
		return err
	}
	c.cost.Switched = toggle.Pairs(blocks)
	if off := toggle.Sum(blocks, false); off.Ns > 0 {
		c.cost.CPUShare = float64(off.CPUNs) / float64(off.Ns)
	}
	plan.Length, plan.Slice = share(accountedShare), accountedSlice
	if err := c.account(ctx, plan); err != nil {
		return err
	}
	plan = toggle.Plan{Slice: attachedSlice, Settle: attachedSettle, Length: share(1 - switchedShare - accountedShare), Seed: plan.Seed}
	return c.attached(ctx, plan)
}

func (c *costing) throw(on bool) error {
	if on {
		return c.t.probes.Resume()
	}
	return c.t.probes.Pause()
}

func (c *costing) read() (toggle.Reading, error) {
	answers := c.t.heard.answers.Load()
	cpu, err := machine.ProcessClockNs(c.t.child.cmd.Process.Pid)
	return toggle.Reading{AtNs: time.Since(c.began).Nanoseconds(), Ops: answers, CPUNs: cpu}, err
}

// attached compares probes that are off with probes that are not there.
func (c *costing) attached(ctx context.Context, plan toggle.Plan) error {
	if err := c.t.probes.Pause(); err != nil {
		return err
	}
	there := true
	throw := func(on bool) error {
		if on == there {
			return nil
		}
		there = on
		if on {
			return c.t.probes.Reattach()
		}
		return c.t.probes.Detach()
	}
	blocks, err := toggle.Run(ctx, plan, toggle.Switch{Throw: throw, Read: c.read})
	c.cost.Attached = toggle.Pairs(blocks)
	return errors.Join(err, throw(true))
}

// account lets the kernel time the programs while the switch is thrown.
func (c *costing) account(ctx context.Context, plan toggle.Plan) (err error) {
	closer, err := bpf.KeepAccounts()
	if err != nil {
		return nil // before kernel 5.8, or without the right: not measured
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	books := newBooks(c)
	blocks, err := toggle.Run(ctx, plan, toggle.Switch{Throw: books.throw, Read: books.read})
	if err != nil {
		return err
	}
	c.cost.Accounted = books.balance(toggle.Sum(blocks, false))
	return nil
}

// books hold what the programs ran in each position of the switch.
type books struct {
	*costing
	on      bool
	open    []bpf.Account // at the slice's begin; nil outside of one
	opsOpen uint64
	sums    [2][]bpf.Account // off, on
	ops     [2]uint64
}

func newBooks(c *costing) *books { return &books{costing: c} }

func (b *books) throw(on bool) error {
	b.on, b.open = on, nil
	return b.costing.throw(on)
}

// read opens the slice's books or closes them. The reading of the accounts takes
// time, in which programs run: operations are read right beside it.
func (b *books) read() (toggle.Reading, error) {
	accounts, err := b.t.probes.Accounts()
	if err != nil {
		return toggle.Reading{}, err
	}
	reading, err := b.costing.read()
	if b.open == nil {
		b.open, b.opsOpen = accounts, reading.Ops
		return reading, err
	}
	side := 0
	if b.on {
		side = 1
	}
	if b.sums[side] == nil {
		b.sums[side] = make([]bpf.Account, len(accounts))
	}
	for i, a := range accounts {
		sum := &b.sums[side][i]
		sum.Probe, sum.Program = a.Probe, a.Program
		sum.Runs += a.Runs - b.open[i].Runs
		sum.RunNs += a.RunNs - b.open[i].RunNs
	}
	b.ops[side] += reading.Ops - b.opsOpen
	return reading, err
}

// balance divides by the operations; nil when there were none.
func (b *books) balance(off toggle.Slice) *reports.AccountedCost {
	if b.ops[0] == 0 || b.ops[1] == 0 || off.Ops == 0 {
		return nil
	}
	out := &reports.AccountedCost{CPUNsPerOp: float64(off.CPUNs) / float64(off.Ops)}
	cost := func(side, i int) reports.RunCost {
		a, ops := b.sums[side][i], float64(b.ops[side])
		return reports.RunCost{RunsPerOp: float64(a.Runs) / ops, NsPerOp: float64(a.RunNs) / ops}
	}
	for i, a := range b.sums[0] {
		out.Programs = append(out.Programs, reports.ProgramAccount{Probe: a.Probe, Program: a.Program, On: cost(1, i), Off: cost(0, i)})
	}
	return out
}
