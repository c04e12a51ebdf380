// Package sink brings changes of records to a target in order, whatever happens
// to the target, to a change or to this process.
//
// # Promises
//
//   - Order: two changes of one key reach the target in the order in which they
//     were put. Of those that wait for the same batch only the last is sent.
//   - Nothing is lost: a change counts as settled when the target took it, or
//     when the dead-letter file durably holds it. The checkpoint names the last
//     position before which all changes are settled; a restart that puts the
//     changes behind it again loses none.
//   - Idempotence: changes carry whole states, so putting one again does no harm
//     beyond showing that state again until its successors follow.
//   - Bounds: at most QueueMax changes wait. Put blocks then, and so does the
//     source: that is the back-pressure.
//   - A target that fails is tried again, with exponential pauses of random
//     length, for as long as it takes. A change that the target refuses for what
//     it is (ErrRejected) is found by halving its batch and put aside.
//
// Resync finds what differs after a loss that is known to have happened.
package sink

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

// Change is the new state of one record, or its deletion.
type Change struct {
	// Position is the change's place in its source. Later changes have the same
	// or higher ones.
	Position   uint64 `json:"position"`
	Collection string `json:"collection"`
	Key        string `json:"key"` // unique in its collection
	Delete     bool   `json:"delete,omitempty"`
	// KeepVector says that the target has a vector that is near enough: only the
	// payload is new. The target rejects it when it has no such record.
	KeepVector bool           `json:"keep_vector,omitempty"`
	Vector     []float32      `json:"vector,omitempty"`
	Payload    map[string]any `json:"payload,omitempty"`
}

// Target takes changes. Apply is called by several goroutines when there are
// several workers, never for one key at a time.
type Target interface {
	// Apply carries out changes of different keys, in any order, and returns
	// when they are durable. When it fails some may have been carried out; it
	// is called again with all of them. An error that is ErrRejected says that
	// trying again is useless.
	Apply(ctx context.Context, changes []Change) error
}

var (
	// ErrRejected is wrapped by errors of a target that come from the change.
	ErrRejected = errors.New("sink: the target rejects the change")
	// ErrClosed says that the sink was closed.
	ErrClosed = errors.New("sink: closed")
)

// Options of a sink. Zero fields have defaults.
type Options struct {
	BatchMax int // changes of one Apply; default 256
	QueueMax int // changes that wait; default 8192
	Workers  int // Applies at a time; default 1
	// Linger is how long a batch waits for more; default 0: what is there is sent.
	Linger time.Duration
	// PauseMin and PauseMax bound the pauses between tries; default 10 ms and 2 s.
	PauseMin, PauseMax time.Duration
	// AttemptMax bounds one Apply; default 10 s.
	AttemptMax time.Duration
	// CheckpointFile is where the position is kept; empty: nowhere.
	CheckpointFile string
	// CheckpointEvery is how often; default 100 ms.
	CheckpointEvery time.Duration
	// DeadLetterFile is where rejected changes go; needed.
	DeadLetterFile string
	// OnDeadLetter, if set, hears of each change that was put aside. It is called
	// by workers and must not wait for the sink.
	OnDeadLetter func(Change)
}

func (o Options) withDefaults() (Options, error) {
	set := func(v *int, to int) {
		if *v == 0 {
			*v = to
		}
	}
	set(&o.BatchMax, 256)
	set(&o.QueueMax, 8192)
	set(&o.Workers, 1)
	for _, d := range []struct {
		v  *time.Duration
		to time.Duration
	}{{&o.PauseMin, 10 * time.Millisecond}, {&o.PauseMax, 2 * time.Second}, {&o.AttemptMax, 10 * time.Second}, {&o.CheckpointEvery, 100 * time.Millisecond}} {
		if *d.v == 0 {
			*d.v = d.to
		}
	}
	if o.BatchMax < 1 || o.QueueMax < 1 || o.Workers < 1 || o.Workers > 64 || o.Linger < 0 || o.PauseMin < 0 || o.PauseMax < o.PauseMin || o.AttemptMax < 0 || o.CheckpointEvery < 0 {
		return o, fmt.Errorf("sink: options %+v out of range", o)
	}
	if o.DeadLetterFile == "" {
		return o, errors.New("sink: a file for rejected changes is needed, or they would be lost")
	}
	return o, nil
}

// Stats are a sink's counters.
type Stats struct {
	Put         atomic.Uint64 // changes taken
	Applied     atomic.Uint64 // changes that the target took
	Superseded  atomic.Uint64 // changes not sent, since a later one of the key was in the same batch
	Batches     atomic.Uint64 // Applies that succeeded
	Retries     atomic.Uint64 // Applies that failed and were tried again
	DeadLetters atomic.Uint64 // changes put aside
	Blocked     atomic.Uint64 // puts that had to wait for room
	Checkpoints atomic.Uint64 // positions written
}

