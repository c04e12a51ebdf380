package projection

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nexuscore-labs/nexus/components/host"
	fold "github.com/nexuscore-labs/nexus/components/projection"
	"github.com/nexuscore-labs/nexus/systems/seglog"
)

// Errors of an engine; those of the log come back as they are.
var (
	// ErrTenant says that the tenant has no events.
	ErrTenant = errors.New("projection: unknown tenant")
	// ErrProjection says that there is no projection of that number.
	ErrProjection = errors.New("projection: unknown projection")
	// ErrVersion says that a rollback's target is no kept snapshot.
	ErrVersion = errors.New("projection: unknown snapshot version")
	// ErrEvents says that an append has no events or more than EventsMax.
	ErrEvents = errors.New("projection: number of events out of range")
	// ErrLog says that the log's records are not a tenant's events in order.
	ErrLog = errors.New("projection: log does not hold the tenant's events")
)

// EventsMax bounds the events of one Append.
const EventsMax = fold.BatchMax

// Options tune an engine. The zero value works.
type Options struct {
	SnapshotEvents  int // snapshot after so many events; default 10,000
	SnapshotRecords int // or after so many records of the log; default 1,000
	SnapshotsKept   int // per tenant, for rollbacks, at most 16; default 4
	WarmMax         int // tenants whose guest is kept after use; default 1024, negative: none
	PoolSize        int // guests kept ready; default 16

	Log      seglog.Options
	CacheDir string // of compiled guests; empty: compiled at each Open

	// Versioned, if set, hears of a tenant's new version before Rebuild answers
	// with it. It must not call the engine.
	Versioned func(tenant, version uint32)
	// Native folds in Go instead of the guest, for comparison.
	Native bool
	// Now is the clock of first versions; default time.Now.
	Now func() time.Time
}

func (o Options) withDefaults() (Options, error) {
	for _, d := range []struct {
		v       *int
		or, max int
	}{{&o.SnapshotEvents, 10_000, 1 << 30}, {&o.SnapshotRecords, 1000, 1 << 30}, {&o.SnapshotsKept, 4, snapshotsMax}, {&o.PoolSize, 16, 4096}} {
		if *d.v == 0 {
			*d.v = d.or
		}
		if *d.v < 1 || *d.v > d.max {
			return o, fmt.Errorf("projection: option out of range: %d, at most %d", *d.v, d.max)
		}
	}
	if o.WarmMax == 0 {
		o.WarmMax = 1024
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o, nil
}

// Stats are an engine's counters.
type Stats struct {
	Rebuilds         atomic.Uint64
	Shared           atomic.Uint64 // answered by another caller's rebuild
	Warm             atomic.Uint64 // rebuilds in a guest that was kept
	FromSnapshot     atomic.Uint64 // rebuilds that began with a snapshot
	FromStart        atomic.Uint64 // rebuilds that replayed all events
	EventsReplayed   atomic.Uint64
	Evicted          atomic.Uint64 // kept guests ended to make room
	GuestsLost       atomic.Uint64 // guests that trapped or ran too long
	Snapshots        atomic.Uint64
	SnapshotsFailed  atomic.Uint64
	CheckpointsWrong atomic.Uint64 // found corrupt
	Rollbacks        atomic.Uint64
}

// Engine keeps events and rebuilds projections. It is for concurrent use.
type Engine struct {
	options     Options
	log         *seglog.Log
	checkpoints folder
	runtime     *host.Runtime
	guests      *fold.Engine
	stats       Stats

	mu      sync.Mutex
	tenants map[uint32]*tenant
	warm    *list.List // of *tenant, the least recently used last

	due    chan *tenant // tenants that want a snapshot
	stop   chan struct{}
	worker sync.WaitGroup
}

// Open opens or makes an engine in dir.
func Open(dir string, o Options) (*Engine, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	e := &Engine{
		options: o, checkpoints: folder(filepath.Join(dir, "checkpoints")),
		tenants: make(map[uint32]*tenant), warm: list.New(),
		due: make(chan *tenant, 1024), stop: make(chan struct{}),
	}
	if err := e.open(dir); err != nil {
		return nil, errors.Join(err, e.release())
	}
	e.worker.Go(e.snapshotter)
	return e, nil
}

func (e *Engine) open(dir string) (err error) {
	for _, path := range []string{string(e.checkpoints), filepath.Join(dir, "log")} {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return fmt.Errorf("make folder of projections: %w", err)
		}
	}
	if e.log, err = seglog.Open(filepath.Join(dir, "log"), e.options.Log); err != nil {
		return err
	}
	ctx := context.Background()
	if e.runtime, err = host.New(ctx, e.options.CacheDir); err != nil {
		return err
	}
	e.guests, err = fold.NewEngine(ctx, e.runtime, e.options.PoolSize)
	return err
}

// Close ends the engine; calls that are under way must have ended.
func (e *Engine) Close() error {
	close(e.stop)
	e.worker.Wait()
	return e.release()
}

func (e *Engine) release() (err error) {
	for _, t := range e.tenants {
		if t.folder != nil {
			err = errors.Join(err, t.folder.Close())
		}
	}
	if e.guests != nil {
		err = errors.Join(err, e.guests.Close())
	}
	if e.runtime != nil {
		err = errors.Join(err, e.runtime.Close(context.Background()))
	}
	if e.log != nil {
		err = errors.Join(err, e.log.Close())
	}
	return err
}

// Stats returns the live counters.
func (e *Engine) Stats() *Stats { return &e.stats }

// LogStats returns a copy of the log's counters.
func (e *Engine) LogStats() seglog.Stats { return e.log.Stats() }

// Host returns the live counters of the guests' host.
func (e *Engine) Host() *host.Stats { return e.runtime.Stats() }

// tenant finds a tenant; nil if it has no events and create is not set.
func (e *Engine) tenant(id uint32, create bool) *tenant {
	e.mu.Lock()
	defer e.mu.Unlock()
	t := e.tenants[id]
	if t != nil {
		return t
	}
	if _, last := e.log.Range(id); last == 0 && !create {
		return nil
	}
	t = &tenant{engine: e, id: id}
	e.tenants[id] = t
	return t
}

// start gives a folder with nothing folded.
func (e *Engine) start() (fold.Folder, error) {
	if e.options.Native {
		return &fold.Native{}, nil
	}
	g, err := e.guests.Start(context.Background())
	if err != nil {
		return nil, err
	}
	return g, nil
}

// keep notes that the tenant's guest was used and makes room for it. The caller
// holds t.run.
func (e *Engine) keep(t *tenant) error {
	e.mu.Lock()
	if t.place == nil {
		t.place = e.warm.PushFront(t)
	} else {
		e.warm.MoveToFront(t.place)
	}
	var victim *tenant
	if e.warm.Len() > max(0, e.options.WarmMax) {
		victim = e.warm.Remove(e.warm.Back()).(*tenant)
		victim.place = nil
	}
	e.mu.Unlock()
	if victim == nil {
		return nil
	}
	if victim != t {
		if !victim.run.TryLock() {
			e.restore(victim)
			return nil // in use: another one goes the next time
		}
		defer victim.run.Unlock()
		e.stats.Evicted.Add(1)
	}
	return victim.drop()
}

// restore puts a tenant that was not evicted back into the list.
func (e *Engine) restore(t *tenant) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if t.place == nil {
		t.place = e.warm.PushFront(t)
	}
}

// forget takes a tenant whose guest was dropped out of the list.
func (e *Engine) forget(t *tenant) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if t.place != nil {
		e.warm.Remove(t.place)
		t.place = nil
	}
}
