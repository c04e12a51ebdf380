// Package cursors is what designs need that find whole answers at once: it cuts
// them into chunks and keeps what is left for the chunks to come.
package cursors

import (
	"sync"

	"github.com/nexuscore-labs/nexus/components/graph"
)

// Kept are results that were not sent whole. The zero value keeps none. It may be
// used concurrently.
type Kept struct {
	// Max bounds how many answers are kept; the oldest are pushed out.
	Max int

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

// Take hands out the results that a query goes on with.
func (k *Kept) Take(q graph.Query) (found []uint32, kept bool) {
	if q.Position == 0 {
		return nil, false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, u := range k.list {
		if u.next == key(q, q.Position) {
			k.list = append(k.list[:i], k.list[i+1:]...)
			return u.found, true
		}
	}
	return nil, false
}

// keep holds results until they are asked for, or others push them out.
func (k *Kept) keep(q graph.Query, next uint32, found []uint32) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.Max == 0 {
		return
	}
	if len(k.list) == k.Max {
		k.list = append(k.list[:0], k.list[1:]...)
	}
	k.list = append(k.list, unsent{key(q, next), found})
}

// Answer appends the chunk of the results that begins at the query's position, and
// keeps the rest. documentOf gives the document of found[i].
func (k *Kept) Answer(dst []byte, q graph.Query, found []uint32, documentOf func(i int) ([]byte, error)) ([]byte, error) {
	start := len(dst)
	dst = graph.AppendChunkHeader(dst, graph.Chunk{})
	room := int(q.ChunkLenMax)
	next := int(q.Position)
	for ; next < len(found); next++ {
		node := found[next]
		if !q.Documents {
			if room -= 4; room < 0 {
				break
			}
			dst = append(dst, byte(node), byte(node>>8), byte(node>>16), byte(node>>24))
			continue
		}
		document, err := documentOf(next)
		if err != nil {
			return dst[:start], err
		}
		if room -= graph.RecordLen(len(document)); room < 0 {
			break
		}
		dst = graph.AppendRecord(dst, node, document)
	}
	if next == int(q.Position) && next < len(found) {
		return dst[:start], graph.SmallChunk
	}
	graph.AppendChunkHeader(dst[:start], graph.Chunk{Results: uint32(next) - q.Position, Next: uint32(next), Done: next >= len(found)})
	if next < len(found) {
		k.keep(q, uint32(next), found)
	}
	return dst, nil
}

// DFS finds nodes depth first, as graph.Reference says, where edgesOf is all that
// is known of the graph.
func DFS(q graph.Query, edgesOf func(node uint32) ([]uint32, error)) ([]uint32, error) {
	distances := map[uint32]uint8{q.Root: 0}
	var found []uint32
	full := func() bool { return q.ResultsMax != 0 && uint32(len(found)) == q.ResultsMax }
	var visit func(node uint32, distance uint8) error
	visit = func(node uint32, distance uint8) error {
		edges, err := edgesOf(node)
		if err != nil {
			return err
		}
		for _, to := range edges {
			known, seen := distances[to]
			if seen && known <= distance {
				continue
			}
			distances[to] = distance
			if !seen {
				found = append(found, to)
			}
			if full() {
				return nil
			}
			if distance < q.DepthMax {
				if err := visit(to, distance+1); err != nil || full() {
					return err
				}
			}
		}
		return nil
	}
	err := visit(q.Root, 1)
	return found, err
}