// Sink is for concurrent use; the order of changes of one key is that in which
// Put was entered, so one goroutine should put them.
type Sink struct {
	o       Options
	target  Target
	stats   Stats
	letters *deadLetters
	seed    maphash.Seed

	queues  []chan queued
	workers sync.WaitGroup
	keeper  sync.WaitGroup
	stop    context.CancelFunc // ends tries and pauses
	running context.Context

	// order is held while a change gets its ticket and its place in a queue.
	order   sync.Mutex
	closed  bool
	watches map[*Watch]struct{}
	tickets tickets
	failure atomic.Pointer[error] // of the checkpoint, the last one
	ending  chan struct{}         // Close began: nobody waits for room any more
	once    sync.Once
	closing chan struct{} // workers ended: the last checkpoint can be written
}

// queued is a change on its way.
type queued struct {
	Change
	ticket uint64
}

// New starts a sink.
func New(target Target, o Options) (*Sink, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	letters, err := openDeadLetters(o.DeadLetterFile)
	if err != nil {
		return nil, err
	}
	s := &Sink{o: o, target: target, letters: letters, seed: maphash.MakeSeed(), watches: map[*Watch]struct{}{}, ending: make(chan struct{}), closing: make(chan struct{})}
	s.tickets.news = make(chan struct{})
	s.running, s.stop = context.WithCancel(context.Background())
	for range o.Workers {
		queue := make(chan queued, max(1, o.QueueMax/o.Workers))
		s.queues = append(s.queues, queue)
		s.workers.Go(func() { s.work(queue) })
	}
	if o.CheckpointFile != "" {
		s.keeper.Go(s.keepCheckpoint)
	}
	return s, nil
}

// Stats returns the live counters.
func (s *Sink) Stats() *Stats { return &s.stats }

// Put takes a change; it blocks while there is no room. When ctx ends first the
// change was not taken. Errors: ctx's, ErrClosed.
func (s *Sink) Put(ctx context.Context, c Change) error {
	_, err := s.put(ctx, c, nil)
	return err
}

// put takes the change unless the watch has seen its key.
func (s *Sink) put(ctx context.Context, c Change, unless *Watch) (taken bool, err error) {
	queue := s.queues[s.partition(c)]
	s.order.Lock()
	defer s.order.Unlock()
	if s.closed {
		return false, ErrClosed
	}
	name := keyOf(c)
	if unless != nil {
		if _, seen := unless.keys[name]; seen {
			return false, nil
		}
	}
	q := queued{c, s.tickets.next(c.Position)}
	select {
	case queue <- q:
	default:
		s.stats.Blocked.Add(1)
		select {
		case queue <- q:
		case <-ctx.Done():
			s.tickets.giveBack()
			return false, ctx.Err()
		case <-s.ending:
			s.tickets.giveBack()
			return false, ErrClosed
		}
	}
	s.stats.Put.Add(1)
	if unless == nil {
		for w := range s.watches {
			w.keys[name] = struct{}{}
		}
	}
	return true, nil
}

func keyOf(c Change) string { return c.Collection + "\x00" + c.Key }

func (s *Sink) partition(c Change) int {
	if len(s.queues) == 1 {
		return 0
	}
	return int(maphash.String(s.seed, keyOf(c)) % uint64(len(s.queues)))
}

// Flush returns when all changes that were put before it are settled.
func (s *Sink) Flush(ctx context.Context) error {
	until := s.tickets.last()
	for {
		settled, news := s.tickets.state()
		if settled >= until {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.running.Done():
			return ErrClosed
		}
	}
}

// Position is the last one of which, and before which, all changes are settled.
func (s *Sink) Position() uint64 { return s.tickets.position() }

// Close settles what was put, for as long as ctx lasts, and writes the last
// checkpoint. What was not settled is behind the checkpoint.
func (s *Sink) Close(ctx context.Context) error {
	s.once.Do(func() { close(s.ending) })
	s.order.Lock()
	if s.closed {
		s.order.Unlock()
		return ErrClosed
	}
	s.closed = true
	for _, queue := range s.queues {
		close(queue)
	}
	s.order.Unlock()
	done := make(chan struct{})
	go func() { s.workers.Wait(); close(done) }()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = fmt.Errorf("sink: closed before everything was settled: %w", ctx.Err())
	}
	s.stop()
	<-done
	close(s.closing)
	s.keeper.Wait()
	return errors.Join(err, s.checkpointError(), s.letters.close())
}
