package graphstore

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/nexuscore-labs/nexus/components/graph"
)

// ErrUnknownTenant says that a tenant has no graph.
var ErrUnknownTenant = errors.New("graphstore: unknown tenant")

// Store answers queries of tenants. Its methods may be called concurrently.
type Store interface {
	// Query appends a chunk of the tenant's answer to dst, see graph.Engine.
	Query(tenant uint32, q graph.Query, dst []byte) ([]byte, error)
	Close() error
}

// Tenants keeps one engine for each tenant. An engine starts with its tenant's
// first query, unless Start did that before. An engine that fails with anything
// but a graph.Refusal is closed and its tenant's next query starts another: a
// guest that died takes nobody with it.
type Tenants struct {
	open    func(tenant uint32) (graph.Engine, error)
	tenants []tenant
	failed  atomic.Uint64
	started atomic.Uint64
}

type tenant struct {
	mu     sync.Mutex
	engine graph.Engine // nil: not started
	closed bool
}

var _ Store = (*Tenants)(nil)

// NewTenants makes a store of tenants 0 to count-1, whose engines open makes.
func NewTenants(count int, open func(tenant uint32) (graph.Engine, error)) *Tenants {
	return &Tenants{open: open, tenants: make([]tenant, count)}
}

// Start starts a tenant's engine.
func (s *Tenants) Start(tenant uint32) error {
	return s.with(tenant, func(graph.Engine) error { return nil })
}

// Query implements Store.
func (s *Tenants) Query(tenant uint32, q graph.Query, dst []byte) ([]byte, error) {
	err := s.with(tenant, func(e graph.Engine) (err error) {
		dst, err = e.Query(q, dst)
		return err
	})
	return dst, err
}

// Update replaces a document of a tenant's graph.
func (s *Tenants) Update(tenant, node uint32, document []byte) error {
	return s.with(tenant, func(e graph.Engine) error { return e.Update(node, document) })
}

// with calls use with the tenant's engine, which no one else uses meanwhile.
func (s *Tenants) with(id uint32, use func(graph.Engine) error) error {
	if uint64(id) >= uint64(len(s.tenants)) {
		return ErrUnknownTenant
	}
	t := &s.tenants[id]
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return fmt.Errorf("graphstore: tenant %d is closed", id)
	}
	if t.engine == nil {
		engine, err := s.open(id)
		if err != nil {
			return fmt.Errorf("start the graph of tenant %d: %w", id, err)
		}
		t.engine = engine
		s.started.Add(1)
	}
	err := use(t.engine)
	var refusal graph.Refusal
	if err == nil || errors.As(err, &refusal) {
		return err
	}
	s.failed.Add(1)
	err = errors.Join(err, t.engine.Close())
	t.engine = nil
	return err
}

// Failed counts the engines that were lost, Started those that were started.
func (s *Tenants) Failed() uint64  { return s.failed.Load() }
func (s *Tenants) Started() uint64 { return s.started.Load() }

// Close closes all engines.
func (s *Tenants) Close() (err error) {
	for i := range s.tenants {
		t := &s.tenants[i]
		t.mu.Lock()
		if t.engine != nil {
			err = errors.Join(err, t.engine.Close())
			t.engine = nil
		}
		t.closed = true
		t.mu.Unlock()
	}
	return err
}
