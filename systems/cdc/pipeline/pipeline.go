// Package pipeline keeps a vector store equal to a SurrealDB, from inside of the
// store's write path: the probe on its RocksDB, the source that reads what it
// publishes, the judge in Wasm, the sink, Qdrant's client.
//
// What the probe can't promise, a resync does: everything before it was
// attached, what a full ring lost, what it could not read. It runs at the start
// and after each loss, while changes go on.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/qdrant/go-client/qdrant"
	surrealdb "github.com/surrealdb/surrealdb.go"

	"github.com/nexuscore-labs/nexus/bpf/rocksprobe"
	"github.com/nexuscore-labs/nexus/components/delta"
	"github.com/nexuscore-labs/nexus/components/host"
	"github.com/nexuscore-labs/nexus/systems/cdc/qdranttarget"
	"github.com/nexuscore-labs/nexus/systems/cdc/sink"
	"github.com/nexuscore-labs/nexus/systems/cdc/surrealsource"
	"github.com/nexuscore-labs/nexus/systems/surreal"
)

// Options of Start.
type Options struct {
	Server              *surreal.Server // its RocksDB must be on this machine
	Namespace, Database string
	Qdrant              *qdrant.Client
	Dir                 string // for rejected changes
	// Routes say which tables go to which collections. Changing them while the
	// pipeline runs holds from the next commit on; what was there before comes with
	// the next resync.
	Routes *rocksprobe.Routes
	// Vector is the field with the record's vector, Payload those that go along.
	Vector  string
	Payload []string
	// EveryChange leaves the judge out: whatever moves is published.
	EveryChange bool
	Probe       rocksprobe.Options // Process and Routes are filled in
	Sink        sink.Options       // DeadLetterFile is filled in
	// Captured, if set, hears of every change with the time of its commit, by
	// CLOCK_MONOTONIC.
	Captured func(c sink.Change, committedNs uint64)
	// Applied, if set, hears of changes once a search finds them, Skipped of those
	// that moved too little.
	Applied func(changes []sink.Change)
	Skipped func(c sink.Change)
}

// judgeKeysMax bounds the vectors that the judge remembers of a collection,
// judgeMemoryMax its memory.
const (
	judgeKeysMax   = 16 << 10
	judgeMemoryMax = host.MemoryLenMax
)

// Pipeline is running until Close. Its methods are safe for concurrent use.
type Pipeline struct {
	o       Options
	probe   *rocksprobe.Probe
	source  *surrealsource.Source
	sink    *sink.Sink
	target  *qdranttarget.Target
	db      *surrealdb.DB
	wasm    *host.Runtime
	judges  *delta.Engine
	stop    context.CancelFunc
	wg      sync.WaitGroup
	losses  chan struct{} // holds at most one: a resync finds all that is lost
	resyncs atomic.Uint64
	mu      sync.Mutex
	err     error
	closed  bool
}

// applied tells Options.Applied of what the target took.
type applied struct {
	sink.Target
	tell func([]sink.Change)
}

func (a applied) Apply(ctx context.Context, changes []sink.Change) error {
	err := a.Target.Apply(ctx, changes)
	if err == nil && a.tell != nil {
		a.tell(changes)
	}
	return err
}

// Start attaches the probe, proves it with a known write, and returns when the
// collections equal the tables. Collections must exist.
func Start(ctx context.Context, o Options) (*Pipeline, error) {
	p := &Pipeline{o: o, losses: make(chan struct{}, 1)}
	if err := p.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start the pipeline: %w", err), p.Close(ctx))
	}
	return p, nil
}

func (p *Pipeline) start(ctx context.Context) error {
	if err := surreal.KnownLayout(p.o.Server.Version); err != nil {
		return err
	}
	var err error
	if p.db, err = p.o.Server.Connect(ctx, p.o.Namespace, p.o.Database); err != nil {
		return err
	}
	if err := p.attach(ctx); err != nil {
		return err
	}
	if err := p.openJudges(ctx); err != nil {
		return err
	}
	p.target = qdranttarget.New(p.o.Qdrant)
	p.o.Sink.DeadLetterFile = filepath.Join(p.o.Dir, "dead-letters.jsonl")
	if p.sink, err = sink.New(applied{p.target, p.o.Applied}, p.o.Sink); err != nil {
		return err
	}
	if p.source, err = surrealsource.New(p.sourceOptions()); err != nil {
		return err
	}
	running, stop := context.WithCancel(context.Background())
	p.stop = stop
	p.wg.Go(func() { p.note(p.source.Run(running)) })
	if _, err := p.Resync(ctx); err != nil {
		return err
	}
	p.wg.Go(func() { p.repair(running) })
	return nil
}

// proofTable is where the known write goes.
const proofTable = "nexus_probe_proof"

