// Package nearfilter takes vectors out of changes that are nearly what was
// published before: the delta check of a change data capture pipeline, in
// WebAssembly (package delta).
//
// A record whose vector moved by no more than the threshold keeps the published
// one, and only its payload is written. So payloads in the target are exact
// always, and vectors are within the threshold of the source's; a resync makes
// them exact too.
package nearfilter

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/nexuscore-labs/nexus/components/delta"
	"github.com/nexuscore-labs/nexus/systems/cdc/sink"
)

// Stats are a filter's counters.
type Stats struct {
	Changed atomic.Uint64 // vectors published: they moved far enough
	Unknown atomic.Uint64 // vectors published: nothing was known of the record
	Kept    atomic.Uint64 // vectors not published
	Invalid atomic.Uint64 // vectors passed on that are not finite, for the target to reject
	Other   atomic.Uint64 // deletions, and vectors of another length
}

// Filter holds one tenant's published vectors. One goroutine uses Apply;
// Forget may be called by others.
type Filter struct {
	checker delta.Checker
	o       delta.Options
	stats   Stats

	mu     sync.Mutex // guards forgotten
	forget []delta.Key

	keys     []delta.Key
	vectors  []float32
	at       []int // of keys, in the batch
	verdicts []delta.Verdict
}

// New makes a filter over a checker with the given options; the checker is its own.
func New(checker delta.Checker, o delta.Options) *Filter {
	return &Filter{checker: checker, o: o, verdicts: make([]delta.Verdict, o.Batch())}
}

// Stats returns the live counters.
func (f *Filter) Stats() *Stats { return &f.stats }

// KeyOf is the checker's key of a record.
func KeyOf(c sink.Change) delta.Key {
	sum := sha256.Sum256([]byte(c.Collection + "\x00" + c.Key))
	return delta.Key{High: binary.BigEndian.Uint64(sum[:]), Low: binary.BigEndian.Uint64(sum[8:])}
}

// Forget makes the record unknown: its change never reached the target. It is
// what sink.Options.OnDeadLetter wants.
func (f *Filter) Forget(c sink.Change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forget = append(f.forget, KeyOf(c))
}

// Apply marks in place the changes that keep the vector. When the checker fails,
// the vectors that it was asked about are published.
func (f *Filter) Apply(changes []sink.Change, threshold float32) error {
	f.mu.Lock()
	forget := f.forget
	f.forget = nil
	f.mu.Unlock()
	errs := []error{f.forgetAll(forget)}
	for i := range changes {
		c := &changes[i]
		if c.Delete || len(c.Vector) != f.o.Dim {
			// What waits must be judged before, or a later deletion would be forgotten by it.
			errs = append(errs, f.judge(changes, threshold), f.forgetAll([]delta.Key{KeyOf(*c)}))
			f.stats.Other.Add(1)
			continue
		}
		f.keys, f.at = append(f.keys, KeyOf(*c)), append(f.at, i)
		f.vectors = append(f.vectors, c.Vector...)
		if len(f.keys) == f.o.Batch() {
			errs = append(errs, f.judge(changes, threshold))
		}
	}
	return errors.Join(append(errs, f.judge(changes, threshold))...)
}

func (f *Filter) forgetAll(keys []delta.Key) error {
	if len(keys) == 0 {
		return nil
	}
	if err := f.checker.Forget(keys); err != nil {
		return fmt.Errorf("forget %d published vectors: %w", len(keys), err)
	}
	return nil
}

// judge asks about what waits.
func (f *Filter) judge(changes []sink.Change, threshold float32) error {
	n := len(f.keys)
	if n == 0 {
		return nil
	}
	err := f.checker.Check(f.keys, f.vectors, threshold, f.verdicts[:n])
	for i, at := range f.at {
		if err != nil {
			f.stats.Unknown.Add(1)
			continue
		}
		switch f.verdicts[i].Decision {
		case delta.Skip:
			changes[at].KeepVector = true
			f.stats.Kept.Add(1)
		case delta.Changed:
			f.stats.Changed.Add(1)
		case delta.Unknown:
			f.stats.Unknown.Add(1)
		case delta.Invalid:
			f.stats.Invalid.Add(1)
		}
	}
	f.keys, f.vectors, f.at = f.keys[:0], f.vectors[:0], f.at[:0]
	if err != nil {
		return fmt.Errorf("compare %d vectors with published ones: %w", n, err)
	}
	return nil
}

// Close ends the checker.
func (f *Filter) Close() error { return f.checker.Close() }
