package vectorstore

import "context"

// Changer changes points: those of a Store at once, those of a Batch together.
type Changer struct {
	store *Store
	do    func(context.Context, *op) (Result, error)
}

// Batch collects changes and makes them durable and visible with one commit.
// One goroutine uses it; results of its methods are empty until Commit.
type Batch struct {
	Changer
	ops []*op
}

// NewBatch begins a batch. What is not committed never happens.
func (s *Store) NewBatch() *Batch {
	b := &Batch{}
	b.Changer = Changer{s, func(_ context.Context, o *op) (Result, error) {
		b.ops = append(b.ops, o)
		return Result{}, nil
	}}
	return b
}

// Commit carries the changes out, in order and up to the first that fails. A
// long batch is stored in several steps, see Upsert.
func (b *Batch) Commit(ctx context.Context) (Result, error) {
	var total Result
	for len(b.ops) > 0 {
		record, size := &op{kind: opBatch}, 0
		for len(b.ops) > 0 && size < pointsPerRecordBytes {
			encoded, err := b.ops[0].encode(nil)
			if err != nil {
				return total, err
			}
			if len(record.batch) > 0 && size+len(encoded) > recordBytesMax/2 {
				break
			}
			record.batch, b.ops, size = append(record.batch, b.ops[0]), b.ops[1:], size+len(encoded)
		}
		got, err := b.store.change(ctx, record)
		total.Seq, total.Points = got.Seq, total.Points+got.Points
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// Upsert stores points; one whose id is there already is replaced. When it
// returns without error they are durable and searches see them. A long list is
// stored in several steps, in its order: after a crash its first part may be
// there and the rest not.
func (s *Changer) Upsert(ctx context.Context, name string, points []Point) (Result, error) {
	return s.putPoints(ctx, opUpsert, name, points)
}

// UpdateVectors replaces the vectors of the points that are there; ErrNotFound
// names the first one that is not.
func (s *Changer) UpdateVectors(ctx context.Context, name string, points []Point) (Result, error) {
	return s.putPoints(ctx, opUpdateVectors, name, points)
}

func (s *Changer) putPoints(ctx context.Context, kind opKind, name string, points []Point) (Result, error) {
	c, err := s.store.collection(name)
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
		got, err := s.do(ctx, &op{kind: kind, collection: name, points: points[:n]})
		total.Seq, total.Points = got.Seq, total.Points+got.Points
		if err != nil || n == len(points) {
			return total, err
		}
		points = points[n:]
	}
}

// Delete removes points.
func (s *Changer) Delete(ctx context.Context, name string, which Selector) (Result, error) {
	return s.changeSelected(ctx, &op{kind: opDelete, collection: name, selector: which})
}

// SetPayload puts values into the payloads of points, at a path or, where it is
// empty, at the top. This and the following change the points of a list that are
// there, and return ErrNotFound for the first one that is not.
func (s *Changer) SetPayload(ctx context.Context, name string, which Selector, payload Payload, at string) (Result, error) {
	o := &op{kind: opSetPayload, collection: name, selector: which, payload: payload}
	if at != "" {
		o.keys = []string{at}
	}
	return s.changeSelected(ctx, o)
}

// OverwritePayload replaces the payloads of points.
func (s *Changer) OverwritePayload(ctx context.Context, name string, which Selector, payload Payload) (Result, error) {
	return s.changeSelected(ctx, &op{kind: opOverwritePayload, collection: name, selector: which, payload: payload})
}

// DeletePayload removes keys from the payloads of points.
func (s *Changer) DeletePayload(ctx context.Context, name string, which Selector, keys []string) (Result, error) {
	return s.changeSelected(ctx, &op{kind: opDeletePayload, collection: name, selector: which, keys: keys})
}

// ClearPayload empties the payloads of points.
func (s *Changer) ClearPayload(ctx context.Context, name string, which Selector) (Result, error) {
	return s.changeSelected(ctx, &op{kind: opClearPayload, collection: name, selector: which})
}

func (s *Changer) changeSelected(ctx context.Context, o *op) (Result, error) {
	if _, err := s.store.collection(o.collection); err != nil {
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
	return s.do(ctx, o)
}
