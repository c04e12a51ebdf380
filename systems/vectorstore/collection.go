package vectorstore

import (
	"fmt"
	"slices"
	"sync"

	"github.com/google/btree"

	"github.com/nexuscore-labs/nexus/systems/vectorstore/hnsw"
	"github.com/nexuscore-labs/nexus/systems/vectorstore/vectors"
)

// collection is one set of points. Each version of a point's vector has a slot
// of its own: a new vector goes to a new slot, and the old slot is given back
// once nothing reads it any more.
//
// A slot is live (a point's current one), and either in the graph, or in the
// tail, which searches scan, or both for the moment in which the indexer moves
// it. Deleted slots stay in the graph until the indexer takes them out.
type collection struct {
	name  string
	table *vectors.Table
	graph *hnsw.Index

	mu       sync.RWMutex // guards what follows
	config   CollectionConfig
	slots    []slot
	byID     map[PointID]uint32
	ordered  *btree.BTreeG[PointID]
	indexes  map[string]*fieldIndex
	tail     []uint32 // live slots that are not in the graph
	tailAt   map[uint32]int
	moving   int64    // slot that the indexer is inserting, -1: none
	inGraph  int      // slots in the graph, deleted ones included
	deleted  []uint32 // in the graph, deleted, not yet told to it
	free     []uint32 // to be used again
	readers  int      // snapshots that read slots without the lock
	released []uint32 // free once there are none
	queries  sync.Pool

	indexer indexer
}

// slot is a version of a point.
type slot struct {
	id      PointID
	payload Payload
	live    bool
	graphed bool
}

const btreeDegree = 32

func newCollection(name string, config CollectionConfig) (*collection, error) {
	table, err := config.newTable()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	graph, err := hnsw.New(table, hnsw.Options{M: config.M, EfConstruction: config.EfConstruction})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	c := &collection{
		name: name, config: config, table: table, graph: graph,
		byID: map[PointID]uint32{}, ordered: btree.NewG(btreeDegree, lessID),
		indexes: map[string]*fieldIndex{}, tailAt: map[uint32]int{}, moving: -1,
	}
	c.queries.New = func() any { return table.NewQuery() }
	c.indexer.init()
	return c, nil
}

// The methods below change the collection; c.mu is held for writing.

// upsert stores a point, replacing all of it.
func (c *collection) upsert(p Point) error {
	if err := c.checkVector(p.Vector); err != nil {
		return err
	}
	old, exists := c.byID[p.ID]
	if exists && slices.Equal(c.table.Row(old), p.Vector) {
		c.setPayload(old, p.Payload) // a redelivery costs the graph nothing
		return nil
	}
	next, err := c.place(p)
	if err != nil {
		return err
	}
	if exists {
		c.retire(old)
	} else {
		c.ordered.ReplaceOrInsert(p.ID)
	}
	c.byID[p.ID] = next
	return nil
}

func (c *collection) checkVector(v []float32) error {
	if len(v) != c.table.Dim() {
		return fmt.Errorf("%w: Vector dimension error: expected dim: %d, got %d", ErrInvalid, c.table.Dim(), len(v))
	}
	for _, x := range v {
		if x-x != 0 {
			return fmt.Errorf("%w: vector holds a value that is not finite", ErrInvalid)
		}
	}
	return nil
}

// place puts a point into a slot of its own and into the tail.
func (c *collection) place(p Point) (uint32, error) {
	var at uint32
	if n := len(c.free); n > 0 {
		at, c.free = c.free[n-1], c.free[:n-1]
	} else {
		at = uint32(len(c.slots))
		c.slots = append(c.slots, slot{})
	}
	if err := c.table.PutStored(at, p.Vector); err != nil {
		c.free = append(c.free, at)
		return 0, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	c.slots[at] = slot{id: p.ID, live: true}
	c.tailAt[at] = len(c.tail)
	c.tail = append(c.tail, at)
	c.setPayload(at, p.Payload)
	return at, nil
}

// retire ends a slot's life.
func (c *collection) retire(at uint32) {
	c.unindexPayload(at)
	c.slots[at].live, c.slots[at].payload = false, nil
	if c.slots[at].graphed {
		c.deleted = append(c.deleted, at)
		return
	}
	c.leaveTail(at)
	if c.moving != int64(at) {
		c.release(at)
	} // else the indexer finds it dead and deletes it from the graph
}

func (c *collection) leaveTail(at uint32) {
	i, ok := c.tailAt[at]
	if !ok {
		return
	}
	last := c.tail[len(c.tail)-1]
	c.tail[i], c.tailAt[last] = last, i
	c.tail = c.tail[:len(c.tail)-1]
	delete(c.tailAt, at)
}

// release gives slots back for new points.
func (c *collection) release(slots ...uint32) {
	for _, at := range slots {
		c.slots[at] = slot{}
	}
	if c.readers > 0 {
		c.released = append(c.released, slots...)
		return
	}
	c.free = append(c.free, slots...)
}

func (c *collection) remove(id PointID) bool {
	at, ok := c.byID[id]
	if !ok {
		return false
	}
	delete(c.byID, id)
	c.ordered.Delete(id)
	c.retire(at)
	return true
}

// setVector replaces a point's vector and keeps its payload.
func (c *collection) setVector(p Point) error {
	at, ok := c.byID[p.ID]
	if !ok {
		return fmt.Errorf("%w: No point with id %v found", ErrNotFound, p.ID)
	}
	p.Payload = c.slots[at].payload
	return c.upsert(p)
}

func (c *collection) setPayload(at uint32, payload Payload) {
	c.unindexPayload(at)
	c.slots[at].payload = payload
	for _, index := range c.indexes {
		index.add(at, payload)
	}
}

func (c *collection) unindexPayload(at uint32) {
	for _, index := range c.indexes {
		index.remove(at, c.slots[at].payload)
	}
}

// selected are the ids that a selector means, in order. Ids of a list that are
// not there are left out.
func (c *collection) selected(s Selector) []PointID {
	var ids []PointID
	if !s.ByFilter {
		for _, id := range s.IDs {
			if _, ok := c.byID[id]; ok {
				ids = append(ids, id)
			}
		}
		return ids
	}
	candidates, narrowed := c.narrow(s.Filter)
	if narrowed {
		for at := range candidates {
			if s.Filter.Matches(c.slots[at].id, c.slots[at].payload) {
				ids = append(ids, c.slots[at].id)
			}
		}
		slices.SortFunc(ids, PointID.Compare)
		return ids
	}
	c.ordered.Ascend(func(id PointID) bool {
		if s.Filter.Matches(id, c.slots[c.byID[id]].payload) {
			ids = append(ids, id)
		}
		return true
	})
	return ids
}
