package day20

import (
	"context"
	"errors"
	"time"

	surrealdb "github.com/surrealdb/surrealdb.go"

	"github.com/nexuscore-labs/nexus/bpf/rocksprobe"
	"github.com/nexuscore-labs/nexus/systems/cdc/feeds"
	"github.com/nexuscore-labs/nexus/systems/cdc/pipeline"
	"github.com/nexuscore-labs/nexus/systems/cdc/sink"
)

// startProbe is the subject.
func startProbe(ctx context.Context, t *trial) (follower, error) {
	routes, err := rocksprobe.OpenRoutes("")
	if err != nil {
		return nil, err
	}
	if _, err := routes.Set(rocksprobe.Route{Table: table, Collection: trialName(t.dir), Theta: float32(t.w.theta)}); err != nil {
		return nil, errors.Join(err, routes.Close())
	}
	p, err := pipeline.Start(ctx, pipeline.Options{Server: t.surreal, Namespace: namespace, Database: trialName(t.dir), Qdrant: t.client,
		Dir: t.dir, Routes: routes, Vector: fieldV, Payload: []string{fieldN}, Captured: t.seen.captured, Applied: t.seen.saw,
		Skipped: func(c sink.Change) { t.seen.saw([]sink.Change{c}) }})
	if err != nil {
		return nil, errors.Join(err, routes.Close())
	}
	return func(ctx context.Context) error {
		counters, err := p.Counters()
		time.Sleep(100 * time.Millisecond) // writes whose wait was given up are followed too
		source := p.Source()
		for name, value := range map[string]uint64{
			"captured_count": source.Changes.Load(), "skipped_count": source.Skipped.Load(), "reread_count": source.Reread.Load(),
			"lost_count": counters.Lost(), "resyncs_count": p.Resyncs(), "refused_count": counters.Refused,
		} {
			t.stat(name, float64(value))
		}
		if n := source.Changes.Load(); n > 0 {
			t.stat("delta_check_ns", float64(source.CheckedNs.Load())/float64(n))
		}
		return errors.Join(err, p.Close(ctx), routes.Close())
	}, nil
}

// overlap is how far a poll looks back: longer than any statement takes to commit.
const overlap = 2 * time.Second

func startPolling(ctx context.Context, t *trial) (follower, error) {
	if _, err := surrealdb.Query[any](ctx, t.db, feeds.PollDefinition(table), nil); err != nil {
		return nil, err
	}
	return t.feed(ctx, func(following context.Context, f feeds.Table) []func() error {
		return []func() error{func() error { return feeds.Poll(following, f, t.w.poll, overlap) }}
	})
}

// topic is what the outbox is published to.
const topic = "nexus-day20"

func startOutbox(ctx context.Context, t *trial) (follower, error) {
	name := topic + "-" + trialName(t.dir)
	kafka, err := feeds.OpenKafka(name)
	if err != nil {
		return nil, err
	}
	if _, err := surrealdb.Query[any](ctx, t.db, feeds.OutboxDefinition(table), nil); err != nil {
		kafka.Close()
		return nil, err
	}
	t.statement = func(change string) string { return "BEGIN; " + change + "; " + feeds.OutboxEntry(table) + "; COMMIT" }
	stop, err := t.feed(ctx, func(following context.Context, f feeds.Table) []func() error {
		return []func() error{
			func() error { return feeds.Relay(following, f, kafka, name, t.w.relay) },
			func() error { return feeds.Consume(following, f, kafka, name) },
		}
	})
	if err != nil {
		kafka.Close()
		return nil, err
	}
	return func(ctx context.Context) error {
		defer kafka.Close()
		return stop(ctx)
	}, nil
}

func startLive(ctx context.Context, t *trial) (follower, error) {
	ready := make(chan struct{})
	stop, err := t.feed(ctx, func(following context.Context, f feeds.Table) []func() error {
		return []func() error{func() error { return feeds.Live(following, f, func() { close(ready) }) }}
	})
	if err != nil {
		return nil, err
	}
	select {
	case <-ready:
		return stop, nil
	case <-t.running.Done():
		return nil, errors.Join(context.Cause(t.running), stop(ctx))
	}
}
