package heapmap

import (
	"sync"

	"github.com/nexuscore-labs/nexus/components/graph"
)

// traversals are results that were not sent whole, for the chunks to come.
type traversals struct {
	kept int

	mu   sync.Mutex
	list []unsent // oldest first
}

type unsent struct {
	next  graph.Query // the query that asks for the next chunk
	found []uint32
}

// key is what a query and the one that goes on behind it have in common.
func key(q graph.Query, position uint32) graph.Query {
	q.Position, q.ChunkLenMax, q.Documents = position, 0, false
	return q
}

// take hands out the results that a query goes on with.
func (t *traversals) take(q graph.Query) (found []uint32, kept bool) {
	if q.Position == 0 {
		return nil, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, u := range t.list {
		if u.next == key(q, q.Position) {
			t.list = append(t.list[:i], t.list[i+1:]...)
			return u.found, true
		}
	}
	return nil, false
}

// keep holds results until they are asked for, or others push them out.
func (t *traversals) keep(q graph.Query, next uint32, found []uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.kept == 0 {
		return
	}
	if len(t.list) == t.kept {
		t.list = append(t.list[:0], t.list[1:]...)
	}
	t.list = append(t.list, unsent{key(q, next), found})
}
