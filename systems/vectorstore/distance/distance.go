// Package distance has the inner loops of vector search: dot products and
// squared Euclidean distances of one query with many rows, in f32 and int8.
//
// On amd64 with AVX2 and FMA (looked up at start) they are written in assembly
// and ask for the next row's memory while they compute on this one; a graph
// search waits for memory more than for arithmetic. Everywhere else the
// portable loops serve. Both are held against float64 sums by the tests.
//
// Sums are taken in another order by each implementation, so f32 results may
// differ in the last bits between machines; int8 results are exact everywhere.
package distance

import (
	"slices"
	"unsafe"
)

// Lanes that the row kernels need the query's length to be a multiple of.
// Rows shorter than that are padded with zeros, which change neither result.
const (
	LanesFloat32 = 8
	LanesInt8    = 16
)

// kernels are the loops in use. Rows are read through bare pointers: rows[i]
// must lead to at least dim elements.
type kernels struct {
	name      string
	dotRows   func(q *float32, dim int, rows *unsafe.Pointer, n int, out *float32)
	l2Rows    func(q *float32, dim int, rows *unsafe.Pointer, n int, out *float32)
	dot8Rows  func(q *int16, dim int, rows *unsafe.Pointer, n int, out *int32)
	widen     func(dst *int16, src *int8, n int) // n is a multiple of LanesInt8
	prefetch  func(p unsafe.Pointer, n int)
	available bool
}

var portable = kernels{name: "portable", dotRows: dotRowsPortable, l2Rows: l2RowsPortable, dot8Rows: dot8RowsPortable, widen: widenPortable, prefetch: func(unsafe.Pointer, int) {}, available: true}

// inUse is chosen once, before anything runs.
var inUse = choose()

func choose() kernels {
	if simd.available {
		return simd
	}
	return portable
}

// Implementation names the loops in use: "avx2" or "portable".
func Implementation() string { return inUse.name }

// DotRows writes the dot products of q with each row to out. len(q) is a
// multiple of LanesFloat32, each row leads to as many float32, and out has room
// for len(rows).
func DotRows(q []float32, rows []unsafe.Pointer, out []float32) {
	if len(rows) > 0 && len(q) > 0 {
		inUse.dotRows(&q[0], len(q), &rows[0], len(rows), &out[:len(rows)][0])
	}
}

// SquaredL2Rows is DotRows with squared Euclidean distances.
func SquaredL2Rows(q []float32, rows []unsafe.Pointer, out []float32) {
	if len(rows) > 0 && len(q) > 0 {
		inUse.l2Rows(&q[0], len(q), &rows[0], len(rows), &out[:len(rows)][0])
	}
}

// DotInt8Rows is DotRows for int8 rows. The query is given widened (see Widen):
// half of the kernel's time went into widening it anew for each row. len(q) is a
// multiple of LanesInt8 and at most 1<<16, so that no sum overflows.
func DotInt8Rows(q []int16, rows []unsafe.Pointer, out []int32) {
	if len(rows) > 0 && len(q) > 0 {
		inUse.dot8Rows(&q[0], len(q), &rows[0], len(rows), &out[:len(rows)][0])
	}
}

// Dot is the dot product of two vectors of one length, whatever that is.
func Dot(a, b []float32) float32 {
	var sum float32
	whole := len(a) &^ (LanesFloat32 - 1)
	if whole > 0 {
		row := unsafe.Pointer(&b[:len(a)][0])
		inUse.dotRows(&a[0], whole, &row, 1, &sum)
	}
	for i := whole; i < len(a); i++ {
		sum += a[i] * b[i]
	}
	return sum
}

// SquaredL2 is the squared Euclidean distance of two vectors of one length.
func SquaredL2(a, b []float32) float32 {
	var sum float32
	whole := len(a) &^ (LanesFloat32 - 1)
	if whole > 0 {
		row := unsafe.Pointer(&b[:len(a)][0])
		inUse.l2Rows(&a[0], whole, &row, 1, &sum)
	}
	for i := whole; i < len(a); i++ {
		d := a[i] - b[i]
		sum += d * d
	}
	return sum
}

// DotInt8 is the dot product of a widened vector and an int8 one of its length.
func DotInt8(a []int16, b []int8) int32 {
	var sum int32
	whole := len(a) &^ (LanesInt8 - 1)
	if whole > 0 {
		row := unsafe.Pointer(&b[:len(a)][0])
		inUse.dot8Rows(&a[0], whole, &row, 1, &sum)
	}
	for i := whole; i < len(a); i++ {
		sum += int32(a[i]) * int32(b[i])
	}
	return sum
}

// Prefetch asks for the memory of n bytes at p, which will be read soon; p need
// not lead anywhere.
func Prefetch(p unsafe.Pointer, n int) { inUse.prefetch(p, n) }

// Widen appends the values of src to dst.
func Widen(dst []int16, src []int8) []int16 {
	begin := len(dst)
	dst = slices.Grow(dst, len(src))[:begin+len(src)]
	wide, whole := dst[begin:], len(src)&^(LanesInt8-1)
	if whole > 0 {
		inUse.widen(&wide[0], &src[0], whole)
	}
	for i := whole; i < len(src); i++ {
		wide[i] = int16(src[i])
	}
	return dst
}
