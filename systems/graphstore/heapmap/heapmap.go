// Package heapmap keeps a graph as most programs would: a map from nodes to
// slices of edges, a map from nodes to documents, a set of visited nodes made
// for each request. It is the baseline of components/graph.
package heapmap

import (
	"sync"

	"github.com/nexuscore-labs/nexus/components/graph"
	"github.com/nexuscore-labs/nexus/systems/graphstore/cursors"
)

// edge leads to a node.
type edge struct {
	to uint32
}

// Store is one tenant's graph. It may be used concurrently.
type Store struct {
	mu        sync.RWMutex
	edges     map[uint32][]edge
	documents map[uint32][]byte
	unsent    cursors.Kept
}

var _ graph.Engine = (*Store)(nil)

// New copies a graph into maps. It keeps the results of so many traversals for
// their later chunks.
func New(r graph.Reference, kept int) *Store {
	s := &Store{
		edges:     make(map[uint32][]edge, len(r.Edges)),
		documents: make(map[uint32][]byte, len(r.Documents)),
		unsent:    cursors.Kept{Max: kept},
	}
	for n, targets := range r.Edges {
		edges := make([]edge, len(targets))
		for i, to := range targets {
			edges[i] = edge{to}
		}
		s.edges[uint32(n)] = edges
		s.documents[uint32(n)] = append([]byte(nil), r.Documents[n]...)
	}
	return s
}

// Query implements graph.Engine.
func (s *Store) Query(q graph.Query, dst []byte) ([]byte, error) {
	if _, err := graph.ParseQuery(graph.AppendQuery(nil, q)); err != nil {
		return dst, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if _, known := s.edges[q.Root]; !known {
		return dst, graph.UnknownNode
	}
	found, kept := s.unsent.Take(q)
	if !kept {
		if q.Algorithm == graph.BFS {
			found = s.bfs(q)
		} else {
			found = s.dfs(q)
		}
	}
	return s.unsent.Answer(dst, q, found, func(i int) ([]byte, error) { return s.documents[found[i]], nil })
}

// hop is a node to look behind.
type hop struct {
	node  uint32
	depth uint8
}

func (s *Store) bfs(q graph.Query) []uint32 {
	visited := map[uint32]struct{}{q.Root: {}}
	queue := []hop{{node: q.Root}}
	var found []uint32
	for len(queue) > 0 {
		h := queue[0]
		queue = queue[1:]
		for _, e := range s.edges[h.node] {
			if _, seen := visited[e.to]; seen {
				continue
			}
			visited[e.to] = struct{}{}
			found = append(found, e.to)
			if q.ResultsMax != 0 && uint32(len(found)) == q.ResultsMax {
				return found
			}
			if h.depth+1 < q.DepthMax {
				queue = append(queue, hop{e.to, h.depth + 1})
			}
		}
	}
	return found
}

func (s *Store) dfs(q graph.Query) []uint32 {
	distances := map[uint32]uint8{q.Root: 0}
	var found []uint32
	var visit func(node uint32, distance uint8) bool
	visit = func(node uint32, distance uint8) bool {
		for _, e := range s.edges[node] {
			known, seen := distances[e.to]
			if seen && known <= distance {
				continue
			}
			distances[e.to] = distance
			if !seen {
				found = append(found, e.to)
				if q.ResultsMax != 0 && uint32(len(found)) == q.ResultsMax {
					return false
				}
			}
			if distance < q.DepthMax && !visit(e.to, distance+1) {
				return false
			}
		}
		return true
	}
	visit(q.Root, 1)
	return found
}

// Update implements graph.Engine.
func (s *Store) Update(node uint32, document []byte) error {
	if len(document) > graph.DocumentLenMax {
		return graph.TooLarge
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.documents[node]; !known {
		return graph.UnknownNode
	}
	s.documents[node] = append([]byte(nil), document...)
	return nil
}

// Repack implements graph.Engine: the heap is not for us to pack.
func (s *Store) Repack() error { return nil }

// Arena implements graph.Engine: there is none.
func (s *Store) Arena() (graph.Arena, error) { return graph.Arena{}, nil }

// Close implements graph.Engine.
func (s *Store) Close() error { return nil }
