package vectorstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nexuscore-labs/nexus/systems/seglog"
	"github.com/nexuscore-labs/nexus/systems/vectorstore/vectors"
)

// Options of a store. The zero value works.
type Options struct {
	// SegmentBytes is the size of a file of the log; default 64 MiB.
	SegmentBytes int64
	// SnapshotBytes of log since the last snapshot start the next one; default
	// 256 MiB, negative: only Snapshot makes one.
	SnapshotBytes int64
	// Indexers is how many collections' graphs are built at a time; default 1.
	Indexers int
}

const (
	logTenant      = 1
	logBatchBytes  = 8 << 20
	recordBytesMax = 4 << 20
	// pointsPerRecordBytes is where a long upsert is cut into several records.
	pointsPerRecordBytes = 1 << 20
)

// Store is a folder of collections. All methods may be used concurrently.
type Store struct {
	Changer // changes of points, each durable when it returns

	o     Options
	dev   seglog.Device
	owned *seglog.Dir
	log   *seglog.Log

	mu          sync.RWMutex // guards collections
	collections map[string]*collection
	indexers    sync.WaitGroup
	turns       chan struct{}

	// order lets changes in in the order of the log.
	order   sync.Mutex
	applied uint64
	durable map[uint64]*waiting
	failed  error
	closed  bool

	snapshots snapshotState
	recovery  Recovery
}

// waiting is a durable change that waits for those before it.
type waiting struct {
	op     *op
	result chan applied
}

type applied struct {
	Result
	err error
}

// Recovery says what opening a store found.
type Recovery struct {
	SnapshotSeq uint64 // log position of the snapshot that was loaded; 0: none
	Replayed    uint64 // changes of the log after it
	TornAt      string // where the log ended in the middle of a write, empty if nowhere
	Elapsed     time.Duration
}

// Open opens or makes the store in the folder.
func Open(dir string, o Options) (*Store, error) {
	dev, err := seglog.OpenDir(dir, seglog.DirOptions{})
	if err != nil {
		return nil, fmt.Errorf("open vector store: %w", err)
	}
	s, err := OpenDevice(dev, o)
	if err != nil {
		return nil, errors.Join(err, dev.Close())
	}
	s.owned = dev
	return s, nil
}

// OpenDevice is Open on a device, which stays the caller's.
func OpenDevice(dev seglog.Device, o Options) (*Store, error) {
	if o.SnapshotBytes == 0 {
		o.SnapshotBytes = 256 << 20
	}
	if o.Indexers <= 0 {
		o.Indexers = 1
	}
	began := time.Now()
	s := &Store{o: o, dev: dev, collections: map[string]*collection{}, durable: map[uint64]*waiting{},
		turns: make(chan struct{}, o.Indexers)}
	s.Changer = Changer{s, s.change}
	logOptions := seglog.Options{SegmentBytes: o.SegmentBytes, BatchBytes: logBatchBytes, RecordBytesMax: recordBytesMax}
	if o.SegmentBytes > 0 {
		logOptions.BatchBytes = int(min(logBatchBytes, o.SegmentBytes/2))
		logOptions.RecordBytesMax = min(recordBytesMax, logOptions.BatchBytes/2)
	}
	log, err := seglog.OpenDevice(dev, logOptions)
	if err != nil {
		return nil, fmt.Errorf("open vector store: %w", err)
	}
	s.log = log
	if err := s.recover(); err != nil {
		s.stopIndexers()
		return nil, errors.Join(fmt.Errorf("open vector store: %w", err), log.Close())
	}
	s.recovery.TornAt, s.recovery.Elapsed = log.Recovery().TornAt, time.Since(began)
	return s, nil
}

