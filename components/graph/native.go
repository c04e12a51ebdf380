package graph

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// workPerCall bounds the edges that one call looks at, about.
const workPerCall = 1 << 21

// Native is the guest's job done in Go: what the sandbox is measured against.
type Native struct {
	view
	memory    []byte
	arenaUsed uint32
	repacks   uint32
	cursors   []traversal
	clock     uint64
}

var _ Engine = (*Native)(nil)

// NewNative loads an image, which is copied.
func NewNative(image []byte, options Options) (*Native, error) {
	if err := options.check(); err != nil {
		return nil, err
	}
	memory, err := hugeMemory(len(image) + int(options.ArenaGrowth))
	if err != nil {
		return nil, err
	}
	copy(memory, image)
	v, err := parse(memory[:len(image):len(image)])
	if err != nil {
		return nil, errors.Join(err, unix.Munmap(memory))
	}
	used := len(v.arena)
	v.arena = memory[len(image)-used:]
	n := &Native{view: v, memory: memory, arenaUsed: uint32(used), cursors: make([]traversal, options.Cursors)}
	for i := range n.cursors {
		n.cursors[i].order = make([]uint32, v.nodes+1)
		n.cursors[i].bits = make([]uint32, (v.nodes+31)/32)
		n.cursors[i].distances = make([]uint8, v.nodes)
	}
	return n, nil
}

// Query implements Engine.
func (n *Native) Query(q Query, dst []byte) ([]byte, error) {
	if err := q.check(); err != nil {
		return dst, err
	}
	if q.Root >= n.nodes {
		return dst, UnknownNode
	}
	t := n.resume(q)
	n.clock++
	t.usedAt = n.clock
	return n.fill(t, q, dst)
}

// resume finds the traversal that stopped where the query goes on, or begins it
// in place of the oldest.
func (n *Native) resume(q Query) *traversal {
	oldest := &n.cursors[0]
	for i := range n.cursors {
		t := &n.cursors[i]
		if q.Position != 0 && t.usedAt != 0 && t.sent == q.Position && t.query.sameTraversal(q) {
			return t
		}
		if t.usedAt < oldest.usedAt {
			oldest = t
		}
	}
	oldest.begin(&n.view, q)
	return oldest
}

// fill sends what is found, and looks for no more than might still fit, but for
// one more in any case: whether there is one says whether the chunk is the last.
func (n *Native) fill(t *traversal, q Query, dst []byte) ([]byte, error) {
	start := len(dst)
	dst = AppendChunkHeader(dst, Chunk{})
	room := int(q.ChunkLenMax)
	recordLenMin := 4
	if q.Documents {
		recordLenMin = documentHeaderLen
	}
	work := workPerCall
	t.sent = q.Position
	for {
		before := len(dst)
		dst = n.emit(t, dst, room, q.Documents)
		room -= len(dst) - before
		if t.sent < t.results() || t.complete || work <= 0 {
			break
		}
		t.advance(&n.view, t.sent+max(1, uint32(room/recordLenMin)), &work)
	}
	if len(dst) == start+ChunkHeaderLen && t.sent < t.results() {
		return dst[:start], SmallChunk
	}
	AppendChunkHeader(dst[:start], Chunk{
		Results: t.sent - q.Position, Next: t.sent, Done: t.complete && t.sent >= t.results(),
	})
	return dst, nil
}

func (n *Native) emit(t *traversal, dst []byte, room int, documents bool) []byte {
	found := t.results()
	for ; t.sent < found; t.sent++ {
		node := t.order[t.sent]
		if !documents {
			if room < 4 {
				return dst
			}
			dst = binary.LittleEndian.AppendUint32(dst, node)
			room -= 4
			continue
		}
		at := n.docs[node]
		span := RecordLen(int(binary.LittleEndian.Uint32(n.arena[at+4:])))
		if span > room {
			return dst
		}
		dst = append(dst, n.arena[at:at+uint32(span)]...)
		room -= span
	}
	return dst
}

// Update implements Engine.
func (n *Native) Update(node uint32, document []byte) error {
	if node >= n.nodes {
		return UnknownNode
	}
	if len(document) > DocumentLenMax {
		return TooLarge
	}
	at := n.docs[node]
	before := binary.LittleEndian.Uint32(n.arena[at+4:])
	need := uint32(RecordLen(len(document)))
	if int(need) != RecordLen(int(before)) {
		if need > uint32(len(n.arena))-n.arenaUsed {
			_ = n.Repack() // which can't fail here
		}
		if need > uint32(len(n.arena))-n.arenaUsed {
			return Full
		}
		at = n.arenaUsed
		n.docs[node] = at
		n.arenaUsed += need
	}
	AppendRecord(n.arena[at:at:at+need], node, document)
	n.live += uint32(len(document)) - before
	return nil
}

// Repack implements Engine.
func (n *Native) Repack() error {
	to := uint32(0)
	for at := uint32(0); at < n.arenaUsed; {
		node := binary.LittleEndian.Uint32(n.arena[at:])
		span := uint32(RecordLen(int(binary.LittleEndian.Uint32(n.arena[at+4:]))))
		if node < n.nodes && n.docs[node] == at {
			copy(n.arena[to:], n.arena[at:at+span])
			n.docs[node] = to
			to += span
		}
		at += span
	}
	n.arenaUsed = to
	n.repacks++
	return nil
}

// Arena implements Engine.
func (n *Native) Arena() (Arena, error) {
	return Arena{Used: n.arenaUsed, Live: n.live, Room: uint32(len(n.arena)), Repacks: n.repacks}, nil
}

// Edges returns the nodes that a node leads to.
func (n *Native) Edges(node uint32) []uint32 {
	if node >= n.nodes {
		return nil
	}
	return n.cols[n.rows[node]:n.rows[node+1]]
}

// Close implements Engine. Nothing of the engine may be used afterwards.
func (n *Native) Close() error {
	memory := n.memory
	*n = Native{}
	return unix.Munmap(memory)
}

// hugeMemory maps memory as large images get it in a guest: outside of Go's heap,
// in huge pages where the kernel has any.
func hugeMemory(n int) ([]byte, error) {
	memory, err := unix.Mmap(-1, 0, max(n, 1), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes for a graph: %w", n, err)
	}
	if n >= hugeImageLen {
		_ = unix.Madvise(memory, unix.MADV_HUGEPAGE) // only a matter of speed
	}
	return memory, nil
}
