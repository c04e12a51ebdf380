// Package fsyncappend keeps records the obvious way: one shared file opened with
// O_APPEND, and a write and an fsync for every record.
//
// Writes are serialised by a mutex, because a write that fails half-way must be
// cut off before the next one lands behind it; the fsyncs run side by side, and
// the kernel may let one journal commit serve several of them.
package fsyncappend

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/systems/recordserver"
	"github.com/nexuscore-labs/nexus/systems/recordstores/recordfile"
)

const fileName = "records.log"

// Version names this store in results.
func Version() string { return "write+fsync per record, O_APPEND" }

// Store is a record store over one file. It implements recordserver.Store.
type Store struct {
	dir  *os.File
	file *os.File

	appends sync.WaitGroup

	mu     sync.Mutex
	size   int64
	last   map[uint32]uint64 // sequence of each tenant's newest record
	buf    []byte
	failed error // once a record may be half on disk or unsynced, nothing more is taken
}

// Open opens or creates the store in dir and cuts off a torn last record.
func Open(dir string) (*Store, error) {
	folder, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{dir: folder, last: make(map[uint32]uint64)}
	path := filepath.Join(dir, fileName)
	s.size, err = recordfile.Scan(path, func(r recordfile.Record) error {
		s.last[r.Tenant] = r.Seq
		return nil
	})
	if err == nil {
		s.file, err = recordfile.OpenAppend(folder, path, s.size)
	}
	if err != nil {
		folder.Close()
		return nil, fmt.Errorf("recover store: %w", err)
	}
	return s, nil
}

// Append writes the record and syncs the file.
func (s *Store) Append(_ context.Context, tenant uint32, payload []byte) (uint64, error) {
	if len(payload) > recordfile.PayloadLenMax {
		return 0, recordserver.ErrTooLarge
	}
	seq, err := s.write(tenant, payload)
	if err != nil {
		return 0, err
	}
	defer s.appends.Done()
	// After a failed fsync the kernel marks the pages clean, so a second one
	// would succeed without having written them (fsync(2), errors since 4.13):
	// the store is lost until it is opened and scanned again.
	if err := s.file.Sync(); err != nil {
		return 0, s.fail(fmt.Errorf("sync: %w", err))
	}
	return seq, nil
}

// write puts the record behind the last one. Its caller ends s.appends.
func (s *Store) write(tenant uint32, payload []byte) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return 0, s.failed
	}
	seq := s.last[tenant] + 1
	s.buf = recordfile.Append(s.buf[:0], recordfile.Record{Tenant: tenant, Seq: seq, Payload: payload})
	n, err := s.file.Write(s.buf)
	if err != nil {
		return 0, s.undo(n, err)
	}
	s.size += int64(n)
	s.last[tenant] = seq
	s.appends.Add(1)
	return seq, nil
}

// undo removes the part of a record that reached the file. s.mu is held.
func (s *Store) undo(written int, cause error) error {
	if written > 0 {
		if err := s.file.Truncate(s.size); err != nil {
			s.failed = fmt.Errorf("%w: cut off half a record: %w", recordserver.ErrUnavailable, err)
			return s.failed
		}
	}
	if errors.Is(cause, unix.ENOSPC) || errors.Is(cause, unix.EDQUOT) {
		return fmt.Errorf("%w: %w", recordserver.ErrDiskFull, cause)
	}
	return fmt.Errorf("write record: %w", cause)
}

func (s *Store) fail(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = fmt.Errorf("%w: %w", recordserver.ErrUnavailable, err)
	return s.failed
}

// Close waits for appends under way and closes the file.
func (s *Store) Close() error {
	s.mu.Lock()
	s.failed = fmt.Errorf("%w: closed", recordserver.ErrUnavailable)
	s.mu.Unlock()
	s.appends.Wait()
	return errors.Join(s.file.Close(), s.dir.Close())
}

// Scan calls fn with every whole record in dir, each tenant's in order, while no
// store has it open. The payload is valid during the call only.
func Scan(dir string, fn func(tenant uint32, seq uint64, payload []byte) error) error {
	_, err := recordfile.Scan(filepath.Join(dir, fileName), func(r recordfile.Record) error {
		return fn(r.Tenant, r.Seq, r.Payload)
	})
	return err
}
