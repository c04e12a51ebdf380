// Package graph answers queries from one tenant's graph, which has a document at
// every node: in a WebAssembly guest (Guest), the same in Go (Native), and by a
// dumb search that the tests hold both against (Reference).
//
// All three start from an image, the same bytes in a file, on a wire and in a
// guest's memory. Numbers are little-endian, sections start at multiples of 16
// and follow each other in this order:
//
//	offset size     field
//	0      4        magic "NXGR"
//	4      4        version, 1
//	8      4        CRC32C of everything behind this field
//	12     4        length of the image
//	16     4        nodes n
//	20     4        edges e
//	24     4        offset of rows:  u32 × (n+1), where each node's columns begin
//	28     4        offset of cols:  u32 × e, the nodes that edges lead to
//	32     4        offset of docs:  u32 × n, where in the arena each document is
//	36     4        offset of arena
//	40     4        length of arena, which ends the image
//	44     20       zero
//
// The arena is a row of documents, each of them a u32 node, a u32 length, as
// many bytes, and zeros up to a multiple of 4. A document that docs doesn't
// point at is dead: an update left it behind.
package graph

import (
	"encoding/binary"
	"fmt"
)

const (
	// Version of the image that this package reads and writes.
	Version = 1
	// DocumentLenMax bounds one document, in bytes.
	DocumentLenMax = ChunkLenMax - 16
	// ChunkLenMax bounds the records of one chunk, in bytes.
	ChunkLenMax = 64 << 10
	// DepthMax bounds Query.DepthMax.
	DepthMax = 254
	// CursorsMax bounds the traversals that an engine keeps for later chunks.
	CursorsMax = 64
	// QueryLen is the wire form of a query, ChunkHeaderLen what every chunk
	// begins with, in bytes.
	QueryLen       = 24
	ChunkHeaderLen = 12
	// documentHeaderLen precedes each document in the arena and in a chunk.
	documentHeaderLen = 8
)

// Algorithm is the order in which a query finds nodes.
type Algorithm uint8

const (
	BFS Algorithm = iota // by distance, then in the order of the edges
	DFS                  // preorder; it finds the same nodes as BFS
)

// Query asks for the nodes around a root, the root left out, and for their
// documents. Equal queries find the same nodes in the same order, so that
// Position can say where to go on: an engine remembers some traversals, and
// repeats those that it forgot.
type Query struct {
	Root        uint32
	DepthMax    uint8 // distance from the root, 1 to DepthMax
	Algorithm   Algorithm
	Documents   bool   // else node numbers only
	ResultsMax  uint32 // stops early; 0: no limit
	Position    uint32 // results that the caller has already
	ChunkLenMax uint32 // of the records, bytes
}

// Refusal is why an engine answered with nothing. It is an error.
type Refusal uint8

const (
	NotLoaded Refusal = iota + 1
	MalformedImage
	MalformedQuery
	UnknownNode
	SmallChunk // the next record is longer than ChunkLenMax
	Full       // no room for the document, not even after a repack
	TooLarge   // the document exceeds DocumentLenMax
)

func (r Refusal) Error() string {
	names := [...]string{"not refused", "no graph is loaded", "malformed image", "malformed query", "unknown node", "the next record doesn't fit the chunk", "the arena is full", "the document is too large"}
	if int(r) < len(names) {
		return "graph: " + names[r]
	}
	return fmt.Sprintf("graph: refusal %d", uint8(r))
}

// Engine answers from one graph. One goroutine uses it at a time.
type Engine interface {
	// Query appends a chunk to dst: u32 results in it, u32 position to go on
	// from, u8 1 when there are no more and three zeros, then the records. With
	// documents a record is as in the arena, otherwise a u32 node. A chunk may
	// be empty and not the last: the engine has then worked as long as it may.
	// An error that is a Refusal leaves the engine as it was.
	Query(q Query, dst []byte) ([]byte, error)
	// Update replaces a node's document, which is copied.
	Update(node uint32, document []byte) error
	// Repack moves the current documents together.
	Repack() error
	// Arena measures the arena.
	Arena() (Arena, error)
	Close() error
}

// Arena says how well an engine's arena is filled, in bytes.
type Arena struct {
	Used    uint32 // up to the end of the last document
	Live    uint32 // headers and bytes of current documents
	Room    uint32
	Repacks uint32
}

