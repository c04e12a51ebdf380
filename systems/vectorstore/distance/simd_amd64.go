package distance

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

var simd = kernels{
	name: "avx2", dotRows: dotRowsAVX2, l2Rows: l2RowsAVX2, dot8Rows: dot8RowsAVX2, widen: widenAVX2, prefetch: prefetchLines,
	available: cpu.X86.HasAVX2 && cpu.X86.HasFMA,
}

//go:noescape
func dotRowsAVX2(q *float32, dim int, rows *unsafe.Pointer, n int, out *float32)

//go:noescape
func l2RowsAVX2(q *float32, dim int, rows *unsafe.Pointer, n int, out *float32)

//go:noescape
func dot8RowsAVX2(q *int16, dim int, rows *unsafe.Pointer, n int, out *int32)

//go:noescape
func prefetchLines(p unsafe.Pointer, n int)

//go:noescape
func widenAVX2(dst *int16, src *int8, n int)
