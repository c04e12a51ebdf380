package graph

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"unsafe"
)

const (
	magic      = "NXGR"
	headerLen  = 64
	sectionLen = 16 // sections start at its multiples
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Build makes an image of a graph: edges[n] are the nodes that node n leads to,
// documents[n] is its document.
func Build(edges [][]uint32, documents [][]byte) ([]byte, error) {
	if len(edges) != len(documents) {
		return nil, fmt.Errorf("graph: %d nodes with edges, %d with documents", len(edges), len(documents))
	}
	total, arenaLen := 0, 0
	for n := range edges {
		total += len(edges[n])
		arenaLen += RecordLen(len(documents[n]))
		if len(documents[n]) > DocumentLenMax {
			return nil, fmt.Errorf("node %d: %w", n, TooLarge)
		}
	}
	l, err := layoutOf(len(edges), total, arenaLen)
	if err != nil {
		return nil, err
	}
	image := make([]byte, l.arenaAt, l.len())
	row, col, doc := image[l.rowsAt:], image[l.colsAt:], image[l.docsAt:]
	begins := uint32(0)
	for n := range edges {
		binary.LittleEndian.PutUint32(row[4*n:], begins)
		for i, to := range edges[n] {
			if int64(to) >= int64(len(edges)) {
				return nil, fmt.Errorf("graph: node %d leads to %d of %d nodes", n, to, len(edges))
			}
			binary.LittleEndian.PutUint32(col[4*(int(begins)+i):], to)
		}
		begins += uint32(len(edges[n]))
		binary.LittleEndian.PutUint32(doc[4*n:], uint32(len(image)-l.arenaAt))
		image = AppendRecord(image, uint32(n), documents[n])
	}
	binary.LittleEndian.PutUint32(row[4*len(edges):], begins)
	l.writeHeader(image)
	return image, nil
}

// layout is where an image's sections are.
type layout struct {
	nodes, edges, arenaLen          int
	rowsAt, colsAt, docsAt, arenaAt int
}

func layoutOf(nodes, edges, arenaLen int) (layout, error) {
	l := layout{nodes: nodes, edges: edges, arenaLen: arenaLen, rowsAt: headerLen}
	l.colsAt = aligned(l.rowsAt + 4*(nodes+1))
	l.docsAt = aligned(l.colsAt + 4*edges)
	l.arenaAt = aligned(l.docsAt + 4*nodes)
	if l.len() > math.MaxInt32 {
		return l, fmt.Errorf("graph: an image of %d bytes is too large", l.len())
	}
	return l, nil
}

func (l layout) len() int { return l.arenaAt + l.arenaLen }

func aligned(at int) int { return (at + sectionLen - 1) &^ (sectionLen - 1) }

func (l layout) writeHeader(image []byte) {
	copy(image, magic)
	for i, v := range []int{Version, 0, l.len(), l.nodes, l.edges, l.rowsAt, l.colsAt, l.docsAt, l.arenaAt, l.arenaLen} {
		binary.LittleEndian.PutUint32(image[4+4*i:], uint32(v))
	}
	binary.LittleEndian.PutUint32(image[8:], crc32.Checksum(image[12:], castagnoli))
}

// view is a checked image. Its slices alias the image.
type view struct {
	nodes uint32
	rows  []uint32
	cols  []uint32
	docs  []uint32
	arena []byte
	live  uint32 // bytes of current documents and their headers
}

// Check says whether bytes are an image: everything that an engine relies on,
// and the checksum.
func Check(image []byte) error {
	_, err := parse(image)
	return err
}

// Counts returns the nodes and edges of an image.
func Counts(image []byte) (nodes, edges uint32, err error) {
	v, err := parse(image)
	return v.nodes, uint32(len(v.cols)), err
}

func parse(image []byte) (view, error) {
	l, err := readHeader(image)
	if err != nil {
		return view{}, err
	}
	v := view{
		nodes: uint32(l.nodes),
		rows:  numbers(image[l.rowsAt:], l.nodes+1),
		cols:  numbers(image[l.colsAt:], l.edges),
		docs:  numbers(image[l.docsAt:], l.nodes),
		arena: image[l.arenaAt:],
	}
	for n := range l.nodes {
		if v.rows[n] > v.rows[n+1] {
			return view{}, fmt.Errorf("%w: columns of node %d end before they begin", MalformedImage, n)
		}
	}
	if v.rows[0] != 0 || v.rows[l.nodes] != uint32(l.edges) {
		return view{}, fmt.Errorf("%w: rows don't cover the columns", MalformedImage)
	}
	for i, to := range v.cols {
		if to >= v.nodes {
			return view{}, fmt.Errorf("%w: column %d is node %d of %d", MalformedImage, i, to, v.nodes)
		}
	}
	return v, v.walkArena()
}

func readHeader(image []byte) (layout, error) {
	if len(image) < headerLen || string(image[:4]) != magic {
		return layout{}, fmt.Errorf("%w: no header", MalformedImage)
	}
	field := func(at int) int { return int(binary.LittleEndian.Uint32(image[at:])) }
	if field(4) != Version {
		return layout{}, fmt.Errorf("%w: version %d", MalformedImage, field(4))
	}
	if field(12) != len(image) || field(16) > len(image)/4 || field(20) > len(image)/4 || field(40) > len(image) {
		return layout{}, fmt.Errorf("%w: lengths", MalformedImage)
	}
	l, err := layoutOf(field(16), field(20), field(40))
	if err != nil {
		return l, err
	}
	if l.len() != len(image) || field(24) != l.rowsAt || field(28) != l.colsAt || field(32) != l.docsAt || field(36) != l.arenaAt {
		return l, fmt.Errorf("%w: sections", MalformedImage)
	}
	for at := 44; at < headerLen; at += 4 {
		if field(at) != 0 {
			return l, fmt.Errorf("%w: unknown field", MalformedImage)
		}
	}
	if uint32(field(8)) != crc32.Checksum(image[12:], castagnoli) {
		return l, fmt.Errorf("%w: checksum", MalformedImage)
	}
	return l, nil
}

// walkArena checks that the arena is a row of documents, one current of each node.
func (v *view) walkArena() error {
	current := uint32(0)
	for at := uint32(0); at < uint32(len(v.arena)); {
		node, n, err := v.document(at)
		if err != nil {
			return err
		}
		if node < v.nodes && v.docs[node] == at {
			current++
			v.live += documentHeaderLen + n
		}
		at += uint32(RecordLen(int(n)))
	}
	if current != v.nodes {
		return fmt.Errorf("%w: %d current documents of %d nodes", MalformedImage, current, v.nodes)
	}
	return nil
}

// document reads the header of a document and checks that it is whole.
func (v *view) document(at uint32) (node, n uint32, err error) {
	rest := v.arena[at:]
	if len(rest) < documentHeaderLen {
		return 0, 0, fmt.Errorf("%w: document cut off", MalformedImage)
	}
	n = binary.LittleEndian.Uint32(rest[4:])
	if n > DocumentLenMax || RecordLen(int(n)) > len(rest) {
		return 0, 0, fmt.Errorf("%w: document of %d bytes", MalformedImage, n)
	}
	return binary.LittleEndian.Uint32(rest), n, nil
}

// numbers reads n little-endian numbers without copying them: the project runs
// on little-endian machines only, as its BPF programs do. A start that isn't
// aligned is copied.
func numbers(src []byte, n int) []uint32 {
	if n == 0 {
		return nil
	}
	src = src[:4*n]
	at := unsafe.Pointer(unsafe.SliceData(src))
	if uintptr(at)%4 == 0 {
		return unsafe.Slice((*uint32)(at), n)
	}
	out := make([]uint32, n)
	for i := range out {
		out[i] = binary.LittleEndian.Uint32(src[4*i:])
	}
	return out
}