// recover loads the newest snapshot and repeats what the log has after it.
func (s *Store) recover() error {
	seq, err := s.loadSnapshot()
	if err != nil {
		return err
	}
	first, last := s.log.Range(logTenant)
	if last < seq || first > seq+1 {
		return fmt.Errorf("%w: snapshot ends at change %d, the log has %d to %d", ErrCorrupt, seq, first, last)
	}
	var buffer []byte
	for at := seq + 1; at <= last; at++ {
		if buffer, err = s.log.ReadInto(buffer[:0], logTenant, at); err != nil {
			return fmt.Errorf("read change %d: %w", at, err)
		}
		o, err := decodeOp(buffer)
		if err != nil {
			return fmt.Errorf("change %d: %w", at, err)
		}
		_, _ = s.apply(o) // what failed then fails again
	}
	s.applied = last
	s.recovery = Recovery{SnapshotSeq: seq, Replayed: last - seq}
	return nil
}

// Recovery returns what Open found.
func (s *Store) Recovery() Recovery { return s.recovery }

// LogStats are the counters of the log that all collections share.
func (s *Store) LogStats() seglog.Stats { return s.log.Stats() }

// change makes an operation durable, applies it in its turn and returns what it
// did. Changes that come while a commit is under way share the next one.
func (s *Store) change(ctx context.Context, o *op) (Result, error) {
	if err := ctx.Err(); err != nil {
		return Result{}, err
	}
	record, err := o.encode(nil)
	if err != nil {
		return Result{}, err
	}
	s.order.Lock()
	err = s.failed
	if s.closed {
		err = ErrClosed
	}
	s.order.Unlock()
	if err != nil {
		return Result{}, err
	}
	// Once given to the log a change is going to happen, so ctx ends nothing.
	seq, err := s.log.Append(context.Background(), logTenant, record)
	if err != nil {
		return Result{}, s.appendFailed(err)
	}
	got := s.inTurn(seq, o)
	got.Seq = seq
	s.snapshotIfDue(len(record))
	return got.Result, got.err
}

// appendFailed turns an error of the log into one of this package.
func (s *Store) appendFailed(err error) error {
	switch {
	case errors.Is(err, seglog.ErrDiskFull):
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	case errors.Is(err, seglog.ErrTooLarge):
		return fmt.Errorf("%w: change larger than %d bytes", ErrInvalid, recordBytesMax)
	case errors.Is(err, seglog.ErrClosed):
		return ErrClosed
	default:
		s.order.Lock()
		defer s.order.Unlock()
		if s.failed == nil {
			s.failed = fmt.Errorf("%w: %w", ErrFailed, err)
		}
		return s.failed
	}
}

// inTurn applies the durable change seq once all before it are applied. Whoever
// completes a row applies all of it.
func (s *Store) inTurn(seq uint64, o *op) applied {
	w := &waiting{op: o, result: make(chan applied, 1)}
	s.order.Lock()
	s.durable[seq] = w
	for {
		next := s.durable[s.applied+1]
		if next == nil {
			break
		}
		delete(s.durable, s.applied+1)
		result, err := s.apply(next.op)
		s.applied++
		next.result <- applied{result, err}
	}
	s.order.Unlock()
	return <-w.result
}

// Close ends the store. Changes that were acknowledged are durable without it.
func (s *Store) Close() error {
	s.order.Lock()
	if s.closed {
		s.order.Unlock()
		return ErrClosed
	}
	s.closed = true
	s.order.Unlock()
	s.snapshots.running.Wait()
	s.stopIndexers()
	err := s.log.Close()
	if s.owned != nil {
		err = errors.Join(err, s.owned.Close())
	}
	if err != nil {
		return fmt.Errorf("close vector store: %w", err)
	}
	return nil
}

func (s *Store) stopIndexers() {
	s.mu.Lock()
	for _, c := range s.collections {
		c.indexer.stop()
	}
	s.mu.Unlock()
	s.indexers.Wait()
}

// normalized are the points as a table keeps them; the caller's are not changed.
func normalized(points []Point, table *vectors.Table) []Point {
	if table.Metric() != vectors.Cosine {
		return points
	}
	out := make([]Point, len(points))
	flat := make([]float32, 0, len(points)*table.Dim())
	for i, p := range points {
		begin := len(flat)
		flat = append(flat, p.Vector...)
		p.Vector = flat[begin:len(flat):len(flat)]
		vectors.Normalize(p.Vector)
		out[i] = p
	}
	return out
}
