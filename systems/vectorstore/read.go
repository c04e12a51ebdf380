package vectorstore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// Info describes a collection.
type Info struct {
	Config  CollectionConfig
	Points  int
	InGraph int // points that the graph knows
	Tail    int // points that searches scan beside the graph
	// Indexing says that points are on their way into the graph.
	Indexing     bool
	VectorBytes  int64
	GraphBytes   int64
	FieldIndexes map[string]IndexType
	FieldPoints  map[string]int // per index, the points with a value
}

// Info returns a collection's state.
func (s *Store) Info(name string) (Info, error) {
	c, err := s.collection(name)
	if err != nil {
		return Info{}, err
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	info := Info{Config: c.config, Points: len(c.byID), InGraph: len(c.byID) - len(c.tail), Tail: len(c.tail),
		Indexing:    c.graphDue() && (len(c.tail) > 0 || c.moving >= 0),
		VectorBytes: c.table.Bytes(), GraphBytes: c.graph.Bytes(),
		FieldIndexes: map[string]IndexType{}, FieldPoints: map[string]int{}}
	for key, index := range c.indexes {
		info.FieldIndexes[key], info.FieldPoints[key] = index.kind, index.points
	}
	return info, nil
}

// WaitIndexed returns when all points that are to be in the graph are.
func (s *Store) WaitIndexed(ctx context.Context, name string) error {
	for {
		info, err := s.Info(name)
		if err != nil || !info.Indexing {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Get returns the points of a list that are there, in the list's order.
func (s *Store) Get(name string, ids []PointID, payload, vector bool) ([]Point, error) {
	c, err := s.collection(name)
	if err != nil {
		return nil, err
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	var out []Point
	for _, id := range ids {
		if at, ok := c.byID[id]; ok {
			out = append(out, c.point(at, payload, vector))
		}
	}
	return out, nil
}

// Count returns how many points meet a filter.
func (s *Store) Count(name string, f *Filter) (int, error) {
	c, err := s.collection(name)
	if err != nil {
		return 0, err
	}
	if err := f.Check(); err != nil {
		return 0, err
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	if f == nil {
		return len(c.byID), nil
	}
	return len(c.selected(Selector{ByFilter: true, Filter: f})), nil
}

// Scroll asks for points in the order of their ids, or of a payload value.
type Scroll struct {
	Filter  *Filter
	From    *PointID // the first one; nil: from the start
	Limit   int
	Payload bool
	Vectors bool
	OrderBy *OrderBy
}

// OrderBy orders by numbers, or by RFC 3339 times in seconds, at a key. Points
// without any are left out; one with several appears once for each.
type OrderBy struct {
	Key        Key
	Descending bool
	StartFrom  *float64 // values before it are left out
}

// Scrolled is a page of points.
type Scrolled struct {
	Points []Point
	Order  []float64 // with OrderBy: the value of each
	Next   *PointID  // where the next page begins; nil behind the last, and with OrderBy
}

// Scroll returns a page.
func (s *Store) Scroll(name string, q Scroll) (Scrolled, error) {
	c, err := s.collection(name)
	if err != nil {
		return Scrolled{}, err
	}
	if err := q.Filter.Check(); err != nil {
		return Scrolled{}, err
	}
	if q.Limit < 1 {
		return Scrolled{}, fmt.Errorf("%w: limit %d, want 1 or more", ErrInvalid, q.Limit)
	}
	if q.OrderBy != nil && q.From != nil {
		return Scrolled{}, fmt.Errorf("%w: Cannot use an `offset` when using `order_by`. The alternative for paging is to use `order_by.start_from` and a filter to exclude the IDs that you've already seen for the `order_by.start_from` value", ErrInvalid)
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	if q.OrderBy != nil {
		return c.scrollBy(q), nil
	}
	var page Scrolled
	visit := func(id PointID) bool {
		at := c.byID[id]
		if !q.Filter.Matches(id, c.slots[at].payload) {
			return true
		}
		if len(page.Points) == q.Limit {
			page.Next = &id
			return false
		}
		page.Points = append(page.Points, c.point(at, q.Payload, q.Vectors))
		return true
	}
	if q.From == nil {
		c.ordered.Ascend(visit)
	} else {
		c.ordered.AscendGreaterOrEqual(*q.From, visit)
	}
	return page, nil
}

func (c *collection) scrollBy(q Scroll) Scrolled {
	type entry struct {
		value float64
		at    uint32
	}
	var all []entry
	direction := 1
	if q.OrderBy.Descending {
		direction = -1
	}
	for id, at := range c.byID {
		payload := c.slots[at].payload
		if !q.Filter.Matches(id, payload) {
			continue
		}
		q.OrderBy.Key.values(&candidate{payload: map[string]any(payload)}, func(v any) bool {
			value, ok := orderValue(v)
			if ok && (q.OrderBy.StartFrom == nil || cmp.Compare(value, *q.OrderBy.StartFrom)*direction >= 0) {
				all = append(all, entry{value, at})
			}
			return false
		})
	}
	slices.SortFunc(all, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.value, b.value)*direction, c.slots[a.at].id.Compare(c.slots[b.at].id)*direction)
	})
	var page Scrolled
	for _, e := range all[:min(q.Limit, len(all))] {
		page.Points = append(page.Points, c.point(e.at, q.Payload, q.Vectors))
		page.Order = append(page.Order, e.value)
	}
	return page
}

func orderValue(v any) (float64, bool) {
	switch v := v.(type) {
	case int64:
		return float64(v), true
	case float64:
		return v, true
	case string:
		at, err := time.Parse(time.RFC3339Nano, v)
		return float64(at.UnixMicro()) / 1e6, err == nil
	default:
		return 0, false
	}
}
