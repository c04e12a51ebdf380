// Package tenantfiles keeps records the way that isolation suggests: a goroutine
// and a file for every tenant, and a write and an fdatasync for every record.
//
// At most TenantsMax tenants are taken, and at most openFilesMax of their files
// are open at a time; the one used longest ago is closed for the next.
package tenantfiles

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/nexuscore-labs/nexus/systems/recordserver"
	"github.com/nexuscore-labs/nexus/systems/recordstores/recordfile"
)

const (
	// TenantsMax bounds the goroutines and files of one store.
	TenantsMax = 1 << 16
	// openFilesMax leaves room below the usual limit of 1024 descriptors.
	openFilesMax = 512
	namePattern  = "tenant-%08x.log"
)

// Version names this store in results.
func Version() string { return "write+fdatasync per record, a file and goroutine per tenant" }

// Store is a record store with a file per tenant. It implements
// recordserver.Store.
type Store struct {
	path  string
	dir   *os.File
	files *filePool

	mu      sync.Mutex
	tenants map[uint32]*tenant
	closed  bool
	appends sync.WaitGroup // senders into tenants' channels
	workers sync.WaitGroup
}

// tenant is one tenant's goroutine; its fields below the channel are its own.
type tenant struct {
	id    uint32
	queue chan request

	opened bool
	size   int64
	last   uint64
	buf    []byte
	failed error
}

type request struct {
	payload []byte
	done    chan result
}

type result struct {
	seq uint64
	err error
}

var errClosed = fmt.Errorf("%w: closed", recordserver.ErrUnavailable)

// Open opens or creates the store in dir. Each tenant's file is scanned, and cut
// where a crash tore it, when the tenant appends first.
func Open(dir string) (*Store, error) {
	folder, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return &Store{path: dir, dir: folder, files: newFilePool(openFilesMax), tenants: make(map[uint32]*tenant)}, nil
}

// answers are reused: one append waits on one channel.
var answers = sync.Pool{New: func() any { return make(chan result, 1) }}

// Append hands the record to its tenant's goroutine and waits until it is synced.
func (s *Store) Append(_ context.Context, id uint32, payload []byte) (uint64, error) {
	if len(payload) > recordfile.PayloadLenMax {
		return 0, recordserver.ErrTooLarge
	}
	t, err := s.begin(id)
	if err != nil {
		return 0, err
	}
	defer s.appends.Done()
	done := answers.Get().(chan result)
	t.queue <- request{payload, done}
	r := <-done
	answers.Put(done)
	return r.seq, r.err
}

// begin finds or starts the tenant's goroutine and keeps Close from ending it
// until the caller ends s.appends.
func (s *Store) begin(id uint32) (*tenant, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	t := s.tenants[id]
	if t == nil {
		if len(s.tenants) >= TenantsMax {
			return nil, fmt.Errorf("%w: more than %d tenants", recordserver.ErrOverloaded, TenantsMax)
		}
		t = &tenant{id: id, queue: make(chan request, 16)}
		s.tenants[id] = t
		s.workers.Add(1)
		go s.serve(t)
	}
	s.appends.Add(1)
	return t, nil
}

func (s *Store) serve(t *tenant) {
	defer s.workers.Done()
	for r := range t.queue {
		seq, err := s.appendOne(t, r.payload)
		r.done <- result{seq, err}
	}
}

func (s *Store) appendOne(t *tenant, payload []byte) (uint64, error) {
	if t.failed != nil {
		return 0, t.failed
	}
	file, err := s.files.acquire(t.id, func() (*os.File, error) { return s.openTenant(t) })
	if err != nil {
		return 0, err
	}
	defer s.files.release(t.id)
	t.buf = recordfile.Append(t.buf[:0], recordfile.Record{Tenant: t.id, Seq: t.last + 1, Payload: payload})
	n, err := file.Write(t.buf)
	if err != nil {
		return 0, t.undo(file, n, err)
	}
	if err := fdatasync(file); err != nil {
		// As for fsyncappend: a second sync would succeed without having written.
		t.failed = fmt.Errorf("%w: sync: %w", recordserver.ErrUnavailable, err)
		return 0, t.failed
	}
	t.size += int64(n)
	t.last++
	return t.last, nil
}

// undo removes the part of a record that reached the file.
func (t *tenant) undo(file *os.File, written int, cause error) error {
	if written > 0 {
		if err := file.Truncate(t.size); err != nil {
			t.failed = fmt.Errorf("%w: cut off half a record: %w", recordserver.ErrUnavailable, err)
			return t.failed
		}
	}
	return fmt.Errorf("write record: %w", cause)
}

func (s *Store) openTenant(t *tenant) (*os.File, error) {
	path := filepath.Join(s.path, fmt.Sprintf(namePattern, t.id))
	if !t.opened {
		size, err := recordfile.Scan(path, func(r recordfile.Record) error {
			t.last = r.Seq
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("recover tenant %d: %w", t.id, err)
		}
		t.size, t.opened = size, true
	}
	return recordfile.OpenAppend(s.dir, path, t.size)
}

// Close waits for appends under way, ends the goroutines and closes the files.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.appends.Wait()
	for _, t := range s.tenants {
		close(t.queue)
	}
	s.workers.Wait()
	return errors.Join(s.files.close(), s.dir.Close())
}

// Scan calls fn with every whole record in dir, tenant after tenant, each in
// order, while no store has it open. The payload is valid during the call only.
func Scan(dir string, fn func(tenant uint32, seq uint64, payload []byte) error) error {
	paths, err := filepath.Glob(filepath.Join(dir, "tenant-*.log"))
	if err != nil {
		return err
	}
	for _, path := range paths {
		if _, err := recordfile.Scan(path, func(r recordfile.Record) error {
			return fn(r.Tenant, r.Seq, r.Payload)
		}); err != nil {
			return err
		}
	}
	return nil
}
