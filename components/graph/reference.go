package graph

// Reference answers by searches that are as dumb as can be, whole each time. It
// is the oracle of every engine, and of the lab.
type Reference struct {
	Edges     [][]uint32
	Documents [][]byte
}

// Find returns what a query finds in order, whatever its position and chunk.
func (r Reference) Find(q Query) []uint32 {
	var found []uint32
	if q.Algorithm == BFS {
		found = r.bfs(q)
	} else {
		found = r.dfs(q)
	}
	if q.ResultsMax != 0 && uint32(len(found)) > q.ResultsMax {
		found = found[:q.ResultsMax]
	}
	return found
}

func (r Reference) bfs(q Query) (found []uint32) {
	seen := map[uint32]bool{q.Root: true}
	level := []uint32{q.Root}
	for range q.DepthMax {
		var next []uint32
		for _, n := range level {
			for _, to := range r.Edges[n] {
				if !seen[to] {
					seen[to] = true
					next = append(next, to)
				}
			}
		}
		found = append(found, next...)
		level = next
	}
	return found
}

// dfs lists nodes when it meets them first, and looks behind a node again when
// it meets it on a shorter way: without that a node met first on a long way
// would hide what is near.
func (r Reference) dfs(q Query) (found []uint32) {
	distances := map[uint32]int{q.Root: 0}
	var visit func(node uint32, distance int)
	visit = func(node uint32, distance int) {
		if distance == int(q.DepthMax) {
			return
		}
		for _, to := range r.Edges[node] {
			known, met := distances[to]
			if met && known <= distance+1 {
				continue
			}
			distances[to] = distance + 1
			if !met {
				found = append(found, to)
			}
			visit(to, distance+1)
		}
	}
	visit(q.Root, 0)
	return found
}

// Chunk appends the chunk that an engine must answer with, to dst.
func (r Reference) Chunk(q Query, dst []byte) ([]byte, error) {
	if err := q.check(); err != nil {
		return dst, err
	}
	if int64(q.Root) >= int64(len(r.Edges)) {
		return dst, UnknownNode
	}
	return r.Cut(q, r.Find(q), dst)
}

// Cut appends the chunk of what a query found that begins at its position.
func (r Reference) Cut(q Query, found []uint32, dst []byte) ([]byte, error) {
	start := len(dst)
	dst = AppendChunkHeader(dst, Chunk{})
	room := int(q.ChunkLenMax)
	next := q.Position
	for ; int64(next) < int64(len(found)); next++ {
		node := found[next]
		before := len(dst)
		if q.Documents {
			dst = AppendRecord(dst, node, r.Documents[node])
		} else {
			dst = append(dst, byte(node), byte(node>>8), byte(node>>16), byte(node>>24))
		}
		if room -= len(dst) - before; room < 0 {
			dst = dst[:before]
			break
		}
	}
	if next == q.Position && int64(next) < int64(len(found)) {
		return dst[:start], SmallChunk
	}
	AppendChunkHeader(dst[:start], Chunk{Results: next - q.Position, Next: next, Done: int64(next) >= int64(len(found))})
	return dst, nil
}