// attach puts the probe on the server's RocksDB and demands a known write back.
func (p *Pipeline) attach(ctx context.Context) error {
	if p.o.Server.Library == "" || p.o.Server.Process == 0 {
		return fmt.Errorf("a %s: its RocksDB is not known to be on this machine, so there is nothing to probe", p.o.Server.Kind)
	}
	target, err := rocksprobe.Resolve(p.o.Server.Library)
	if err != nil {
		return err
	}
	p.o.Probe.Process, p.o.Probe.Routes = p.o.Server.Process, p.o.Routes
	if p.probe, err = rocksprobe.Open(target, p.o.Probe); err != nil {
		return err
	}
	proof := rocksprobe.Route{Table: proofTable, Collection: proofTable}
	if _, err := p.o.Routes.Set(proof); err != nil {
		return err
	}
	err = p.probe.Prove(ctx, func(nonce string) error {
		_, err := surrealdb.Query[any](ctx, p.db, "CREATE type::record($table, $nonce)", map[string]any{"table": proofTable, "nonce": nonce})
		return err
	}, nil)
	return errors.Join(err, p.o.Routes.Delete(proof))
}

func (p *Pipeline) openJudges(ctx context.Context) error {
	if p.o.EveryChange {
		return nil
	}
	var err error
	if p.wasm, err = host.New(ctx, ""); err != nil {
		return err
	}
	p.judges, err = delta.NewEngine(ctx, p.wasm, judgeMemoryMax)
	return err
}

func (p *Pipeline) sourceOptions() surrealsource.Options {
	records := p.records(nil)
	o := surrealsource.Options{
		Probe: p.probe, Route: p.o.Routes.Lookup, Put: p.sink.Put, Reread: records.Reread, Captured: p.o.Captured, Skipped: p.o.Skipped,
		Vector: p.o.Vector, Payload: p.o.Payload,
		Lost: func() {
			select {
			case p.losses <- struct{}{}:
			default: // the resync that is asked for already has not begun
			}
		},
	}
	if !p.o.EveryChange {
		o.Checker = func(_ string, dim int) (delta.Checker, error) {
			return p.judges.Tenant(delta.Options{Dim: dim, Capacity: min(judgeKeysMax, judgeMemoryMax/(8*dim))})
		}
	}
	return o
}

func (p *Pipeline) records(tables map[string]string) *surrealsource.Records {
	return &surrealsource.Records{DB: p.db, Tables: tables, Vector: p.o.Vector, Payload: p.o.Payload,
		Fingerprint: qdranttarget.Fingerprint}
}

// Resync makes the collections of all routes equal their tables.
func (p *Pipeline) Resync(ctx context.Context) (sink.Report, error) {
	p.resyncs.Add(1)
	routes, err := p.o.Routes.List()
	if err != nil {
		return sink.Report{}, err
	}
	tables := map[string]string{}
	for _, r := range routes {
		if other, taken := tables[r.Collection]; taken && other != r.Table {
			return sink.Report{}, fmt.Errorf("resync: tables %s and %s share the collection %s", other, r.Table, r.Collection)
		}
		tables[r.Collection] = r.Table
	}
	records := p.records(tables)
	records.Repaired = p.source.Forget
	return p.sink.Resync(ctx, records, func(ctx context.Context, visit func(sink.Entry) error) error {
		for collection := range tables {
			if err := p.target.Scan(ctx, collection, visit); err != nil {
				return err
			}
		}
		return nil
	})
}

// repair resyncs after losses.
func (p *Pipeline) repair(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.losses:
			if _, err := p.Resync(ctx); err != nil && ctx.Err() == nil {
				p.note(fmt.Errorf("resync after a loss: %w", err))
			}
		}
	}
}

func (p *Pipeline) note(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = errors.Join(p.err, err)
}

// Err returns what ended the pipeline or made a resync fail, nil while all is well.
func (p *Pipeline) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Source returns the counters of the source, Sink those of the sink.
func (p *Pipeline) Source() *surrealsource.Stats { return p.source.Stats() }

// Sink returns the counters of the sink.
func (p *Pipeline) Sink() *sink.Stats { return p.sink.Stats() }

// Resyncs returns how many resyncs were begun, the first at the start.
func (p *Pipeline) Resyncs() uint64 { return p.resyncs.Load() }

// Counters returns what the probe counted.
func (p *Pipeline) Counters() (rocksprobe.Counters, error) { return p.probe.Counters() }

// Close hands over what was captured, detaches the probe and ends everything. It
// may be called again.
func (p *Pipeline) Close(ctx context.Context) error {
	p.mu.Lock()
	again := p.closed
	p.closed = true
	p.mu.Unlock()
	if again {
		return nil
	}
	var errs []error
	if p.probe != nil {
		errs = append(errs, p.probe.Close())
	}
	if p.stop != nil {
		p.stop()
	}
	p.wg.Wait()
	if p.sink != nil {
		errs = append(errs, p.sink.Close(ctx))
	}
	if p.wasm != nil {
		errs = append(errs, p.wasm.Close(ctx))
	}
	if p.db != nil {
		errs = append(errs, p.db.Close(ctx))
	}
	return errors.Join(append(errs, p.Err())...)
}
