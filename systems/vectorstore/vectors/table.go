// Package vectors keeps many vectors of one length in numbered slots and
// computes the distances of a query to slots: exactly in f32 and, when asked
// for, approximately in int8 with a quarter of the memory traffic.
//
// A distance is lower for nearer vectors, whatever the metric.
package vectors

import (
	"fmt"
	"math"
	"sync/atomic"
	"unsafe"

	"github.com/nexuscore-labs/nexus/systems/vectorstore/distance"
)

// Metric is how two vectors are compared.
type Metric uint8

const (
	// Cosine is one minus the cosine similarity. Vectors are normalized when
	// they are put; a zero vector stays zero and has distance 1 to all others.
	Cosine Metric = iota
	// Dot is the negative dot product.
	Dot
	// Euclid is the squared Euclidean distance.
	Euclid
)

func (m Metric) String() string {
	return [...]string{"cosine", "dot", "euclid"}[m]
}

// Score turns a distance into what users of such a store expect: similarity for
// Cosine and Dot (higher is nearer), the distance itself for Euclid.
func (m Metric) Score(distance float32) float32 {
	switch m {
	case Cosine:
		return 1 - distance
	case Dot:
		return -distance
	default:
		return float32(math.Sqrt(float64(distance)))
	}
}

// HigherIsNearer says how scores are ordered.
func (m Metric) HigherIsNearer() bool { return m != Euclid }

// DimMax bounds the length of vectors.
const DimMax = 1 << 16

// rowsPerChunk is how many vectors are allocated together. Chunks never move,
// so that rows can be read while the table grows.
const rowsPerChunk = 512

// Rows begin at cache lines: one that lies across them costs a line more to
// read, and reading is most of a search.
const (
	lineBytes  = 64
	lineFloats = lineBytes / 4
)

// chunk is so large that Go aligns it to a page.
type chunk struct {
	floats []float32
	codes  []int8 // a row's codes and, in the same lines, its codeScale
}

// codeScale turns the dot products of a row's codes into those of its vector.
type codeScale struct {
	step   float32 // value of one step of the codes
	square float32 // squared length of the coded vector
}

// Table is a growing table of vectors. Rows are written by one goroutine at a
// time, before their slot is known to readers and not again while any reader
// may know it; under that rule all methods may be used concurrently.
type Table struct {
	dim, stride int // floats of a row
	codeLen     int // codes of a row, padded for the kernel
	codeStride  int // bytes from row to row
	metric      Metric
	quantized   bool
	chunks      atomic.Pointer[[]*chunk]
}

// NewTable makes a table. With quantized set, each vector is also kept as int8.
func NewTable(dim int, metric Metric, quantized bool) (*Table, error) {
	if dim < 1 || dim > DimMax {
		return nil, fmt.Errorf("vectors: %d dimensions, want 1 to %d", dim, DimMax)
	}
	if metric > Euclid {
		return nil, fmt.Errorf("vectors: metric %d is unknown", metric)
	}
	t := &Table{dim: dim, metric: metric, quantized: quantized,
		stride: roundUp(dim, lineFloats), codeLen: roundUp(dim, distance.LanesInt8)}
	t.codeStride = roundUp(t.codeLen+int(unsafe.Sizeof(codeScale{})), lineBytes)
	t.chunks.Store(&[]*chunk{})
	return t, nil
}

func roundUp(n, to int) int { return (n + to - 1) / to * to }

// Dim is the length of the vectors.
func (t *Table) Dim() int { return t.dim }

// Metric is how they are compared.
func (t *Table) Metric() Metric { return t.metric }

// Quantized says whether distances are approximate unless asked for exactly.
func (t *Table) Quantized() bool { return t.quantized }

// Bytes is the memory that the vectors take.
func (t *Table) Bytes() int64 {
	perRow := int64(t.stride * 4)
	if t.quantized {
		perRow += int64(t.codeStride)
	}
	return int64(len(*t.chunks.Load())) * rowsPerChunk * perRow
}

// Normalize scales v to length 1 in place; a zero vector stays as it is.
func Normalize(v []float32) {
	var sum float64
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	if sum == 0 {
		return
	}
	factor := 1 / math.Sqrt(sum)
	for i := range v {
		v[i] = float32(float64(v[i]) * factor)
	}
}

// Put writes the vector of a slot.
func (t *Table) Put(slot uint32, v []float32) error {
	return t.put(slot, v, t.metric == Cosine)
}

// PutStored is Put for a vector that Row returned: it is kept bit by bit.
func (t *Table) PutStored(slot uint32, v []float32) error { return t.put(slot, v, false) }

func (t *Table) put(slot uint32, v []float32, normalize bool) error {
	if len(v) != t.dim {
		return fmt.Errorf("vectors: %d dimensions, want %d", len(v), t.dim)
	}
	for int(slot/rowsPerChunk) >= len(*t.chunks.Load()) {
		t.grow()
	}
	row := t.Row(slot)
	copy(row, v)
	if normalize {
		Normalize(row)
	}
	if t.quantized {
		c, at := t.locate(slot)
		*t.scale(c, at) = quantize(row, t.codes(c, at))
	}
	return nil
}

func (t *Table) grow() {
	c := &chunk{floats: make([]float32, rowsPerChunk*t.stride)}
	if t.quantized {
		c.codes = make([]int8, rowsPerChunk*t.codeStride)
	}
	before := *t.chunks.Load()
	after := append(before[:len(before):len(before)], c)
	t.chunks.Store(&after)
}

func (t *Table) locate(slot uint32) (*chunk, int) {
	return (*t.chunks.Load())[slot/rowsPerChunk], int(slot % rowsPerChunk)
}

// codes are the codes of a row.
func (t *Table) codes(c *chunk, at int) []int8 { return c.codes[at*t.codeStride:][:t.codeLen] }

// scale is behind them; codeLen is a multiple of its alignment.
func (t *Table) scale(c *chunk, at int) *codeScale {
	return (*codeScale)(unsafe.Pointer(&c.codes[at*t.codeStride+t.codeLen]))
}

// Row is the vector of a slot as it is stored (normalized for Cosine). It must
// not be changed.
func (t *Table) Row(slot uint32) []float32 {
	c, at := t.locate(slot)
	return c.floats[at*t.stride:][:t.dim:t.dim]
}

// quantize maps the largest absolute value to 127: symmetric, a scale for each
// vector, so that no training is needed and a vector never changes its codes.
func quantize(v []float32, codes []int8) codeScale {
	var largest float32
	for _, x := range v {
		largest = max(largest, x, -x)
	}
	if largest == 0 || math.IsInf(float64(largest), 0) || largest != largest {
		clear(codes)
		return codeScale{}
	}
	step := largest / 127
	var square int32
	for i, x := range v {
		codes[i] = int8(math.RoundToEven(float64(x / step)))
		square += int32(codes[i]) * int32(codes[i])
	}
	return codeScale{step: step, square: float32(square) * step * step}
}
