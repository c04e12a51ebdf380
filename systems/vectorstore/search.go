package vectorstore

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/nexuscore-labs/nexus/systems/vectorstore/hnsw"
	"github.com/nexuscore-labs/nexus/systems/vectorstore/vectors"
)

// Search asks for the points nearest to a vector.
type Search struct {
	Vector []float32
	Filter *Filter // nil: all points
	Limit  int     // 1 to limitMax
	Offset int     // of the nearest are left out
	Ef     int     // candidates kept while the graph is searched; 0: hnsw.DefaultEf
	Exact  bool    // scan, whatever it takes
	// MinScore leaves out what is farther: a lower score, or for vectors.Euclid
	// a larger distance.
	MinScore *float32
	Payload  bool // return payloads
	Vectors  bool // return vectors
}

// Found is a point and its score, see vectors.Metric.
type Found struct {
	Point
	Score float32
}

const limitMax = 1 << 16

// Costs of looking at one point, in arbitrary units: they decide between a scan
// and the graph, so only their ratio counts.
const (
	distanceCost = 1
	filterCost   = 2
	// selectivitySample is how many points are asked how many meet a filter.
	selectivitySample = 256
)

// Search returns the nearest points, nearest first. What was acknowledged
// before it began is seen.
func (s *Store) Search(ctx context.Context, name string, q Search) ([]Found, error) {
	c, err := s.collection(name)
	if err != nil {
		return nil, err
	}
	switch {
	case q.Limit < 1 || q.Offset < 0 || q.Limit > limitMax || q.Offset > limitMax || q.Limit+q.Offset > limitMax:
		return nil, fmt.Errorf("%w: limit %d and offset %d, want a limit from 1 and no more than %d together", ErrInvalid, q.Limit, q.Offset, limitMax)
	case q.Ef < 0 || q.Ef > hnsw.EfMax:
		return nil, fmt.Errorf("%w: hnsw_ef %d, want at most %d", ErrInvalid, q.Ef, hnsw.EfMax)
	}
	if err := q.Filter.Check(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return c.search(q)
}

func (c *collection) search(q Search) ([]Found, error) {
	query := c.queries.Get().(*vectors.Query)
	defer c.queries.Put(query)
	if err := c.checkVector(q.Vector); err != nil {
		return nil, err
	}
	if err := query.Set(q.Vector); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	best := &nearest{query: query, k: q.Limit + q.Offset}
	if err := c.collect(best, q); err != nil {
		return nil, err
	}
	var out []Found
	for _, hit := range best.ordered()[min(q.Offset, len(best.hits)):] {
		found := Found{c.point(hit.Slot, q.Payload, q.Vectors), c.table.Metric().Score(hit.Distance)}
		if q.MinScore != nil && (c.table.Metric().HigherIsNearer() && found.Score < *q.MinScore || !c.table.Metric().HigherIsNearer() && found.Score > *q.MinScore) {
			break
		}
		out = append(out, found)
	}
	return out, nil
}

// collect chooses how to search: by scanning what ids or an index leave of the
// collection, by the graph and a scan of its tail, or by scanning everything.
func (c *collection) collect(best *nearest, q Search) error {
	accept := func(at uint32) bool {
		return c.slots[at].live && q.Filter.Matches(c.slots[at].id, c.slots[at].payload)
	}
	ef := max(q.Ef, best.k)
	if q.Ef == 0 {
		ef = max(hnsw.DefaultEf, best.k)
	}
	share := c.selectivity(q.Filter)
	graph := (distanceCost + filterCost) * float64(ef) / share * 16 // about so many distances for a candidate
	if narrowed, ok := c.narrow(q.Filter); ok && (q.Exact || c.inGraph == 0 || float64(len(narrowed))*(distanceCost+filterCost) < graph) {
		for at := range narrowed {
			if accept(at) {
				best.add(at)
			}
		}
		best.flush()
		return nil
	}
	scan := float64(len(c.byID)) * (filterCost + distanceCost*share)
	if q.Exact || c.inGraph == 0 || q.Filter != nil && scan < graph {
		for at := range c.slots {
			if accept(uint32(at)) {
				best.add(uint32(at))
			}
		}
		best.flush()
		return nil
	}
	hits, err := c.graph.Search(best.query, best.k, ef, accept)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	best.hits = hits
	for _, at := range c.tail {
		// Only the slot that is on its way may have been found in the graph as well.
		if accept(at) && (int64(at) != c.moving || !slices.ContainsFunc(hits, func(h hnsw.Hit) bool { return h.Slot == at })) {
			best.add(at)
		}
	}
	best.flush()
	return nil
}

// selectivity estimates what share of the points meets a filter.
func (c *collection) selectivity(f *Filter) float64 {
	if f == nil || len(c.byID) == 0 {
		return 1
	}
	step, seen, met := max(1, len(c.slots)/selectivitySample), 0, 0
	for at := 0; at < len(c.slots); at += step {
		if c.slots[at].live {
			seen++
			if f.Matches(c.slots[at].id, c.slots[at].payload) {
				met++
			}
		}
	}
	return max(float64(met), 0.5) / float64(max(seen, 1))
}

// point copies a slot's point.
func (c *collection) point(at uint32, payload, vector bool) Point {
	p := Point{ID: c.slots[at].id}
	if payload {
		p.Payload = c.slots[at].payload
	}
	if vector {
		p.Vector = slices.Clone(c.table.Row(at))
	}
	return p
}

// nearest collects the k nearest of many slots, measured in batches. hits is
// not ordered until asked.
type nearest struct {
	query *vectors.Query
	k     int
	hits  []hnsw.Hit
	batch [vectors.BatchMax]uint32
	n     int
	out   [vectors.BatchMax]float32
}

func (b *nearest) add(at uint32) {
	b.batch[b.n] = at
	b.n++
	if b.n == len(b.batch) {
		b.flush()
	}
}

func (b *nearest) flush() {
	b.query.Exact(b.batch[:b.n], b.out[:])
	for i, at := range b.batch[:b.n] {
		b.hits = append(b.hits, hnsw.Hit{Slot: at, Distance: b.out[i]})
	}
	b.n = 0
	// Cut down only now and then: sorting costs less than a heap's comparisons.
	if len(b.hits) > 4*b.k+1024 {
		b.cut()
	}
}

func (b *nearest) cut() {
	slices.SortFunc(b.hits, func(x, y hnsw.Hit) int {
		return cmp.Or(cmp.Compare(x.Distance, y.Distance), cmp.Compare(x.Slot, y.Slot))
	})
	b.hits = b.hits[:min(b.k, len(b.hits))]
}

func (b *nearest) ordered() []hnsw.Hit {
	b.cut()
	return b.hits
}
