package vectors

import (
	"fmt"
	"unsafe"

	"github.com/nexuscore-labs/nexus/systems/vectorstore/distance"
)

// BatchMax is how many slots one call of Distances or Exact takes.
const BatchMax = 64

// Query is a vector that slots are compared with. It has one user at a time and
// can be set to other vectors again.
type Query struct {
	table  *Table
	floats []float32 // padded; shared with the table when it is a slot's
	own    []float32
	codes  []int16
	step   float32
	square float32
	rows   [BatchMax]unsafe.Pointer
	dots   [BatchMax]int32
	narrow []int8
}

// NewQuery makes a query that must be set before its use.
func (t *Table) NewQuery() *Query {
	return &Query{table: t, own: make([]float32, t.stride)}
}

// Set makes v, which is copied, the query.
func (q *Query) Set(v []float32) error {
	if len(v) != q.table.dim {
		return fmt.Errorf("vectors: %d dimensions, want %d", len(v), q.table.dim)
	}
	copy(q.own, v)
	if q.table.metric == Cosine {
		Normalize(q.own[:len(v)])
	}
	q.floats = q.own
	if q.table.quantized {
		q.narrow = append(q.narrow[:0], make([]int8, q.table.codeLen)...)
		scale := quantize(q.own[:len(v)], q.narrow)
		q.codes = distance.Widen(q.codes[:0], q.narrow)
		q.step, q.square = scale.step, scale.square
	}
	return nil
}

// SetSlot makes a slot's vector the query, without a copy.
func (q *Query) SetSlot(slot uint32) {
	c, at := q.table.locate(slot)
	q.floats = c.floats[at*q.table.stride:][:q.table.stride]
	if q.table.quantized {
		q.codes = distance.Widen(q.codes[:0], q.table.codes(c, at))
		scale := q.table.scale(c, at)
		q.step, q.square = scale.step, scale.square
	}
}

// Exact writes the f32 distances to at most BatchMax slots to out.
func (q *Query) Exact(slots []uint32, out []float32) {
	t := q.table
	chunks := *t.chunks.Load()
	for i, slot := range slots {
		c, at := chunks[slot/rowsPerChunk], int(slot%rowsPerChunk)
		q.rows[i] = unsafe.Pointer(&c.floats[at*t.stride])
	}
	rows, out := q.rows[:len(slots)], out[:len(slots)]
	switch t.metric {
	case Euclid:
		distance.SquaredL2Rows(q.floats, rows, out)
	case Dot:
		distance.DotRows(q.floats, rows, out)
		for i, dot := range out {
			out[i] = -dot
		}
	default:
		distance.DotRows(q.floats, rows, out)
		for i, dot := range out {
			out[i] = 1 - dot
		}
	}
}

// Distances is Exact, or its int8 approximation in a quantized table.
func (q *Query) Distances(slots []uint32, out []float32) {
	t := q.table
	if !t.quantized {
		q.Exact(slots, out)
		return
	}
	chunks := *t.chunks.Load()
	for i, slot := range slots {
		c, at := chunks[slot/rowsPerChunk], int(slot%rowsPerChunk)
		q.rows[i] = unsafe.Pointer(&c.codes[at*t.codeStride])
	}
	distance.DotInt8Rows(q.codes, q.rows[:len(slots)], q.dots[:len(slots)])
	for i := range slots {
		// The line is in the cache: the last codes are in it too, or in the one before.
		scale := (*codeScale)(unsafe.Add(q.rows[i], t.codeLen))
		dot := float32(q.dots[i]) * q.step * scale.step
		switch t.metric {
		case Cosine:
			out[i] = 1 - dot
		case Dot:
			out[i] = -dot
		default:
			out[i] = max(q.square+scale.square-2*dot, 0)
		}
	}
}

// Distance is Distances for one slot.
func (q *Query) Distance(slot uint32) float32 {
	slots, out := [1]uint32{slot}, [1]float32{}
	q.Distances(slots[:], out[:])
	return out[0]
}
