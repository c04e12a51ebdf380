package surrealsource

import (
	"context"
	"fmt"

	surrealdb "github.com/surrealdb/surrealdb.go"
	"github.com/surrealdb/surrealdb.go/pkg/models"

	"github.com/nexuscore-labs/nexus/systems/cdc/sink"
)

// Records reads a SurrealDB's tables through its client: the other way to a
// record, where its value can't be read from the batch, and what a resync
// compares with. It implements sink.Source.
type Records struct {
	DB *surrealdb.DB
	// Tables are by collection.
	Tables  map[string]string
	Vector  string
	Payload []string
	// Fingerprint is the target's.
	Fingerprint func(c sink.Change) (uint64, error)
	// Repaired, if set, hears of records that a resync reads.
	Repaired func(collection, point string)
}

var _ sink.Source = (*Records)(nil)

// pageLen is how many records one query of a scan asks for.
const pageLen = 500

// Read returns a record as it is now.
func (r *Records) Read(ctx context.Context, collection, point string) (sink.Change, error) {
	if r.Repaired != nil {
		r.Repaired(collection, point)
	}
	return r.Reread(ctx, collection, point)
}

// Reread is Read for the source itself, which Repaired doesn't hear of.
func (r *Records) Reread(ctx context.Context, collection, point string) (sink.Change, error) {
	gone := sink.Change{Collection: collection, Key: point, Delete: true}
	id, err := recordOf(point)
	if err != nil {
		return gone, err
	}
	found, err := surrealdb.Query[[]map[string]any](ctx, r.DB, "SELECT * FROM $record", map[string]any{"record": id})
	if err != nil {
		return gone, fmt.Errorf("read record %s: %w", point, err)
	}
	for _, record := range (*found)[0].Result {
		return r.ChangeAt(collection, point, record)
	}
	return gone, nil
}

// Change makes a change of a record as the client gives it. Without a vector it is
// a deletion.
func (r *Records) Change(collection string, record map[string]any) (sink.Change, error) {
	id, err := idOf(record)
	if err != nil {
		return sink.Change{}, err
	}
	point, err := pointKeyOf(id)
	if err != nil {
		return sink.Change{}, err
	}
	return r.ChangeAt(collection, point, record)
}

// RecordKey is PointKey of what the client calls a record.
func RecordKey(id *models.RecordID) (string, error) { return pointKeyOf(id) }

// ChangeAt is Change of fields that come without their id.
func (r *Records) ChangeAt(collection, point string, record map[string]any) (sink.Change, error) {
	c := sink.Change{Collection: collection, Key: point}
	list, isList := record[r.Vector].([]any)
	if !isList {
		c.Delete = true
		return c, nil
	}
	for _, element := range list {
		switch x := element.(type) {
		case float64:
			c.Vector = append(c.Vector, float32(x))
		case float32:
			c.Vector = append(c.Vector, x)
		case int64:
			c.Vector = append(c.Vector, float32(x))
		case uint64:
			c.Vector = append(c.Vector, float32(x))
		default:
			return c, fmt.Errorf("%w: the vector of %s holds a %T", sink.ErrRejected, point, element)
		}
	}
	for _, name := range r.Payload {
		if v, found := record[name]; found {
			if c.Payload == nil {
				c.Payload = map[string]any{}
			}
			if n, unsigned := v.(uint64); unsigned {
				v = int64(n) // as the engine's own layout has it
			}
			c.Payload[name] = v
		}
	}
	return c, nil
}

// Scan gives every record with a vector, table by table, in the order of ids.
func (r *Records) Scan(ctx context.Context, visit func(sink.Entry) error) error {
	for collection, table := range r.Tables {
		if err := r.scan(ctx, collection, table, visit); err != nil {
			return fmt.Errorf("scan table %s: %w", table, err)
		}
	}
	return nil
}

func (r *Records) scan(ctx context.Context, collection, table string, visit func(sink.Entry) error) error {
	var last *models.RecordID
	for {
		query, vars := "SELECT * FROM type::table($table) ORDER BY id LIMIT $limit", map[string]any{"table": table, "limit": pageLen}
		if last != nil {
			query, vars["last"] = "SELECT * FROM type::table($table) WHERE id > $last ORDER BY id LIMIT $limit", *last
		}
		page, err := surrealdb.Query[[]map[string]any](ctx, r.DB, query, vars)
		if err != nil {
			return err
		}
		records := (*page)[0].Result
		for _, record := range records {
			id, err := idOf(record)
			if err != nil {
				return err
			}
			last = id
			if err := r.visit(collection, id, record, visit); err != nil {
				return err
			}
		}
		if len(records) < pageLen {
			return nil
		}
	}
}

func (r *Records) visit(collection string, id *models.RecordID, record map[string]any, visit func(sink.Entry) error) error {
	point, err := pointKeyOf(id)
	if err != nil {
		return err
	}
	c, err := r.ChangeAt(collection, point, record)
	if err != nil || c.Delete {
		return err
	}
	fingerprint, err := r.Fingerprint(c)
	if err != nil {
		return err
	}
	return visit(sink.Entry{Collection: collection, Key: point, Fingerprint: fingerprint})
}

func idOf(record map[string]any) (*models.RecordID, error) {
	switch id := record["id"].(type) {
	case models.RecordID:
		return &id, nil
	case *models.RecordID:
		return id, nil
	}
	return nil, fmt.Errorf("%w: a record whose id is a %T", ErrID, record["id"])
}
