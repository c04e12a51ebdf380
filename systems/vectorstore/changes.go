package vectorstore

import (
	"context"
	"fmt"
)

const nameLenMax = 255

// CreateCollection makes an empty collection. Errors: ErrExists, ErrInvalid.
func (s *Store) CreateCollection(ctx context.Context, name string, config CollectionConfig) error {
	if name == "" || len(name) > nameLenMax {
		return fmt.Errorf("%w: collection name of %d bytes, want 1 to %d", ErrInvalid, len(name), nameLenMax)
	}
	if err := config.check(); err != nil {
		return err
	}
	if _, err := s.collection(name); err == nil {
		return fmt.Errorf("%w: Collection `%s` already exists", ErrExists, name)
	}
	_, err := s.change(ctx, &op{kind: opCreateCollection, collection: name, config: config})
	return err
}

// DeleteCollection removes a collection and all in it. Error: ErrNotFound.
func (s *Store) DeleteCollection(ctx context.Context, name string) error {
	return s.simple(ctx, &op{kind: opDeleteCollection, collection: name})
}

// SetIndexFromBytes changes from which size on a collection is indexed.
func (s *Store) SetIndexFromBytes(ctx context.Context, name string, bytes int64) error {
	return s.simple(ctx, &op{kind: opUpdateCollection, collection: name, config: CollectionConfig{IndexFromBytes: bytes}})
}

// CreateFieldIndex indexes the values of a payload key.
func (s *Store) CreateFieldIndex(ctx context.Context, name, key string, kind IndexType) error {
	if _, err := NewKey(key); err != nil {
		return err
	}
	if kind >= indexTypes {
		return fmt.Errorf("%w: index of type %d", ErrInvalid, kind)
	}
	return s.simple(ctx, &op{kind: opCreateIndex, collection: name, keys: []string{key}, indexType: kind})
}

// DeleteFieldIndex removes an index.
func (s *Store) DeleteFieldIndex(ctx context.Context, name, key string) error {
	return s.simple(ctx, &op{kind: opDeleteIndex, collection: name, keys: []string{key}})
}

func (s *Store) simple(ctx context.Context, o *op) error {
	if _, err := s.collection(o.collection); err != nil {
		return err
	}
	_, err := s.change(ctx, o)
	return err
}

// Upsert stores points; one whose id is there already is replaced. When it
// returns without error they are durable and searches see them. A long list is
// stored in several steps, in its order: after a crash its first part may be
// there and the rest not.
func (s *Store) Upsert(ctx context.Context, name string, points []Point) (Result, error) {
	return s.putPoints(ctx, opUpsert, name, points)
}

// UpdateVectors replaces the vectors of the points that are there; ErrNotFound
// names the first one that is not.
func (s *Store) UpdateVectors(ctx context.Context, name string, points []Point) (Result, error) {
	return s.putPoints(ctx, opUpdateVectors, name, points)
}

func (s *Store) putPoints(ctx context.Context, kind opKind, name string, points []Point) (Result, error) {
	c, err := s.collection(name)
	if err != nil {
		return Result{}, err
	}
	for _, p := range points {
		if err := c.checkVector(p.Vector); err != nil {
			return Result{}, err
		}
	}
	if len(points) == 0 {
		return Result{}, nil
	}
	points = normalized(points, c.table)
	perRecord := max(1, pointsPerRecordBytes/(4*c.table.Dim()+256))
	var total Result
	for {
		n := min(perRecord, len(points))
		got, err := s.change(ctx, &op{kind: kind, collection: name, points: points[:n]})
		total.Seq, total.Points = got.Seq, total.Points+got.Points
		if err != nil || n == len(points) {
			return total, err
		}
		points = points[n:]
	}
}

// Delete removes points.
func (s *Store) Delete(ctx context.Context, name string, which Selector) (Result, error) {
	return s.changeSelected(ctx, &op{kind: opDelete, collection: name, selector: which})
}

// SetPayload puts values into the payloads of points, at a path or, where it is
// empty, at the top. This and the following change the points of a list that are
// there, and return ErrNotFound for the first one that is not.
func (s *Store) SetPayload(ctx context.Context, name string, which Selector, payload Payload, at string) (Result, error) {
	o := &op{kind: opSetPayload, collection: name, selector: which, payload: payload}
	if at != "" {
		o.keys = []string{at}
	}
	return s.changeSelected(ctx, o)
}

// OverwritePayload replaces the payloads of points.
func (s *Store) OverwritePayload(ctx context.Context, name string, which Selector, payload Payload) (Result, error) {
	return s.changeSelected(ctx, &op{kind: opOverwritePayload, collection: name, selector: which, payload: payload})
}

// DeletePayload removes keys from the payloads of points.
func (s *Store) DeletePayload(ctx context.Context, name string, which Selector, keys []string) (Result, error) {
	return s.changeSelected(ctx, &op{kind: opDeletePayload, collection: name, selector: which, keys: keys})
}

// ClearPayload empties the payloads of points.
func (s *Store) ClearPayload(ctx context.Context, name string, which Selector) (Result, error) {
	return s.changeSelected(ctx, &op{kind: opClearPayload, collection: name, selector: which})
}

func (s *Store) changeSelected(ctx context.Context, o *op) (Result, error) {
	if _, err := s.collection(o.collection); err != nil {
		return Result{}, err
	}
	if err := o.selector.Filter.Check(); err != nil {
		return Result{}, err
	}
	for _, key := range o.keys {
		if _, err := parsePath(key); err != nil {
			return Result{}, err
		}
	}
	return s.change(ctx, o)
}
