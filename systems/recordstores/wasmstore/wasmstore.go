// Package wasmstore is the segment log behind a sandbox: before a record reaches
// the log, its tenant's own WebAssembly guest validates, numbers and frames it
// (components/logframe). What a tenant has waiting is framed with one call and
// becomes one record of the log, so it is stored as a whole or not at all.
package wasmstore

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/nexuscore-labs/nexus/components/host"
	"github.com/nexuscore-labs/nexus/components/logframe"
	"github.com/nexuscore-labs/nexus/systems/recordserver"
	"github.com/nexuscore-labs/nexus/systems/recordstores/seglogstore"
)

const (
	// TenantsMax bounds the guests of one store.
	TenantsMax = 4096
	// groupLenMax ends a group, in bytes of payload: framed it must fit one
	// record of the log. A larger record goes alone.
	groupLenMax = 128 << 10
	// payloadLenMax leaves room for the header in the log's largest record.
	payloadLenMax = 256<<10 - logframe.HeaderLen
	poolSize      = 16
)

// Version names this store in results.
func Version() string { return seglogstore.Version() + " + logframe guest 1.0.0 on wazero" }

// Options tune a store. The zero value works.
type Options struct {
	// Policy gives a tenant's rules; nil means any bytes.
	Policy func(tenant uint32) logframe.Policy
	// CacheDir keeps the compiled guest; empty compiles at each Open.
	CacheDir string
	// Framer, if set, takes the place of the guest: the same store without the
	// sandbox, for comparison.
	Framer func(tenant uint32, policy logframe.Policy, state logframe.State) (logframe.Framer, error)
}

// Store is a record store. It implements recordserver.Store and
// recordserver.Batcher.
type Store struct {
	options Options
	log     recordserver.Store
	runtime *host.Runtime
	engine  *logframe.Engine

	mu      sync.Mutex
	states  map[uint32]logframe.State // as found at Open
	tenants map[uint32]*lane
	closed  bool
	work    sync.WaitGroup
}

// Open opens or creates the store in dir with the default options.
func Open(dir string) (*Store, error) { return OpenWith(dir, Options{}) }

// OpenWith opens or creates the store in dir.
func OpenWith(dir string, options Options) (*Store, error) {
	if options.Policy == nil {
		options.Policy = func(uint32) logframe.Policy { return logframe.Policy{} }
	}
	s := &Store{options: options, states: make(map[uint32]logframe.State), tenants: make(map[uint32]*lane)}
	log, err := seglogstore.Open(dir) // first: it cuts a torn end
	if err != nil {
		return nil, err
	}
	s.log = log
	if err := s.prepare(dir); err != nil {
		return nil, errors.Join(err, s.release())
	}
	return s, nil
}

// prepare finds where each tenant stands and starts the runtime.
func (s *Store) prepare(dir string) (err error) {
	err = Scan(dir, func(tenant uint32, seq uint64, payload []byte) error {
		schema := s.options.Policy(tenant).Schema
		s.states[tenant] = logframe.State{NextSeq: seq + 1, Timestamp: logframe.EventTimestamp(schema, payload)}
		return nil
	})
	if err != nil || s.options.Framer != nil {
		return err
	}
	ctx := context.Background()
	if s.runtime, err = host.New(ctx, s.options.CacheDir); err != nil {
		return err
	}
	s.engine, err = logframe.NewEngine(ctx, s.runtime, poolSize)
	return err
}

// GuestStats are the counters of the guests; nil without a sandbox.
func (s *Store) GuestStats() *host.Stats {
	if s.runtime == nil {
		return nil
	}
	return s.runtime.Stats()
}

// Append returns when the record is framed and durable.
func (s *Store) Append(ctx context.Context, tenant uint32, payload []byte) (uint64, error) {
	var result [1]recordserver.Result
	s.AppendBatch(ctx, tenant, [][]byte{payload}, result[:])
	return result[0].Seq, result[0].Err
}

// AppendBatch returns when the records are framed and durable, or refused. A
// record that the guest refuses, or dies of, is ErrRejected; the others go on.
func (s *Store) AppendBatch(_ context.Context, tenant uint32, payloads [][]byte, results []recordserver.Result) {
	r := &request{payloads: payloads, results: results, done: make(chan struct{})}
	if err := s.enqueue(tenant, r); err != nil {
		for i := range results {
			results[i] = recordserver.Result{Err: err}
		}
		return
	}
	<-r.done
}

func (s *Store) enqueue(tenant uint32, r *request) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("%w: closed", recordserver.ErrUnavailable)
	}
	l := s.tenants[tenant]
	if l == nil {
		if len(s.tenants) >= TenantsMax {
			return fmt.Errorf("%w: more than %d tenants", recordserver.ErrOverloaded, TenantsMax)
		}
		state, known := s.states[tenant]
		if !known {
			state.NextSeq = 1
		}
		l = &lane{store: s, tenant: tenant, state: state, wake: make(chan struct{}, 1)}
		s.tenants[tenant] = l
		s.work.Add(1)
		go l.run()
	}
	l.pending = append(l.pending, r)
	select {
	case l.wake <- struct{}{}:
	default: // it will find r with what it is woken for
	}
	return nil
}

// framer starts the tenant's guest, or its stand-in.
func (s *Store) framer(tenant uint32, state logframe.State) (logframe.Framer, error) {
	if s.options.Framer != nil {
		return s.options.Framer(tenant, s.options.Policy(tenant), state)
	}
	return s.engine.Tenant(tenant, s.options.Policy(tenant), state)
}

// Close waits for appends under way, ends the guests and closes the log.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	for _, l := range s.tenants {
		close(l.wake)
	}
	s.mu.Unlock()
	s.work.Wait()
	return s.release()
}

func (s *Store) release() (err error) {
	for _, l := range s.tenants {
		if l.framer != nil {
			err = errors.Join(err, l.framer.Close())
		}
	}
	if s.engine != nil {
		err = errors.Join(err, s.engine.Close())
	}
	if s.runtime != nil {
		err = errors.Join(err, s.runtime.Close(context.Background()))
	}
	return errors.Join(err, s.log.Close())
}

// Scan calls fn with every record in dir, each tenant's in order, while no other
// process has it open. It verifies what the guests framed. The payload is valid
// during the call only.
func Scan(dir string, fn func(tenant uint32, seq uint64, payload []byte) error) error {
	return seglogstore.Scan(dir, func(tenant uint32, group uint64, framed []byte) error {
		for len(framed) > 0 {
			n, err := logframe.FramedLen(framed)
			if err != nil {
				return fmt.Errorf("tenant %d group %d: %w", tenant, group, err)
			}
			r, err := logframe.Parse(framed[:n])
			if err != nil {
				return fmt.Errorf("tenant %d group %d: %w", tenant, group, err)
			}
			if r.Tenant != tenant {
				return fmt.Errorf("tenant %d group %d holds a record of tenant %d", tenant, group, r.Tenant)
			}
			if err := fn(tenant, r.Seq, r.Payload); err != nil {
				return err
			}
			framed = framed[n:]
		}
		return nil
	})
}
