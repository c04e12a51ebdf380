// Package surrealsource turns what the probe publishes of a SurrealDB into
// changes for a sink: it reads key and value in the engine's own layout, asks the
// store where the layout is not known or the value was cut, leaves out what moved
// too little to matter, and says when something was lost.
//
// Order: changes of one key go to the sink in the order in which the engine
// committed them. The probe may hand over two changes of one key the wrong way
// round, when two threads wrote it one after the other on two CPUs; the engine's
// sequence number tells, and the older of the two is left out.
package surrealsource

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nexuscore-labs/nexus/bpf/rocksprobe"
	"github.com/nexuscore-labs/nexus/components/delta"
	"github.com/nexuscore-labs/nexus/systems/cdc/sink"
	"github.com/nexuscore-labs/nexus/systems/surreal"
)

// Probe is what the source needs of a rocksprobe.Probe.
type Probe interface {
	Read(c *rocksprobe.Change, deadline time.Time) error
	Waiting() bool
	Counters() (rocksprobe.Counters, error)
}

// Options of New.
type Options struct {
	Probe Probe
	// Route says what a revision means: rocksprobe.Routes.Lookup.
	Route func(revision uint32) (rocksprobe.Route, error)
	// Put hands a change on: sink.Sink.Put.
	Put func(ctx context.Context, c sink.Change) error
	// Reread reads a record from the store, as an upsert or a deletion, where its
	// value can't be read from the batch.
	Reread func(ctx context.Context, collection, point string) (sink.Change, error)
	// Checker makes the judge of which changes matter, per collection and length
	// of vectors; nil: all do.
	Checker func(collection string, dim int) (delta.Checker, error)
	// Captured, if set, hears of every change before it is judged, with the time of
	// its commit by CLOCK_MONOTONIC.
	Captured func(c sink.Change, committedNs uint64)
	// Skipped, if set, hears of changes that don't matter.
	Skipped func(c sink.Change)
	// Lost hears that changes are missing; it must not block.
	Lost func()
	// Vector is the field with the record's vector, Payload those that go along.
	Vector  string
	Payload []string
}

// Stats are a source's counters.
type Stats struct {
	Changes   atomic.Uint64 // that the probe published
	Put       atomic.Uint64 // handed on
	Deletes   atomic.Uint64 // of these, deletions
	Skipped   atomic.Uint64 // that moved too little
	Stale     atomic.Uint64 // that came after a later one of the same key
	Reread    atomic.Uint64 // whose record was read from the store
	Unrouted  atomic.Uint64 // whose route is unknown by now
	Refused   atomic.Uint64 // whose id is of a kind that is not carried
	Losses    atomic.Uint64 // times that something was found missing
	CheckedNs atomic.Uint64 // in the delta check
}

// Source is run by one goroutine; Stats and Forget are for any.
type Source struct {
	o        Options
	stats    Stats
	routes   map[uint32]rocksprobe.Route
	newest   newest
	position uint64
	lost     uint64 // of the probe's counters, so far

	checkers map[checkerKey]delta.Checker
	pending  []sink.Change
	theta    float32
	vectors  []float32
	keys     []delta.Key
	verdicts []delta.Verdict

	mu     sync.Mutex
	forget []sink.Change
}

type checkerKey struct {
	collection string
	dim        int
}

// New makes a source.
func New(o Options) (*Source, error) {
	if o.Probe == nil || o.Route == nil || o.Put == nil || o.Reread == nil || o.Lost == nil || o.Vector == "" {
		return nil, errors.New("surrealsource: probe, route, put, reread, lost and the vector's field are needed")
	}
	return &Source{o: o, routes: map[uint32]rocksprobe.Route{}, checkers: map[checkerKey]delta.Checker{}}, nil
}

// Stats returns the counters.
func (s *Source) Stats() *Stats { return &s.stats }

// Forget makes the judge forget what was published of a point: something else
// has changed it.
func (s *Source) Forget(collection, point string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget = append(s.forget, sink.Change{Collection: collection, Key: point})
}

