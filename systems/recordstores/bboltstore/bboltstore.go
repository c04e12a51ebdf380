// Package bboltstore keeps records in bbolt, the B+tree file behind etcd: a
// bucket per tenant, appends through DB.Batch, which lets concurrent callers
// share a transaction and its fdatasync.
package bboltstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/nexuscore-labs/nexus/systems/recordserver"
)

const (
	module   = "go.etcd.io/bbolt"
	fileName = "records.bbolt"
	// batchDelay is how long DB.Batch waits for company. The default of 10 ms is
	// many commits long on a disk like ours; see the benchmark for the choice.
	batchDelay = time.Millisecond
	// fillPercent splits pages for keys that only grow.
	fillPercent = 0.95
)

// Version is the library's, from the build.
func Version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			if dep.Path == module {
				return "bbolt " + dep.Version
			}
		}
	}
	return "bbolt, version unknown"
}

// Store is a record store over bbolt. It implements recordserver.Store,
// recordserver.Batcher and recordserver.Reader.
type Store struct{ db *bbolt.DB }

// Open opens or creates the store in dir.
func Open(dir string) (*Store, error) {
	db, err := bbolt.Open(filepath.Join(dir, fileName), 0o644, &bbolt.Options{
		Timeout:        5 * time.Second, // for the file lock
		FreelistType:   bbolt.FreelistMapType,
		NoFreelistSync: true, // rebuilt at open, as etcd has it
	})
	if err != nil {
		return nil, fmt.Errorf("open bbolt: %w", err)
	}
	db.MaxBatchDelay = batchDelay
	return &Store{db: db}, nil
}

// Append adds the record in a transaction shared with concurrent callers.
func (s *Store) Append(ctx context.Context, tenant uint32, payload []byte) (uint64, error) {
	var result [1]recordserver.Result
	s.AppendBatch(ctx, tenant, [][]byte{payload}, result[:])
	return result[0].Seq, result[0].Err
}

// AppendBatch adds the records in one transaction, shared like Append's.
func (s *Store) AppendBatch(_ context.Context, tenant uint32, payloads [][]byte, results []recordserver.Result) {
	// DB.Batch may run the function again after another caller's failed.
	err := s.db.Batch(func(tx *bbolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists(binary.BigEndian.AppendUint32(nil, tenant))
		if err != nil {
			return err
		}
		bucket.FillPercent = fillPercent
		for i, payload := range payloads {
			seq, err := bucket.NextSequence()
			if err != nil {
				return err
			}
			if err := bucket.Put(binary.BigEndian.AppendUint64(nil, seq), payload); err != nil {
				return err
			}
			results[i].Seq = seq
		}
		return nil
	})
	if err == nil {
		return
	}
	for i := range results {
		results[i] = recordserver.Result{Err: storeError(err)}
	}
}

func storeError(err error) error {
	switch {
	case errors.Is(err, berrors.ErrValueTooLarge):
		return fmt.Errorf("%w: %w", recordserver.ErrTooLarge, err)
	case errors.Is(err, berrors.ErrDatabaseNotOpen):
		return fmt.Errorf("%w: %w", recordserver.ErrUnavailable, err)
	}
	return fmt.Errorf("commit: %w", err)
}

// Read returns a copy of one record.
func (s *Store) Read(_ context.Context, tenant uint32, seq uint64) ([]byte, error) {
	var record []byte
	err := s.db.View(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket(binary.BigEndian.AppendUint32(nil, tenant))
		if bucket == nil {
			return recordserver.ErrUnknown
		}
		value := bucket.Get(binary.BigEndian.AppendUint64(nil, seq))
		if value == nil {
			return recordserver.ErrUnknown
		}
		record = append([]byte{}, value...)
		return nil
	})
	return record, err
}

// Close waits for transactions under way and closes the file.
func (s *Store) Close() error { return s.db.Close() }

// Scan calls fn with every record in dir, tenant after tenant, each in order,
// while no store has it open. The payload is valid during the call only.
func Scan(dir string, fn func(tenant uint32, seq uint64, payload []byte) error) (err error) {
	s, err := Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return s.db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, bucket *bbolt.Bucket) error {
			if len(name) != 4 {
				return fmt.Errorf("scan: bucket name of %d bytes", len(name))
			}
			tenant := binary.BigEndian.Uint32(name)
			return bucket.ForEach(func(k, value []byte) error {
				return fn(tenant, binary.BigEndian.Uint64(k), value)
			})
		})
	})
}