// Fragmentation is the share of the used bytes that hold nothing current:
// dead documents and padding.
func (a Arena) Fragmentation() float64 {
	if a.Used == 0 {
		return 0
	}
	return 1 - float64(a.Live)/float64(a.Used)
}

// Options of an engine.
type Options struct {
	ArenaGrowth uint32 // bytes that the arena may grow by
	Cursors     int    // traversals kept for later chunks, 1 to CursorsMax
}

func (o Options) check() error {
	if o.Cursors < 1 || o.Cursors > CursorsMax {
		return fmt.Errorf("graph: %d cursors, want 1 to %d", o.Cursors, CursorsMax)
	}
	return nil
}

// AppendQuery appends the wire form of a query:
//
//	offset size field
//	0      1    algorithm
//	1      1    depth
//	2      1    1: with documents
//	3      1    zero
//	4      4    root
//	8      4    results at most
//	12     4    position
//	16     4    chunk length at most
//	20     4    zero
func AppendQuery(dst []byte, q Query) []byte {
	var b [QueryLen]byte
	b[0], b[1] = byte(q.Algorithm), q.DepthMax
	if q.Documents {
		b[2] = 1
	}
	binary.LittleEndian.PutUint32(b[4:], q.Root)
	binary.LittleEndian.PutUint32(b[8:], q.ResultsMax)
	binary.LittleEndian.PutUint32(b[12:], q.Position)
	binary.LittleEndian.PutUint32(b[16:], q.ChunkLenMax)
	return append(dst, b[:]...)
}

// ParseQuery reads the wire form of a query, which must fill src. The query is
// in bounds, but its root may be unknown.
func ParseQuery(src []byte) (Query, error) {
	if len(src) != QueryLen || src[2] > 1 || src[3] != 0 || binary.LittleEndian.Uint32(src[20:]) != 0 {
		return Query{}, MalformedQuery
	}
	q := Query{
		Algorithm:   Algorithm(src[0]),
		DepthMax:    src[1],
		Documents:   src[2] == 1,
		Root:        binary.LittleEndian.Uint32(src[4:]),
		ResultsMax:  binary.LittleEndian.Uint32(src[8:]),
		Position:    binary.LittleEndian.Uint32(src[12:]),
		ChunkLenMax: binary.LittleEndian.Uint32(src[16:]),
	}
	return q, q.check()
}

func (q Query) check() error {
	if q.Algorithm > DFS || q.DepthMax < 1 || q.DepthMax > DepthMax || q.ChunkLenMax > ChunkLenMax {
		return MalformedQuery
	}
	return nil
}

// sameTraversal says whether two queries find the same nodes.
func (q Query) sameTraversal(other Query) bool {
	return q.Root == other.Root && q.Algorithm == other.Algorithm && q.DepthMax == other.DepthMax && q.ResultsMax == other.ResultsMax
}

// Chunk is a chunk taken apart. Records aliases what was parsed.
type Chunk struct {
	Results uint32
	Next    uint32
	Done    bool
	Records []byte
}

// ParseChunk takes a chunk apart.
func ParseChunk(src []byte) (Chunk, error) {
	if len(src) < ChunkHeaderLen || src[8] > 1 || src[9]|src[10]|src[11] != 0 {
		return Chunk{}, fmt.Errorf("graph: not a chunk: %d bytes", len(src))
	}
	return Chunk{
		Results: binary.LittleEndian.Uint32(src),
		Next:    binary.LittleEndian.Uint32(src[4:]),
		Done:    src[8] == 1,
		Records: src[ChunkHeaderLen:],
	}, nil
}

// AppendChunkHeader appends what a chunk begins with, records left out.
func AppendChunkHeader(dst []byte, c Chunk) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, c.Results)
	dst = binary.LittleEndian.AppendUint32(dst, c.Next)
	if c.Done {
		return append(dst, 1, 0, 0, 0)
	}
	return append(dst, 0, 0, 0, 0)
}

// AppendRecord appends one record with a document.
func AppendRecord(dst []byte, node uint32, document []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, node)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(document)))
	dst = append(dst, document...)
	return append(dst, make([]byte, padding(len(document)))...)
}

// RecordLen is the length of a record with a document of n bytes.
func RecordLen(n int) int { return documentHeaderLen + n + padding(n) }

func padding(n int) int { return -n & 3 }
