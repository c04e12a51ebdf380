// Package shards splits a graph that is too large for one guest over several. A
// node's edges and document are in one of them; the host bridges them: it walks the
// graph and asks the owner of each node for its edges, since guests import nothing
// and share nothing.
package shards

import (
	"context"
	"errors"
	"fmt"

	"github.com/nexuscore-labs/nexus/components/graph"
	"github.com/nexuscore-labs/nexus/systems/graphstore/cursors"
)

// ImageLenMax is the longest image of one shard unless it is said otherwise: the
// lesson's 4 MiB.
const ImageLenMax = 4 << 20

// Plan is how a graph is split: shard i owns nodes Bounds[i] to Bounds[i+1], the
// last left out. Every shard's image has all nodes, so that numbers are the same
// everywhere; those of others have no edges and an empty document.
type Plan struct {
	Bounds []int
	Images [][]byte
}

// Split makes shards whose images have at most imageLenMax bytes.
func Split(r graph.Reference, imageLenMax int) (Plan, error) {
	nodes := len(r.Edges)
	plan := Plan{Bounds: []int{0}}
	// What every node takes in every shard: row, place of the document, its header.
	room := imageLenMax - nodes*16 - 256
	for n, left := 0, room; n < nodes; n++ {
		need := 4*len(r.Edges[n]) + graph.RecordLen(len(r.Documents[n]))
		if need > room {
			return plan, fmt.Errorf("shards: node %d doesn't fit an image of %d bytes beside %d others", n, imageLenMax, nodes)
		}
		if need > left {
			plan.Bounds, left = append(plan.Bounds, n), room
		}
		left -= need
	}
	plan.Bounds = append(plan.Bounds, nodes)
	for i := range len(plan.Bounds) - 1 {
		part := graph.Reference{Edges: make([][]uint32, nodes), Documents: make([][]byte, nodes)}
		copy(part.Edges[plan.Bounds[i]:plan.Bounds[i+1]], r.Edges[plan.Bounds[i]:])
		copy(part.Documents[plan.Bounds[i]:plan.Bounds[i+1]], r.Documents[plan.Bounds[i]:])
		image, err := graph.Build(part.Edges, part.Documents)
		if err != nil {
			return plan, fmt.Errorf("build shard %d: %w", i, err)
		}
		if len(image) > imageLenMax {
			return plan, fmt.Errorf("shards: shard %d has %d bytes", i, len(image))
		}
		plan.Images = append(plan.Images, image)
	}
	return plan, nil
}

// Store is one tenant's graph over several guests. One goroutine uses it at a time.
type Store struct {
	nodes  uint32
	owner  []uint8 // shard of each node
	guests []*graph.Guest
	seen   []uint64 // bitmap of the search under way
	unsent cursors.Kept
	// Crossings counts hops whose ends are in two shards.
	Crossings uint64
}

var _ graph.Engine = (*Store)(nil)

// Open loads each shard into a guest of its own.
func Open(ctx context.Context, guests *graph.Guests, plan Plan, options graph.Options) (*Store, error) {
	if len(plan.Images) > 256 {
		return nil, fmt.Errorf("shards: %d shards, at most 256", len(plan.Images))
	}
	nodes := plan.Bounds[len(plan.Bounds)-1]
	s := &Store{
		nodes: uint32(nodes), owner: make([]uint8, nodes), seen: make([]uint64, (nodes+63)/64),
		unsent: cursors.Kept{Max: options.Cursors},
	}
	options.Cursors = 1 // the search is out here
	for i, image := range plan.Images {
		guest, err := guests.Load(ctx, image, options)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("load shard %d: %w", i, err), s.Close())
		}
		s.guests = append(s.guests, guest)
		for n := plan.Bounds[i]; n < plan.Bounds[i+1]; n++ {
			s.owner[n] = uint8(i)
		}
	}
	return s, nil
}

// Shards is how many guests there are.
func (s *Store) Shards() int { return len(s.guests) }

// Query implements graph.Engine.
func (s *Store) Query(q graph.Query, dst []byte) ([]byte, error) {
	if _, err := graph.ParseQuery(graph.AppendQuery(nil, q)); err != nil {
		return dst, err
	}
	if q.Root >= s.nodes {
		return dst, graph.UnknownNode
	}
	found, kept := s.unsent.Take(q)
	if !kept {
		var err error
		if q.Algorithm == graph.BFS {
			found, err = s.bfs(q)
		} else {
			found, err = cursors.DFS(q, func(node uint32) ([]uint32, error) {
				edges, err := s.guests[s.owner[node]].Edges(node)
				return append([]uint32(nil), edges...), err // the next call may be to the same guest
			})
		}
		if err != nil {
			return dst, err
		}
	}
	return s.unsent.Answer(dst, q, found, func(i int) ([]byte, error) {
		return s.guests[s.owner[found[i]]].Document(found[i])
	})
}

func (s *Store) bfs(q graph.Query) (found []uint32, err error) {
	clear(s.seen)
	s.visit(q.Root)
	level := []uint32{q.Root}
	for depth := uint8(0); depth < q.DepthMax && len(level) > 0; depth++ {
		before := len(found)
		for _, node := range level {
			owner := s.owner[node]
			edges, err := s.guests[owner].Edges(node)
			if err != nil {
				return nil, err
			}
			for _, to := range edges {
				if s.owner[to] != owner {
					s.Crossings++
				}
				if !s.visit(to) {
					continue
				}
				found = append(found, to)
				if q.ResultsMax != 0 && uint32(len(found)) == q.ResultsMax {
					return found, nil
				}
			}
		}
		level = found[before:]
	}
	return found, nil
}

// visit marks a node and says whether it is new.
func (s *Store) visit(node uint32) bool {
	bit := uint64(1) << (node & 63)
	fresh := s.seen[node>>6]&bit == 0
	s.seen[node>>6] |= bit
	return fresh
}

// Update implements graph.Engine.
func (s *Store) Update(node uint32, document []byte) error {
	if node >= s.nodes {
		return graph.UnknownNode
	}
	return s.guests[s.owner[node]].Update(node, document)
}

// Repack implements graph.Engine.
func (s *Store) Repack() (err error) {
	for _, g := range s.guests {
		err = errors.Join(err, g.Repack())
	}
	return err
}

// Arena implements graph.Engine: the sum of all shards'.
func (s *Store) Arena() (sum graph.Arena, err error) {
	for _, g := range s.guests {
		a, err := g.Arena()
		if err != nil {
			return sum, err
		}
		sum.Used, sum.Live, sum.Room, sum.Repacks = sum.Used+a.Used, sum.Live+a.Live, sum.Room+a.Room, sum.Repacks+a.Repacks
	}
	return sum, nil
}

// Close ends all guests.
func (s *Store) Close() (err error) {
	for _, g := range s.guests {
		err = errors.Join(err, g.Close())
	}
	s.guests = nil
	return err
}
