// Package seglogstore puts a segment log (systems/seglog) behind
// recordserver.Store, so that the network front is the same as the other
// stores'.
package seglogstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/nexuscore-labs/nexus/systems/recordserver"
	"github.com/nexuscore-labs/nexus/systems/seglog"
)

// Version names this store in results.
func Version() string { return "seglog, Go API" }

// Store is a record store over a segment log. It implements recordserver.Store,
// recordserver.Batcher and recordserver.Reader.
type Store struct{ log *seglog.Log }

// Open opens or creates the log in dir with the default options.
func Open(dir string) (*Store, error) {
	log, err := seglog.Open(dir, seglog.Options{})
	if err != nil {
		return nil, fmt.Errorf("open segment log: %w", err)
	}
	return &Store{log}, nil
}

// Append returns when the record's group commit is durable.
func (s *Store) Append(ctx context.Context, tenant uint32, payload []byte) (uint64, error) {
	seq, err := s.log.Append(ctx, tenant, payload)
	return seq, storeError(err)
}

// storeError gives the log's errors the names that the server knows.
func storeError(err error) error {
	for _, known := range []struct{ from, to error }{
		{seglog.ErrTooLarge, recordserver.ErrTooLarge},
		{seglog.ErrDiskFull, recordserver.ErrDiskFull},
		{seglog.ErrTenants, recordserver.ErrOverloaded},
		{seglog.ErrNotFound, recordserver.ErrUnknown},
		{seglog.ErrRetired, recordserver.ErrUnknown},
	} {
		if err != nil && errors.Is(err, known.from) {
			return fmt.Errorf("%w: %w", known.to, err)
		}
	}
	return err
}

// Read returns a copy of one durable record.
func (s *Store) Read(_ context.Context, tenant uint32, seq uint64) ([]byte, error) {
	payload, err := s.log.Read(tenant, seq)
	return payload, storeError(err)
}

// Close waits for appends under way and closes the log.
func (s *Store) Close() error { return s.log.Close() }

// Scan calls fn with every record in dir, each tenant's in order, while no store
// has it open. The payload is valid during the call only.
func Scan(dir string, fn func(tenant uint32, seq uint64, payload []byte) error) error {
	return seglog.Scan(dir, fn)
}
