package graph

import "math"

// traversal is one search that can stop and go on, as in guest/traversal.h.
type traversal struct {
	query    Query
	usedAt   uint64   // 0: never
	order    []uint32 // nodes found, in order, without the root; room for one more than all
	found    uint32
	limit    uint32
	sent     uint32
	complete bool

	// BFS: the next node to look behind, the end of its level, its distance, and
	// a bit for each node that was found.
	head, levelEnd, depth uint32
	bits                  []uint32

	// DFS: the edges left to look at, on the way from the root, and the smallest
	// distance that each node was met at, plus one.
	path      [][]uint32
	distances []uint8
}

func (t *traversal) results() uint32 { return min(t.found, t.limit) }

func (t *traversal) begin(v *view, q Query) {
	t.clear()
	t.query = q
	t.limit = q.ResultsMax
	if t.limit == 0 {
		t.limit = math.MaxUint32
	}
	t.found, t.sent, t.head, t.levelEnd, t.depth = 0, 0, 0, 0, 0
	t.complete = false
	if q.Algorithm == BFS {
		t.bits[q.Root>>5] |= 1 << (q.Root & 31)
		return
	}
	t.distances[q.Root] = 1
	t.path = append(t.path[:0], v.cols[v.rows[q.Root]:v.rows[q.Root+1]])
}

// clear takes back the marks: one by one when they are few.
func (t *traversal) clear() {
	if t.usedAt == 0 {
		return
	}
	found := t.order[:t.found]
	if t.query.Algorithm == BFS {
		if len(found) > len(t.bits)/16 {
			clear(t.bits)
			return
		}
		t.bits[t.query.Root>>5] = 0
		for _, n := range found {
			t.bits[n>>5] = 0
		}
		return
	}
	if len(found) > len(t.distances)/64 {
		clear(t.distances)
		return
	}
	t.distances[t.query.Root] = 0
	for _, n := range found {
		t.distances[n] = 0
	}
}

// advance goes on until so many are found or the work is done.
func (t *traversal) advance(v *view, wanted uint32, work *int) {
	wanted = min(wanted, t.limit)
	if t.query.Algorithm == BFS {
		t.advanceBFS(v, wanted, work)
	} else {
		t.advanceDFS(v, wanted, work)
	}
	if t.found >= t.limit {
		t.complete = true
	}
}

func (t *traversal) advanceBFS(v *view, wanted uint32, work *int) {
	if t.depth == 0 {
		t.lookBehind(v, t.query.Root)
		t.depth, t.levelEnd = 1, t.found
	}
	for t.found < wanted && *work > 0 {
		if t.head == t.levelEnd {
			t.levelEnd = t.found
			t.depth++
		}
		if t.head == t.found || t.depth >= uint32(t.query.DepthMax) {
			t.complete = true
			return
		}
		node := t.order[t.head]
		t.head++
		*work -= t.lookBehind(v, node) + 1
	}
}

// lookBehind marks the nodes that a node leads to and appends the new ones. It
// writes each and counts it only if it is new, which saves a branch that can't
// be predicted.
func (t *traversal) lookBehind(v *view, node uint32) (edges int) {
	order, bits, found := t.order, t.bits, t.found
	cols := v.cols[v.rows[node]:v.rows[node+1]]
	for _, n := range cols {
		word, shift := bits[n>>5], n&31
		order[found] = n
		bits[n>>5] = word | 1<<shift
		found += ^(word >> shift) & 1
	}
	t.found = found
	return len(cols)
}

// advanceDFS meets a node again where that brings it nearer to the root: what
// lies behind it may then be near enough.
func (t *traversal) advanceDFS(v *view, wanted uint32, work *int) {
	for ; t.found < wanted && *work > 0; *work-- {
		for len(t.path) > 0 && len(t.path[len(t.path)-1]) == 0 {
			t.path = t.path[:len(t.path)-1]
		}
		depth := len(t.path)
		if depth == 0 {
			t.complete = true
			return
		}
		edges := t.path[depth-1]
		node := edges[0]
		t.path[depth-1] = edges[1:]
		before := t.distances[node]
		if before != 0 && int(before) <= depth+1 {
			continue
		}
		t.distances[node] = uint8(depth + 1)
		if before == 0 {
			t.order[t.found] = node
			t.found++
		}
		if depth < int(t.query.DepthMax) {
			t.path = append(t.path, v.cols[v.rows[node]:v.rows[node+1]])
		}
	}
}
