package day20

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/systems/cdc/sink"
)

// visibleIn bounds the wait for a change to be in the vector store.
const visibleIn = 15 * time.Second

var errNotVisible = errors.New("the change did not reach the vector store in time")

// visible knows which changes the vector store shows.
type visible struct {
	mu      sync.Mutex
	waiting map[string][]waiter // by point
	times   []float64           // from commit to visible, ns
	early   int                 // visible before the write returned to its caller
}

type waiter struct {
	n         uint64
	gone      bool      // waits for a deletion
	committed time.Time // when the write returned
	kernelNs  int64     // when the store committed it, where the probe tells
	done      chan struct{}
}

func newVisible() *visible { return &visible{waiting: map[string][]waiter{}} }

// expect is called before the write, so that no change comes before who waits for
// it; committed when the write has returned.
func (v *visible) expect(point string, c change) (committed func(), wait func(ctx context.Context) error) {
	w := waiter{n: c.n, gone: c.op == opDelete, done: make(chan struct{})}
	v.mu.Lock()
	v.waiting[point] = append(v.waiting[point], w)
	v.mu.Unlock()
	committed = func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		for i := range v.waiting[point] {
			if v.waiting[point][i].done == w.done {
				v.waiting[point][i].committed = time.Now()
			}
		}
	}
	wait = func(ctx context.Context) error {
		select {
		case <-w.done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(visibleIn):
			return errNotVisible
		}
	}
	return committed, wait
}

// saw hears of changes that the vector store shows, or that the judge found to be
// near enough to what it shows. A later change of a record stands for those before.
func (v *visible) saw(changes []sink.Change) {
	now := time.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, c := range changes {
		n, _ := c.Payload["n"].(int64)
		if f, isFloat := c.Payload["n"].(float64); isFloat { // through JSON
			n = int64(f)
		}
		left := v.waiting[c.Key][:0]
		for _, w := range v.waiting[c.Key] {
			if (w.gone && c.Delete) || (!c.Delete && uint64(n) >= w.n) {
				v.note(w, now)
				close(w.done)
				continue
			}
			left = append(left, w)
		}
		if len(left) == 0 {
			delete(v.waiting, c.Key)
		} else {
			v.waiting[c.Key] = left
		}
	}
}

// note takes the time of a change that has become visible: from its commit where
// the probe tells when that was, else from the return of the write, which is later.
func (v *visible) note(w waiter, now time.Time) {
	switch {
	case w.kernelNs != 0:
		v.times = append(v.times, float64(monotonicNs()-w.kernelNs))
	case w.committed.IsZero():
		v.early++
		v.times = append(v.times, 0)
	default:
		v.times = append(v.times, float64(now.Sub(w.committed)))
	}
}

// captured hears when the store committed a change.
func (v *visible) captured(c sink.Change, committedNs uint64) {
	n, _ := c.Payload["n"].(int64)
	v.mu.Lock()
	defer v.mu.Unlock()
	for i, w := range v.waiting[c.Key] {
		if w.kernelNs == 0 && ((w.gone && c.Delete) || (!w.gone && !c.Delete && uint64(n) == w.n)) {
			v.waiting[c.Key][i].kernelNs = int64(committedNs)
		}
	}
}

// monotonicNs reads the clock that the probe reads.
func monotonicNs() int64 {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // can't fail with these arguments
	return now.Nano()
}

// freshness returns the times from commit to visible, in ns.
func (v *visible) freshness() []float64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]float64(nil), v.times...)
}
