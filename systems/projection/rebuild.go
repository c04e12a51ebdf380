package projection

import (
	"context"
	"fmt"

	fold "github.com/nexuscore-labs/nexus/components/projection"
)

// Result is a rebuilt projection.
type Result struct {
	Version uint32 // snapshot version of the tenant: caches key by it
	Seq     uint64 // events folded: the version of the value itself
	Data    []byte // FlatBuffer; callers share it and don't change it
}

// flight is a rebuild that callers wait for.
type flight struct {
	done   chan struct{}
	result Result
	err    error
}

// Rebuild returns a projection with everything that was durable when it was
// called. Projections are numbered as in components/projection.Views. When ctx
// ends a caller that only waits for another's rebuild leaves.
func (e *Engine) Rebuild(ctx context.Context, id, projection uint32) (Result, error) {
	view, ok := fold.ViewOf(projection)
	if !ok {
		return Result{}, fmt.Errorf("%w: %d", ErrProjection, projection)
	}
	t := e.tenant(id, false)
	if t == nil {
		return Result{}, fmt.Errorf("%w: %d", ErrTenant, id)
	}
	t.flights.Lock()
	if f := t.flights.next[projection]; f != nil {
		t.flights.Unlock()
		e.stats.Shared.Add(1)
		select {
		case <-f.done:
			return f.result, f.err
		case <-ctx.Done():
			return Result{}, ctx.Err()
		}
	}
	f := &flight{done: make(chan struct{})}
	t.flights.next[projection] = f
	t.flights.Unlock()

	t.run.Lock()
	// From here on it reads the log: who comes later needs the next flight.
	t.flights.Lock()
	t.flights.next[projection] = nil
	t.flights.Unlock()
	f.result, f.err = t.rebuild(view)
	record := t.record
	t.run.Unlock()
	close(f.done)
	if f.err == nil {
		t.ask(f.result.Seq, record)
	}
	return f.result, f.err
}

func (t *tenant) rebuild(view fold.View) (Result, error) {
	t.engine.stats.Rebuilds.Add(1)
	if err := t.catchUp(); err != nil {
		return Result{}, err
	}
	if t.seq == 0 {
		return Result{}, fmt.Errorf("%w: %d", ErrTenant, t.id)
	}
	view.Version = uint64(t.checkpoint.version)
	data, err := t.folder.Encode(nil, view)
	if err != nil {
		return Result{}, t.lose(fmt.Errorf("encode projection of tenant %d: %w", t.id, err))
	}
	result := Result{t.checkpoint.version, t.seq, data}
	return result, t.engine.keep(t)
}

// Version returns the tenant's version now.
func (e *Engine) Version(id uint32) (uint32, error) {
	t := e.tenant(id, false)
	if t == nil {
		return 0, fmt.Errorf("%w: %d", ErrTenant, id)
	}
	t.run.Lock()
	defer t.run.Unlock()
	if err := t.load(); err != nil {
		return 0, err
	}
	return t.checkpoint.version, nil
}

// Evict ends the tenant's kept guest, if it has one: its next rebuild begins
// with its snapshot.
func (e *Engine) Evict(id uint32) error {
	t := e.tenant(id, false)
	if t == nil {
		return nil
	}
	t.run.Lock()
	defer t.run.Unlock()
	e.forget(t)
	return t.drop()
}