const (
	// slice is how long the source sleeps at most before it looks for losses.
	slice = 50 * time.Millisecond
	// batchMax bounds the changes between two looks for losses.
	batchMax = 256
)

// Run hands changes on until ctx ends or the probe is closed.
func (s *Source) Run(ctx context.Context) error {
	defer s.close()
	for ctx.Err() == nil {
		err := s.turn(ctx)
		if errors.Is(err, os.ErrClosed) || ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("capture changes of SurrealDB: %w", err)
		}
	}
	return nil
}

// turn takes what is there and hands it on.
func (s *Source) turn(ctx context.Context) error {
	var c rocksprobe.Change
	err := s.o.Probe.Read(&c, time.Now().Add(slice))
	for n := 0; err == nil; n++ {
		if err := s.take(ctx, &c); err != nil {
			return err
		}
		if n == batchMax || !s.o.Probe.Waiting() {
			break
		}
		err = s.o.Probe.Read(&c, time.Now().Add(slice))
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	if err := s.flush(ctx); err != nil {
		return err
	}
	return s.lookForLosses()
}

func (s *Source) lookForLosses() error {
	counters, err := s.o.Probe.Counters()
	if err != nil {
		return err
	}
	if counters.Lost() > s.lost {
		s.lost = counters.Lost()
		s.lose()
	}
	return nil
}

func (s *Source) lose() {
	s.stats.Losses.Add(1)
	s.o.Lost()
}

func (s *Source) take(ctx context.Context, c *rocksprobe.Change) error {
	s.stats.Changes.Add(1)
	switch c.Kind {
	case rocksprobe.Put, rocksprobe.Delete:
	default:
		// SurrealDB uses neither merges nor ranges for records; if it begins to,
		// comparing with the source finds what they did.
		s.lose()
		return nil
	}
	key, err := surreal.ParseKey(c.Key)
	if err != nil {
		s.lose()
		return nil
	}
	route, known := s.route(c.Route)
	if !known {
		s.stats.Unrouted.Add(1)
		return nil
	}
	point, err := PointKey(&key)
	if err != nil {
		s.stats.Refused.Add(1)
		return nil
	}
	if !s.newest.advance(c.Process, c.DB, route.Collection+"\x00"+point, c.Sequence) {
		s.stats.Stale.Add(1)
		return nil
	}
	change, err := s.read(ctx, c, route, point)
	if err != nil {
		return err
	}
	s.position++
	change.Position, change.Collection, change.Key = s.position, route.Collection, point
	if s.o.Captured != nil {
		s.o.Captured(change, c.CommittedNs)
	}
	return s.add(ctx, change, route.Theta)
}

func (s *Source) route(revision uint32) (rocksprobe.Route, bool) {
	if route, known := s.routes[revision]; known {
		return route, true
	}
	route, err := s.o.Route(revision)
	if err != nil {
		return route, false
	}
	if len(s.routes) >= rocksprobe.RoutesMax {
		clear(s.routes)
	}
	s.routes[revision] = route
	return route, true
}

// read makes a change of what was committed. A record without a vector has no
// point.
func (s *Source) read(ctx context.Context, c *rocksprobe.Change, route rocksprobe.Route, point string) (sink.Change, error) {
	if c.Kind == rocksprobe.Delete {
		return sink.Change{Delete: true}, nil
	}
	if !c.Cut {
		vector, found, payload, err := surreal.Project(nil, c.Value, s.o.Vector, s.o.Payload)
		if err == nil {
			return sink.Change{Vector: vector, Payload: payload, Delete: !found}, nil
		}
	}
	s.stats.Reread.Add(1)
	change, err := s.o.Reread(ctx, route.Collection, point)
	if err != nil {
		return change, fmt.Errorf("read %s again: %w", point, err)
	}
	return change, nil
}

// add puts a change behind those that wait for the judge. Neighbours with one
// collection, length and threshold are judged together.
func (s *Source) add(ctx context.Context, c sink.Change, theta float32) error {
	together := len(s.pending) == 0 || (s.pending[0].Collection == c.Collection && len(s.pending[0].Vector) == len(c.Vector) && s.theta == theta)
	if !together || c.Delete || len(s.pending) >= delta.BatchMax {
		if err := s.flush(ctx); err != nil {
			return err
		}
	}
	if c.Delete {
		return s.remove(ctx, c)
	}
	s.theta = theta
	s.pending = append(s.pending, c)
	return nil
}

func (s *Source) remove(ctx context.Context, c sink.Change) error {
	s.stats.Deletes.Add(1)
	if err := s.unlearn(c); err != nil {
		return err
	}
	return s.put(ctx, c)
}

// unlearn forgets a point in the judges of its collection.
func (s *Source) unlearn(c sink.Change) error {
	for key, checker := range s.checkers {
		if key.collection != c.Collection {
			continue
		}
		if err := checker.Forget([]delta.Key{deltaKey(c.Key)}); err != nil {
			return fmt.Errorf("forget %s: %w", c.Key, err)
		}
	}
	return nil
}

func (s *Source) put(ctx context.Context, c sink.Change) error {
	s.stats.Put.Add(1)
	return s.o.Put(ctx, c)
}

// flush judges what waits and hands on what matters, in order.
func (s *Source) flush(ctx context.Context) error {
	if err := s.drainForget(); err != nil {
		return err
	}
	if len(s.pending) == 0 {
		return nil
	}
	checker, err := s.checker(s.pending[0])
	if err != nil {
		return err
	}
	if checker != nil {
		if err := s.judge(checker); err != nil {
			return err
		}
	}
	for i, c := range s.pending {
		if checker != nil && !s.verdicts[i].Decision.Publish() {
			s.stats.Skipped.Add(1)
			if s.o.Skipped != nil {
				s.o.Skipped(c)
			}
			continue
		}
		if err := s.put(ctx, c); err != nil {
			return err
		}
	}
	s.pending = s.pending[:0]
	return nil
}

func (s *Source) judge(checker delta.Checker) error {
	s.vectors, s.keys = s.vectors[:0], s.keys[:0]
	for _, c := range s.pending {
		s.vectors, s.keys = append(s.vectors, c.Vector...), append(s.keys, deltaKey(c.Key))
	}
	if cap(s.verdicts) < len(s.keys) {
		s.verdicts = make([]delta.Verdict, delta.BatchMax)
	}
	s.verdicts = s.verdicts[:len(s.keys)]
	began := time.Now()
	err := checker.Check(s.keys, s.vectors, s.theta, s.verdicts)
	s.stats.CheckedNs.Add(uint64(time.Since(began)))
	if err != nil {
		return fmt.Errorf("judge %d changes: %w", len(s.keys), err)
	}
	return nil
}

// checker returns the judge for a change, nil for none.
func (s *Source) checker(c sink.Change) (delta.Checker, error) {
	if s.o.Checker == nil || len(c.Vector) == 0 || len(c.Vector) > delta.DimMax {
		return nil, nil
	}
	key := checkerKey{c.Collection, len(c.Vector)}
	if checker := s.checkers[key]; checker != nil {
		return checker, nil
	}
	checker, err := s.o.Checker(key.collection, key.dim)
	if err != nil {
		return nil, fmt.Errorf("make the judge of %s: %w", c.Collection, err)
	}
	s.checkers[key] = checker
	return checker, nil
}

func (s *Source) drainForget() error {
	s.mu.Lock()
	forget := s.forget
	s.forget = nil
	s.mu.Unlock()
	for _, c := range forget {
		if err := s.unlearn(c); err != nil {
			return err
		}
	}
	return nil
}

func (s *Source) close() {
	for _, checker := range s.checkers {
		_ = checker.Close() // its memory is all that it has
	}
}
