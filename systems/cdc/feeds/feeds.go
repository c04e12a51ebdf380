// Package feeds are the usual ways to bring changes of a SurrealDB to a vector
// store, each as a competent engineer would build it: to poll, to subscribe to
// the store's own notifications, to write an outbox that goes through Kafka. They
// end in the same sink as the probe.
package feeds

import (
	"context"
	"errors"
	"fmt"
	"time"

	surrealdb "github.com/surrealdb/surrealdb.go"
	"github.com/surrealdb/surrealdb.go/pkg/connection"
	"github.com/surrealdb/surrealdb.go/pkg/models"

	"github.com/nexuscore-labs/nexus/systems/cdc/sink"
	"github.com/nexuscore-labs/nexus/systems/cdc/surrealsource"
)

// Table is what a feed follows.
type Table struct {
	DB         *surrealdb.DB
	Name       string
	Collection string
	Records    *surrealsource.Records
	Put        func(ctx context.Context, c sink.Change) error
}

func query[T any](ctx context.Context, db *surrealdb.DB, text string, vars map[string]any) (T, error) {
	found, err := surrealdb.Query[T](ctx, db, text, vars)
	if err != nil {
		var none T
		return none, err
	}
	return (*found)[0].Result, nil
}

// UpdatedField is the time of a record's last change, which Poll looks at. The
// table's definition makes the store fill it in.
const UpdatedField = "updated"

// PollDefinition is what polling asks of a table: a time that every write sets,
// and an index to find the latest by.
func PollDefinition(table string) string {
	return fmt.Sprintf("DEFINE FIELD %s ON %s VALUE time::now(); DEFINE INDEX by_%s ON %s FIELDS %s", UpdatedField, table, UpdatedField, table, UpdatedField)
}

// Poll asks for what changed since the last time, every interval, and for the
// ids that are gone. The time of a record is that of its statement, not of its
// commit, so each poll looks back by overlap and knows what it has seen.
func Poll(ctx context.Context, t Table, interval, overlap time.Duration) error {
	p := poller{Table: t, seen: map[string]time.Time{}}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		began := time.Now().UTC()
		if err := p.poll(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("poll table %s: %w", t.Name, err)
		}
		p.since = began.Add(-overlap)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

type poller struct {
	Table
	since    time.Time
	seen     map[string]time.Time // time of the last change that was put, by point
	position uint64
}

func (p *poller) poll(ctx context.Context) error {
	text := fmt.Sprintf("SELECT * FROM %s WHERE %s >= $since ORDER BY %s", p.Name, UpdatedField, UpdatedField)
	since := models.CustomDateTime{Time: p.since}
	if p.since.IsZero() {
		since.Time = time.Unix(0, 0)
	}
	changed, err := query[[]map[string]any](ctx, p.DB, text, map[string]any{"since": since})
	if err != nil {
		return err
	}
	for _, record := range changed {
		if err := p.take(ctx, record); err != nil {
			return err
		}
	}
	return p.dropGone(ctx)
}

func (p *poller) take(ctx context.Context, record map[string]any) error {
	at, isTime := timeOf(record[UpdatedField])
	if !isTime {
		return fmt.Errorf("%s is a %T", UpdatedField, record[UpdatedField])
	}
	c, err := p.Records.Change(p.Collection, record)
	if err != nil {
		return err
	}
	if last, known := p.seen[c.Key]; known && !at.After(last) {
		return nil
	}
	p.seen[c.Key] = at
	p.position++
	c.Position = p.position
	return p.Put(ctx, c)
}

func timeOf(v any) (time.Time, bool) {
	switch x := v.(type) {
	case time.Time:
		return x, true
	case models.CustomDateTime:
		return x.Time, true
	case *models.CustomDateTime:
		return x.Time, true
	}
	return time.Time{}, false
}

// dropGone finds deletions, which leave nothing behind to ask for: by all ids.
func (p *poller) dropGone(ctx context.Context) error {
	ids, err := query[[]models.RecordID](ctx, p.DB, "SELECT VALUE id FROM "+p.Name, nil)
	if err != nil {
		return err
	}
	there := make(map[string]bool, len(ids))
	for i := range ids {
		key, err := surrealsource.RecordKey(&ids[i])
		if err != nil {
			return err
		}
		there[key] = true
	}
	for key := range p.seen {
		if there[key] {
			continue
		}
		delete(p.seen, key)
		p.position++
		if err := p.Put(ctx, sink.Change{Position: p.position, Collection: p.Collection, Key: key, Delete: true}); err != nil {
			return err
		}
	}
	return nil
}

// ErrLiveEnded says that the store ended a live query: what was written since is
// to be found by a resync.
var ErrLiveEnded = errors.New("feeds: the live query ended")

// Live subscribes to the table's notifications. It calls ready once they come,
// and returns when ctx ends, or with ErrLiveEnded.
func Live(ctx context.Context, t Table, ready func()) error {
	id, err := surrealdb.Live(ctx, t.DB, models.Table(t.Name), false)
	if err != nil {
		return fmt.Errorf("subscribe to table %s: %w", t.Name, err)
	}
	notes, err := t.DB.LiveNotifications(id.String())
	if err != nil {
		return fmt.Errorf("subscribe to table %s: %w", t.Name, err)
	}
	ready()
	var position uint64
	for {
		select {
		case <-ctx.Done():
			return nil
		case note, open := <-notes:
			if !open {
				return ErrLiveEnded
			}
			position++
			if err := t.notified(ctx, note, position); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return err
			}
		}
	}
}

func (t Table) notified(ctx context.Context, note connection.Notification, position uint64) error {
	switch note.Action {
	case connection.CreateAction, connection.UpdateAction, connection.DeleteAction:
	default: // the store killed the query
		return fmt.Errorf("%w: %s", ErrLiveEnded, note.Action)
	}
	record, isRecord := note.Result.(map[string]any)
	if !isRecord {
		return fmt.Errorf("a notification of table %s holds a %T", t.Name, note.Result)
	}
	c, err := t.Records.Change(t.Collection, record)
	if err != nil {
		return err
	}
	if note.Action == connection.DeleteAction {
		c.Delete, c.Vector, c.Payload = true, nil, nil
	}
	c.Position = position
	return t.Put(ctx, c)
}
