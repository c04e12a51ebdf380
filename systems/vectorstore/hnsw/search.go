package hnsw

import (
	"fmt"
	"slices"

	"github.com/nexuscore-labs/nexus/systems/vectorstore/vectors"
)

// Hit is a slot that was found.
type Hit struct {
	Slot     uint32
	Distance float32
}

// searcher is what one search needs; it is used again.
type searcher struct {
	query, pair *vectors.Query
	visited     []uint32 // per slot the number of the search that saw it last
	round       uint32
	open        heap // to be expanded, nearest first
	best        heap // found, farthest first (keys are negative distances)
	batch       [vectors.BatchMax]uint32
	distances   [vectors.BatchMax]float32
	found       []item // results in order, for the planner
	chosen      []uint32
	near        []item
}

func newSearcher(ix *Index) *searcher {
	return &searcher{query: ix.table.NewQuery(), pair: ix.table.NewQuery()}
}

// begin forgets which slots were seen.
func (s *searcher) begin(slots int) {
	if len(s.visited) < slots {
		s.visited = append(s.visited, make([]uint32, slots-len(s.visited)+slots/4)...)
	}
	s.round++
	if s.round == 0 {
		clear(s.visited)
		s.round = 1
	}
}

// Search returns at most k slots that are nearest to the query and accepted,
// nearest first; ef (raised to k) is how many candidates are kept on the way:
// more find more and take longer. accept may be nil; it is called with the
// index's lock held. In a quantized table the graph is searched by int8
// distances and the ef candidates are ordered by f32 ones.
func (ix *Index) Search(query *vectors.Query, k, ef int, accept func(slot uint32) bool) ([]Hit, error) {
	ef = max(ef, k)
	if k < 1 || ef > EfMax {
		return nil, fmt.Errorf("hnsw: search for %d with ef %d, want 1 to %d", k, ef, EfMax)
	}
	s := ix.searchers.Get().(*searcher)
	defer ix.searchers.Put(s)
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	if ix.top < 0 {
		return nil, nil
	}
	start := ix.descend(s, query, 0)
	ix.searchLevel(s, query, []item{start}, ef, 0, accept)
	return s.hits(query, k, ix.table.Quantized()), nil
}

// descend goes greedily from the top to the level above the given one and
// returns the nearest node seen.
func (ix *Index) descend(s *searcher, query *vectors.Query, level int) item {
	at := item{key: query.Distance(ix.entry), slot: ix.entry}
	for l := ix.top; l > level; l-- {
		for moved := true; moved; {
			moved = false
			links := ix.links(at.slot, l)
			query.Distances(links, s.distances[:len(links)])
			for i, slot := range links {
				if s.distances[i] < at.key {
					at, moved = item{s.distances[i], slot}, true
				}
			}
		}
	}
	return at
}

// searchLevel leaves the ef nearest live and accepted nodes of a level in
// s.best. It walks over all nodes, found or not.
func (ix *Index) searchLevel(s *searcher, query *vectors.Query, starts []item, ef, level int, accept func(uint32) bool) {
	s.begin(len(ix.states))
	s.open, s.best = s.open[:0], s.best[:0]
	visited, round := s.visited, s.round
	for _, start := range starts {
		visited[start.slot] = round
		s.open.push(start)
		ix.consider(s, start, ef, accept)
	}
	for len(s.open) > 0 {
		at := s.open.pop()
		if len(s.best) >= ef && at.key > -s.best[0].key {
			return
		}
		if len(s.open) > 0 {
			// Mostly the next one: its links arrive while this one's are measured.
			ix.prefetchLinks(s.open[0].slot, level)
		}
		n := 0
		for _, slot := range ix.links(at.slot, level) {
			if visited[slot] != round {
				visited[slot] = round
				s.batch[n] = slot
				n++
			}
		}
		query.Distances(s.batch[:n], s.distances[:n])
		for i, slot := range s.batch[:n] {
			x := item{s.distances[i], slot}
			if len(s.best) < ef || x.key < -s.best[0].key {
				s.open.push(x)
				ix.consider(s, x, ef, accept)
			}
		}
	}
}

// consider puts a node among the best if it belongs there.
func (ix *Index) consider(s *searcher, x item, ef int, accept func(uint32) bool) {
	if ix.states[x.slot] != live || accept != nil && !accept(x.slot) {
		return
	}
	x.key = -x.key
	if len(s.best) < ef {
		s.best.push(x)
	} else if s.best[0].less(x) {
		s.best.replaceFirst(x)
	}
}

// ordered empties s.best into s.found, nearest first.
func (s *searcher) ordered() []item {
	n := len(s.best)
	s.found = slices.Grow(s.found[:0], n)[:n]
	for i := n - 1; i >= 0; i-- {
		x := s.best.pop()
		s.found[i] = item{-x.key, x.slot}
	}
	return s.found
}

// hits are the k nearest of s.best, measured anew in f32 when asked.
func (s *searcher) hits(query *vectors.Query, k int, again bool) []Hit {
	found := s.ordered()
	if again {
		measure(s, query, found)
	}
	found = found[:min(k, len(found))]
	out := make([]Hit, len(found))
	for i, x := range found {
		out[i] = Hit{x.slot, x.key}
	}
	return out
}

// measure replaces int8 distances by f32 ones and orders by them.
func measure(s *searcher, query *vectors.Query, found []item) {
	for at := 0; at < len(found); at += len(s.batch) {
		part := found[at:min(at+len(s.batch), len(found))]
		for i, x := range part {
			s.batch[i] = x.slot
		}
		query.Exact(s.batch[:len(part)], s.distances[:])
		for i := range part {
			part[i].key = s.distances[i]
		}
	}
	sortItems(found)
}

func sortItems(items []item) {
	slices.SortFunc(items, func(a, b item) int {
		if a.less(b) {
			return -1
		}
		return 1
	})
}
