package scenarios

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/nexuscore-labs/nexus/machine"
	"github.com/nexuscore-labs/nexus/reports"
)

// A pair is the trial of a contender and the one of its reference build, run at
// the same time on the same CPUs: whatever disturbs the machine disturbs both
// within the same milliseconds, and cancels in their ratio ("duet benchmarking",
// Bulej et al., ICPE 2020). Their numbers say nothing alone: each has half a CPU.

// twin finds the slot that runs together with s.
func (r *runner) twin(s slot) (slot, bool) {
	if r.options.Reference == "" {
		return slot{}, false
	}
	for _, other := range r.slots {
		if other.contender == s.contender && other.point == s.point && other.round == s.round && other.reference != s.reference && !other.costing && !s.costing {
			return other, true
		}
	}
	return slot{}, false
}

// copyBuilds serves both builds from fresh copies with names of equal length.
// Where the kernel put a binary's pages, and how long its path is, moved the
// ratio of two equal builds by up to 2% here: so that a further run doesn't
// repeat the accident of the first, each run has its own.
func (b *bench) copyBuilds() (discard func() error, err error) {
	dir, err := machine.NewTempRoot()
	if err != nil {
		return nil, environmentError("set TMPDIR to a folder on a disk", "%w", err)
	}
	discard = func() error { return os.RemoveAll(dir) }
	for _, build := range []struct {
		path *string
		name string
	}{{&b.self, "build-a"}, {&b.reference, "build-b"}} {
		copied := filepath.Join(dir, build.name)
		if err := copyProgram(*build.path, copied); err != nil {
			return nil, errors.Join(environmentError("free space or set TMPDIR to a disk with room", "copy a build: %w", err), discard())
		}
		*build.path = copied
	}
	return discard, nil
}

func copyProgram(from, to string) (err error) {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Close())
}

// meeting holds the loads of a pair back until both contenders are ready.
type meeting struct {
	mu      sync.Mutex
	waiting int
	open    chan struct{}
	pids    []int // of those that came: neither is a disturbance of the other
}

func newMeeting() *meeting { return &meeting{waiting: 2, open: make(chan struct{})} }

// arrive says that one side is ready, or will never be.
func (m *meeting) arrive() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.waiting--; m.waiting == 0 {
		close(m.open)
	}
}

func (m *meeting) join(pid int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pids = append(m.pids, pid)
}

func (m *meeting) processes() []int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.pids)
}

func (m *meeting) wait(ctx context.Context) error {
	select {
	case <-m.open:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// runPair runs both trials of a pair, both again while one is invalid.
func (r *runner) runPair(ctx context.Context, a, b slot) error {
	slots := [2]slot{a, b}
	var records [2]slotRecord
	for i, s := range slots {
		records[i] = slotRecord{Contender: s.contender, Point: pointID(s), Round: s.round}
	}
	for attempt := 0; attempt <= repeatsMax; attempt++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		r.emit(Event{Kind: EventTrialStarted, Done: r.done, Total: len(r.slots), Contender: a.contender, Point: a.point.ID, Round: a.round, Attempt: attempt, ETA: r.eta()})
		began := time.Now()
		trials, err := r.together(ctx, slots)
		if err != nil {
			return err
		}
		r.order += 2
		r.ran += 2
		r.spent += max(0, time.Since(began)-a.warmup-a.point.Duration)
		again := ""
		for i := range records {
			records[i].Attempts = append(records[i].Attempts, trials[i])
			if trials[i].Status == trialInvalid {
				again = trials[i].Reason
			}
		}
		if again == "" || attempt == repeatsMax || !r.mayRepeat() {
			break
		}
		r.again++
		r.emit(Event{Kind: EventNote, Contender: a.contender, Point: a.point.ID, Message: fmt.Sprintf("%s and its twin are repeated: %s", a, again)})
	}
	for i, s := range slots {
		if err := r.folder.writeJSON(trialFile(s), records[i]); err != nil {
			return err
		}
		r.records[s.index] = records[i]
		r.done++
	}
	last := records[0].Attempts[len(records[0].Attempts)-1]
	r.emit(Event{Kind: EventTrialFinished, Done: r.done, Total: len(r.slots), Contender: a.contender, Point: a.point.ID, Round: a.round, Trial: &last, ETA: r.eta()})
	r.publishGates(b)
	return nil
}

// together makes one attempt of both.
func (r *runner) together(ctx context.Context, slots [2]slot) (trials [2]reports.Trial, err error) {
	var errs [2]error
	var running sync.WaitGroup
	both := newMeeting()
	for i := range slots {
		running.Go(func() { trials[i], errs[i] = r.bench.attemptAt(ctx, slots[i], r.order+i, both) })
	}
	running.Wait()
	return trials, errors.Join(errs[:]...)
}
