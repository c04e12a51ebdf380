// Package pgaggregate computes projections on demand from events in PostgreSQL:
// every read pays for its answer. Totals and the newest orders come from SQL
// aggregates over indexes made for them; the best sellers, whose bounded count
// depends on the order of events, are folded from the tenant's rows.
//
// Orders must have numbers that a tenant uses once, as its own events have.
package pgaggregate

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	fold "github.com/nexuscore-labs/nexus/components/projection"
	"github.com/nexuscore-labs/nexus/systems/projection"
)

// snapshotVersion is what its answers carry: there are no snapshots.
const snapshotVersion = 1

const schema = `
CREATE TABLE IF NOT EXISTS events (
	tenant   bigint   NOT NULL,
	seq      bigint   NOT NULL,
	kind     smallint NOT NULL,
	quantity integer  NOT NULL,
	time_ms  bigint   NOT NULL,
	number   bigint   NOT NULL,
	product  bigint   NOT NULL,
	amount   bigint   NOT NULL,
	PRIMARY KEY (tenant, seq)
);
CREATE INDEX IF NOT EXISTS events_placed ON events (tenant, seq) WHERE kind = 1;
CREATE INDEX IF NOT EXISTS events_number ON events (tenant, number, seq) WHERE kind IN (2, 3, 4);
`

const totals = `
SELECT coalesce(max(seq), 0), count(*) FILTER (WHERE kind = 1), count(*) FILTER (WHERE kind = 2),
	count(*) FILTER (WHERE kind = 3), count(*) FILTER (WHERE kind = 4), count(*) FILTER (WHERE kind = 5),
	count(*) FILTER (WHERE kind NOT BETWEEN 1 AND 5),
	coalesce(sum(quantity) FILTER (WHERE kind = 1), 0)::bigint,
	coalesce(sum(amount) FILTER (WHERE kind = 2), 0)::bigint,
	coalesce(sum(amount) FILTER (WHERE kind = 4), 0)::bigint,
	coalesce((SELECT time_ms FROM events WHERE tenant = $1 AND kind BETWEEN 1 AND 5 ORDER BY seq DESC LIMIT 1), 0)
FROM events WHERE tenant = $1`

const newest = `
SELECT placed.time_ms, placed.number, placed.product, placed.amount, coalesce((
	SELECT kind FROM events later WHERE later.tenant = $1 AND later.number = placed.number
	AND later.kind IN (2, 3, 4) AND later.seq > placed.seq ORDER BY later.seq DESC LIMIT 1), 1)
FROM events placed WHERE tenant = $1 AND kind = 1 ORDER BY seq DESC LIMIT $2`

const everything = `
SELECT kind, quantity, time_ms, number, product, amount FROM events WHERE tenant = $1 ORDER BY seq`

// Store is a table of events. It is for concurrent use.
type Store struct {
	pool *pgxpool.Pool
}

// Open connects to a server and makes the table if there is none. connections
// bounds what is open at a time.
func Open(ctx context.Context, url string, connections int) (*Store, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("read PostgreSQL's URL: %w", err)
	}
	config.MaxConns = int32(connections)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	if _, err := pool.Exec(ctx, schema); err != nil {
		pool.Close()
		return nil, fmt.Errorf("make table of events: %w", err)
	}
	return &Store{pool}, nil
}

// Close ends the connections.
func (s *Store) Close() { s.pool.Close() }

// Load stores a tenant's events from sequence first on, by COPY.
func (s *Store) Load(ctx context.Context, tenant uint32, first uint64, events []fold.Event) error {
	columns := []string{"tenant", "seq", "kind", "quantity", "time_ms", "number", "product", "amount"}
	_, err := s.pool.CopyFrom(ctx, pgx.Identifier{"events"}, columns, pgx.CopyFromSlice(len(events), func(i int) ([]any, error) {
		e := &events[i]
		return []any{int64(tenant), int64(first) + int64(i), int16(e.Kind), int32(e.Quantity), int64(e.TimeMs), int64(e.Order), int64(e.Product), int64(e.Amount)}, nil
	}))
	if err != nil {
		return fmt.Errorf("store %d events of tenant %d: %w", len(events), tenant, err)
	}
	return nil
}

// Settle tells the planner what the table holds, after much was loaded.
func (s *Store) Settle(ctx context.Context) error {
	_, err := s.pool.Exec(ctx, "VACUUM ANALYZE events")
	return err
}

// Rebuild computes a projection, as systems/projection.Engine.Rebuild does.
func (s *Store) Rebuild(ctx context.Context, tenant, number uint32) (projection.Result, error) {
	view, ok := fold.ViewOf(number)
	if !ok {
		return projection.Result{}, fmt.Errorf("%w: %d", projection.ErrProjection, number)
	}
	view.Version = snapshotVersion
	var data []byte
	var seq uint64
	var err error
	if view.Top > 0 {
		data, seq, err = s.foldRows(ctx, tenant, view)
	} else {
		data, seq, err = s.aggregate(ctx, tenant, view)
	}
	if err != nil {
		return projection.Result{}, fmt.Errorf("aggregate events of tenant %d: %w", tenant, err)
	}
	if seq == 0 {
		return projection.Result{}, fmt.Errorf("%w: %d", projection.ErrTenant, tenant)
	}
	return projection.Result{Version: snapshotVersion, Seq: seq, Data: data}, nil
}

// aggregate asks for totals and orders in one round trip, both as of one moment.
func (s *Store) aggregate(ctx context.Context, tenant uint32, view fold.View) (data []byte, seq uint64, err error) {
	c := fold.Contents{Version: view.Version}
	var n fold.Counts
	var batch pgx.Batch
	batch.Queue(totals, int64(tenant)).QueryRow(func(row pgx.Row) error {
		return row.Scan(&c.Seq, &n.Placed, &n.Paid, &n.Shipped, &n.Cancelled, &n.Priced, &n.Refused, &n.Units, &c.Revenue, &n.Refunded, &n.TimeMs)
	})
	if view.Counts {
		c.Counts = &n
	}
	if view.Recent > 0 {
		batch.Queue(newest, int64(tenant), int32(view.Recent)).Query(func(rows pgx.Rows) (err error) {
			c.Recent, err = pgx.CollectRows(rows, scanOrder)
			return err
		})
	}
	// An implicit transaction holds the batch, but only this isolation gives both
	// statements the same rows.
	err = pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		return tx.SendBatch(ctx, &batch).Close()
	})
	if err != nil {
		return nil, 0, err
	}
	return c.Append(nil), c.Seq, nil
}

func scanOrder(row pgx.CollectableRow) (o fold.Order, err error) {
	var status int16
	err = row.Scan(&o.TimeMs, &o.Order, &o.Product, &o.Amount, &status)
	o.Status = fold.Kind(status)
	return o, err
}

// foldRows reads all of a tenant's events.
func (s *Store) foldRows(ctx context.Context, tenant uint32, view fold.View) (data []byte, seq uint64, err error) {
	rows, err := s.pool.Query(ctx, everything, int64(tenant))
	if err != nil {
		return nil, 0, err
	}
	var folder fold.Native
	var event fold.Event
	var kind int16
	var encoded []byte
	_, err = pgx.ForEachRow(rows, []any{&kind, &event.Quantity, &event.TimeMs, &event.Order, &event.Product, &event.Amount}, func() error {
		event.Kind = fold.Kind(kind)
		encoded = fold.AppendEvent(encoded[:0], event)
		seq, err = folder.Apply(encoded)
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	data, err = folder.Encode(nil, view)
	return data, seq, err
}
