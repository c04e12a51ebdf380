// Package redisgraph keeps graphs in Redis: one string of packed targets for each
// node, one for each document. A search fetches each level of its frontier with
// MGET, which is the fewest round trips that Redis allows without code in it.
package redisgraph

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/nexuscore-labs/nexus/components/graph"
	"github.com/nexuscore-labs/nexus/systems/graphstore/cursors"
)

const (
	keysPerCall   = 1000 // of one MGET or MSET, so that others get their turn
	documentsOnce = 64   // fetched together for a chunk
)

// Store is one tenant's graph. It may be used concurrently.
type Store struct {
	client *redis.Client
	tenant uint32
	nodes  uint32
	unsent cursors.Kept
}

var _ graph.Engine = (*Store)(nil)

// New writes a graph under the tenant's keys. It keeps the results of so many
// traversals for their later chunks.
func New(ctx context.Context, client *redis.Client, tenant uint32, r graph.Reference, kept int) (*Store, error) {
	s := &Store{client: client, tenant: tenant, nodes: uint32(len(r.Edges)), unsent: cursors.Kept{Max: kept}}
	for start := 0; start < len(r.Edges); start += keysPerCall {
		var pairs []any
		for n := start; n < min(start+keysPerCall, len(r.Edges)); n++ {
			packed := make([]byte, 0, 4*len(r.Edges[n]))
			for _, to := range r.Edges[n] {
				packed = binary.LittleEndian.AppendUint32(packed, to)
			}
			pairs = append(pairs, s.key('e', uint32(n)), packed, s.key('d', uint32(n)), r.Documents[n])
		}
		if err := client.MSet(ctx, pairs...).Err(); err != nil {
			return nil, fmt.Errorf("write the graph of tenant %d to Redis: %w", tenant, err)
		}
	}
	return s, nil
}

// key is a kind, the tenant and the node, in bytes.
func (s *Store) key(kind byte, node uint32) string {
	b := binary.LittleEndian.AppendUint32([]byte{kind}, s.tenant)
	return string(binary.LittleEndian.AppendUint32(b, node))
}

// fetch gets the values of nodes in their order.
func (s *Store) fetch(kind byte, nodes []uint32) ([]string, error) {
	values := make([]string, 0, len(nodes))
	for start := 0; start < len(nodes); start += keysPerCall {
		var keys []string
		for _, n := range nodes[start:min(start+keysPerCall, len(nodes))] {
			keys = append(keys, s.key(kind, n))
		}
		got, err := s.client.MGet(context.Background(), keys...).Result()
		if err != nil {
			return nil, fmt.Errorf("fetch from Redis: %w", err)
		}
		for _, value := range got {
			text, ok := value.(string)
			if !ok {
				return nil, errors.New("fetch from Redis: a key is gone")
			}
			values = append(values, text)
		}
	}
	return values, nil
}

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
			found, err = cursors.DFS(q, s.edges)
		}
		if err != nil {
			return dst, err
		}
	}
	documents := documents{store: s, found: found}
	return s.unsent.Answer(dst, q, found, documents.of)
}

// documents fetches documents some at a time, as a chunk asks for them in order.
type documents struct {
	store *Store
	found []uint32
	first int // of values
	batch []string
}

func (d *documents) of(i int) ([]byte, error) {
	if i < d.first || i >= d.first+len(d.batch) {
		var err error
		d.first = i
		d.batch, err = d.store.fetch('d', d.found[i:min(i+documentsOnce, len(d.found))])
		if err != nil {
			return nil, err
		}
	}
	return []byte(d.batch[i-d.first]), nil
}

// bfs asks for a whole level at once.
func (s *Store) bfs(q graph.Query) (found []uint32, err error) {
	visited := map[uint32]struct{}{q.Root: {}}
	level := []uint32{q.Root}
	for depth := uint8(0); depth < q.DepthMax && len(level) > 0; depth++ {
		rows, err := s.fetch('e', level)
		if err != nil {
			return nil, err
		}
		before := len(found)
		for _, row := range rows {
			for _, to := range unpack(row) {
				if _, seen := visited[to]; seen {
					continue
				}
				visited[to] = struct{}{}
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

func (s *Store) edges(node uint32) ([]uint32, error) {
	rows, err := s.fetch('e', []uint32{node})
	if err != nil {
		return nil, err
	}
	return unpack(rows[0]), nil
}

func unpack(row string) []uint32 {
	targets := make([]uint32, len(row)/4)
	for i := range targets {
		targets[i] = binary.LittleEndian.Uint32([]byte(row[4*i : 4*i+4]))
	}
	return targets
}

// Update implements graph.Engine.
func (s *Store) Update(node uint32, document []byte) error {
	if node >= s.nodes {
		return graph.UnknownNode
	}
	if len(document) > graph.DocumentLenMax {
		return graph.TooLarge
	}
	if err := s.client.Set(context.Background(), s.key('d', node), document, 0).Err(); err != nil {
		return fmt.Errorf("write a document to Redis: %w", err)
	}
	return nil
}

// Repack implements graph.Engine: memory is Redis's own affair.
func (s *Store) Repack() error { return nil }

// Arena implements graph.Engine: there is none.
func (s *Store) Arena() (graph.Arena, error) { return graph.Arena{}, nil }

// Close implements graph.Engine. The keys stay, with the server.
func (s *Store) Close() error { return nil }
