// Package pebblestore keeps records in Pebble, CockroachDB's storage engine:
// one batch per append, acknowledged when its write-ahead log is synced. Pebble
// groups concurrent commits by itself.
package pebblestore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/nexuscore-labs/nexus/systems/recordserver"
)

const module = "github.com/cockroachdb/pebble/v2"

// keyLen is tenant and sequence, both big-endian: a tenant's records are
// neighbours and in order.
const keyLen = 12

// Version is the library's, from the build.
func Version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			if dep.Path == module {
				return "pebble " + dep.Version
			}
		}
	}
	return "pebble, version unknown"
}

// Store is a record store over Pebble. It implements recordserver.Store,
// recordserver.Batcher and recordserver.Reader.
type Store struct {
	db    *pebble.DB
	cache *pebble.Cache

	mu      sync.RWMutex // held shared by appends; guards closed
	closed  bool
	tenants sync.Map // uint32 → *tenant
}

// tenant orders the records of one tenant: its lock is held while a batch
// enters the write-ahead log's queue, not while that is synced.
type tenant struct {
	mu     sync.Mutex
	loaded bool
	last   uint64
}

// options are those of a user who writes small records durably on one disk: a
// bigger memtable and cache than the defaults, and no text logging.
func options(cache *pebble.Cache) *pebble.Options {
	return &pebble.Options{
		Cache:                       cache,
		MemTableSize:                64 << 20,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       24,
		FormatMajorVersion:          pebble.FormatNewest,
		Logger:                      quiet{},
	}
}

// quiet drops what Pebble tells about flushes and compactions. A fatal error,
// such as a write-ahead log that can't be synced, must still end the process:
// Pebble does not expect Fatalf to return.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf("pebble: "+format, args...))
}

// Open opens or creates the store in dir.
func Open(dir string) (*Store, error) {
	cache := pebble.NewCache(64 << 20)
	db, err := pebble.Open(dir, options(cache))
	if err != nil {
		cache.Unref()
		return nil, fmt.Errorf("open pebble: %w", err)
	}
	return &Store{db: db, cache: cache}, nil
}

func key(tenant uint32, seq uint64) []byte {
	k := make([]byte, 0, keyLen)
	k = binary.BigEndian.AppendUint32(k, tenant)
	return binary.BigEndian.AppendUint64(k, seq)
}

// Append commits the record with a synced write-ahead log.
func (s *Store) Append(ctx context.Context, id uint32, payload []byte) (uint64, error) {
	var result [1]recordserver.Result
	s.AppendBatch(ctx, id, [][]byte{payload}, result[:])
	return result[0].Seq, result[0].Err
}

// AppendBatch commits the records in one batch.
func (s *Store) AppendBatch(_ context.Context, id uint32, payloads [][]byte, results []recordserver.Result) {
	first, err := s.commit(id, payloads)
	for i := range results {
		if results[i].Err = err; err == nil {
			results[i].Seq = first + uint64(i)
		}
	}
}

func (s *Store) commit(id uint32, payloads [][]byte) (first uint64, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return 0, fmt.Errorf("%w: closed", recordserver.ErrUnavailable)
	}
	batch := s.db.NewBatch()
	first, err = s.enqueue(id, payloads, batch)
	if err != nil {
		return 0, errors.Join(err, batch.Close())
	}
	if err := batch.SyncWait(); err != nil {
		return 0, fmt.Errorf("commit: %w", err)
	}
	return first, batch.Close()
}

// enqueue numbers the records and puts the batch into the write-ahead log's
// queue, so that records of one tenant are logged in the order of their numbers.
func (s *Store) enqueue(id uint32, payloads [][]byte, batch *pebble.Batch) (first uint64, err error) {
	loaded, ok := s.tenants.Load(id)
	if !ok {
		loaded, _ = s.tenants.LoadOrStore(id, new(tenant))
	}
	t := loaded.(*tenant)
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.loaded {
		if t.last, err = s.lastSeq(id); err != nil {
			return 0, err
		}
		t.loaded = true
	}
	first = t.last + 1
	for i, payload := range payloads {
		if err := batch.Set(key(id, first+uint64(i)), payload, nil); err != nil {
			return 0, fmt.Errorf("build batch: %w", err)
		}
	}
	if err := s.db.ApplyNoSyncWait(batch, pebble.Sync); err != nil {
		return 0, fmt.Errorf("apply batch: %w", err)
	}
	t.last += uint64(len(payloads))
	return first, nil
}

func (s *Store) lastSeq(id uint32) (uint64, error) {
	iter, err := s.db.NewIter(&pebble.IterOptions{LowerBound: key(id, 0), UpperBound: append(key(id, ^uint64(0)), 0)})
	if err != nil {
		return 0, fmt.Errorf("find last sequence: %w", err)
	}
	var last uint64
	if iter.Last() {
		last = binary.BigEndian.Uint64(iter.Key()[4:])
	}
	return last, iter.Close()
}

// Read returns a copy of one record.
func (s *Store) Read(_ context.Context, tenant uint32, seq uint64) ([]byte, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, fmt.Errorf("%w: closed", recordserver.ErrUnavailable)
	}
	value, closer, err := s.db.Get(key(tenant, seq))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, recordserver.ErrUnknown
	}
	if err != nil {
		return nil, fmt.Errorf("get record: %w", err)
	}
	record := append([]byte{}, value...)
	return record, closer.Close()
}

// Close waits for appends under way and closes the database.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	err := s.db.Close()
	s.cache.Unref()
	return err
}

// Scan calls fn with every record in dir, tenant after tenant, each in order,
// while no store has it open. The payload is valid during the call only.
func Scan(dir string, fn func(tenant uint32, seq uint64, payload []byte) error) (err error) {
	s, err := Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	iter, err := s.db.NewIter(nil)
	if err != nil {
		return fmt.Errorf("scan: %w", err)
	}
	defer func() { err = errors.Join(err, iter.Close()) }()
	for iter.First(); iter.Valid(); iter.Next() {
		k := iter.Key()
		if len(k) != keyLen {
			return fmt.Errorf("scan: key of %d bytes", len(k))
		}
		value, err := iter.ValueAndErr()
		if err != nil {
			return fmt.Errorf("scan: %w", err)
		}
		if err := fn(binary.BigEndian.Uint32(k), binary.BigEndian.Uint64(k[4:]), value); err != nil {
			return err
		}
	}
	return iter.Error()
}
