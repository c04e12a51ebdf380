package day20

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"time"

	surrealdb "github.com/surrealdb/surrealdb.go"
	"github.com/surrealdb/surrealdb.go/pkg/models"

	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/scenarios"
	"github.com/nexuscore-labs/nexus/systems/cdc/feeds"
	"github.com/nexuscore-labs/nexus/systems/cdc/qdranttarget"
	"github.com/nexuscore-labs/nexus/systems/cdc/sink"
	"github.com/nexuscore-labs/nexus/systems/cdc/surrealsource"
)

// contenders are all of the lab's. All have the same store, the same writers and
// the same sink; they differ in how a change comes from the one to the other.
func contenders() []scenarios.Contender {
	return []scenarios.Contender{
		contender("uprobe-cdc", reports.RoleSubject, "a probe on the store's RocksDB publishes what commits; a Wasm guest leaves out what hardly moved", startProbe),
		contender("polling", reports.RoleBaseline, "asks every poll_interval for what changed since, by an indexed time, and for the ids that are gone", startPolling),
		contender("outbox-kafka", reports.RoleBaseline, "each transaction writes an outbox entry too, which a relay moves to Kafka every relay_interval; a consumer reads it from there", startOutbox),
		contender("live-select", reports.RolePeer, "SurrealDB's own notifications, LIVE SELECT", startLive),
	}
}

// trial is what a contender's way of following gets to work with.
type trial struct {
	*stores
	w       workload
	seen    *visible
	running context.Context
	failed  context.CancelCauseFunc
	// statement is what a writer runs for a change, with the change's own in it;
	// a contender that needs more of the writer changes it.
	statement func(change string) string
	stat      func(name string, value float64)
}

// follower ends a way of following; it hands over what it has first.
type follower func(ctx context.Context) error

func contender(name, role, doc string, start func(ctx context.Context, t *trial) (follower, error)) scenarios.Contender {
	return scenarios.Contender{
		Name: name, Role: role, Doc: doc,
		Durability: "the write is committed, and a search of the vector store finds it",
		Version:    func() string { return name + " on SurrealDB and Qdrant's protocol" },
		Serve: func(ctx context.Context, env scenarios.ServeEnv) error {
			if err := serveTrial(ctx, env, start); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		},
	}
}

func serveTrial(ctx context.Context, env scenarios.ServeEnv, start func(ctx context.Context, t *trial) (follower, error)) (err error) {
	w, err := workloadOf(env.Params)
	if err != nil {
		return err
	}
	s, err := openStores(ctx, env.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.makeCollection(ctx, w.dim); err != nil {
		return err
	}
	running, failed := context.WithCancelCause(ctx)
	defer failed(nil)
	t := &trial{stores: s, w: w, seen: newVisible(), running: running, failed: failed,
		statement: func(change string) string { return change }, stat: env.Stat}
	stop, err := start(ctx, t)
	if err != nil {
		return err
	}
	listener, err := listen(env)
	if err != nil {
		return errors.Join(err, stop(context.Background()))
	}
	if err := env.Ready(listener.Addr().String()); err != nil {
		return errors.Join(err, stop(context.Background()))
	}
	err = serve(running, listener, t.handle)
	err = errors.Join(err, stop(context.Background()))
	t.report()
	if cause := context.Cause(running); ctx.Err() == nil && cause != nil {
		err = errors.Join(err, cause)
	}
	return err
}

func listen(env scenarios.ServeEnv) (net.Listener, error) {
	address := "127.0.0.1:0"
	if env.Network == "unix" {
		address = filepath.Join(env.Dir, "s")
	}
	listener, err := net.Listen(env.Network, address)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return listener, nil
}

// handle writes a change, as an application would.
func (t *trial) handle(ctx context.Context, c change) (func(context.Context) error, error) {
	if c.rolledBack {
		if err := t.rollBack(ctx, c); err != nil {
			return nil, err
		}
	}
	statement, vars := "UPSERT $record SET v = $v, n = $n", map[string]any{"record": models.NewRecordID(table, c.id), "n": c.n}
	if c.op == opDelete {
		statement = "DELETE $record"
	} else {
		vars["v"] = c.vector(t.w.dim)
	}
	committed, wait := t.seen.expect(fmt.Sprintf("%s:i:%d", table, c.id), c)
	if _, err := surrealdb.Query[any](ctx, t.db, t.statement(statement), vars); err != nil {
		return nil, fmt.Errorf("write record %d: %w", c.id, err)
	}
	committed()
	return wait, nil
}

var errCommitted = errors.New("a cancelled transaction reports nothing")

// rollBack cancels a transaction that wrote a record of its own and the change's.
func (t *trial) rollBack(ctx context.Context, c change) error {
	vars := map[string]any{"record": models.NewRecordID(table, c.id), "other": models.NewRecordID(table, rolledBackID+c.id),
		"v": change{id: c.id, n: 1 << 50, meaning: 1 << 50}.vector(t.w.dim)}
	_, err := surrealdb.Query[any](ctx, t.db, "BEGIN; UPSERT $record SET v = $v, n = 0; UPSERT $other SET v = $v, n = 0; CANCEL", vars)
	if err == nil {
		return errCommitted
	}
	return ctx.Err()
}

// report gives the runner the contender's own numbers.
func (t *trial) report() {
	times := t.seen.freshness()
	slices.Sort(times)
	for name, q := range map[string]float64{"freshness_p50_ns": 0.5, "freshness_p99_ns": 0.99} {
		if len(times) > 0 {
			t.stat(name, times[min(len(times)-1, int(q*float64(len(times))))])
		}
	}
	t.stat("freshness_count", float64(len(times)))
	t.stat("visible_early_count", float64(t.seen.early))
}

// told is a sink's target that says what has become visible.
type told struct {
	sink.Target
	seen *visible
}

func (a told) Apply(ctx context.Context, changes []sink.Change) error {
	err := a.Target.Apply(ctx, changes)
	if err == nil {
		a.seen.saw(changes)
	}
	return err
}

func (t *trial) sinkOptions() sink.Options {
	return sink.Options{DeadLetterFile: filepath.Join(t.dir, "dead-letters.jsonl")}
}

// feed runs the parts of a feed in front of a sink of their own.
func (t *trial) feed(ctx context.Context, parts func(ctx context.Context, f feeds.Table) []func() error) (follower, error) {
	target, err := sink.New(told{qdranttarget.New(t.client), t.seen}, t.sinkOptions())
	if err != nil {
		return nil, err
	}
	db, err := t.surreal.Connect(ctx, namespace, trialName(t.dir))
	if err != nil {
		return nil, errors.Join(err, target.Close(ctx))
	}
	following, stop := context.WithCancel(context.Background())
	f := feeds.Table{DB: db, Name: table, Collection: trialName(t.dir), Put: target.Put,
		Records: &surrealsource.Records{DB: db, Vector: fieldV, Payload: []string{fieldN}}}
	running := parts(following, f)
	ended := make(chan error, len(running))
	for _, part := range running {
		go func() {
			err := part()
			if err != nil {
				t.failed(err)
			}
			ended <- err
		}()
	}
	return func(ctx context.Context) error {
		time.Sleep(2 * t.w.poll) // writes whose wait was given up are followed too
		stop()
		var errs []error
		for range running {
			errs = append(errs, <-ended)
		}
		errs = append(errs, target.Close(ctx))
		_ = db.Close(ctx)
		return errors.Join(errs...)
	}, nil
}
