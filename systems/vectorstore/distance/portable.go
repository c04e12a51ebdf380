package distance

import "unsafe"

// The portable loops keep four sums, so that additions don't wait for each other.

func dotRowsPortable(q *float32, dim int, rows *unsafe.Pointer, n int, out *float32) {
	a, results := unsafe.Slice(q, dim), unsafe.Slice(out, n)
	for i, row := range unsafe.Slice(rows, n) {
		b := unsafe.Slice((*float32)(row), dim)
		var s0, s1, s2, s3 float32
		for at := 0; at+4 <= dim; at += 4 {
			s0 += a[at] * b[at]
			s1 += a[at+1] * b[at+1]
			s2 += a[at+2] * b[at+2]
			s3 += a[at+3] * b[at+3]
		}
		results[i] = s0 + s1 + (s2 + s3)
	}
}

func l2RowsPortable(q *float32, dim int, rows *unsafe.Pointer, n int, out *float32) {
	a, results := unsafe.Slice(q, dim), unsafe.Slice(out, n)
	for i, row := range unsafe.Slice(rows, n) {
		b := unsafe.Slice((*float32)(row), dim)
		var s0, s1, s2, s3 float32
		for at := 0; at+4 <= dim; at += 4 {
			d0, d1, d2, d3 := a[at]-b[at], a[at+1]-b[at+1], a[at+2]-b[at+2], a[at+3]-b[at+3]
			s0 += d0 * d0
			s1 += d1 * d1
			s2 += d2 * d2
			s3 += d3 * d3
		}
		results[i] = s0 + s1 + (s2 + s3)
	}
}

func widenPortable(dst *int16, src *int8, n int) {
	to := unsafe.Slice(dst, n)
	for i, v := range unsafe.Slice(src, n) {
		to[i] = int16(v)
	}
}

func dot8RowsPortable(q *int16, dim int, rows *unsafe.Pointer, n int, out *int32) {
	a, results := unsafe.Slice(q, dim), unsafe.Slice(out, n)
	for i, row := range unsafe.Slice(rows, n) {
		b := unsafe.Slice((*int8)(row), dim)
		var s0, s1 int32
		for at := 0; at+2 <= dim; at += 2 {
			s0 += int32(a[at]) * int32(b[at])
			s1 += int32(a[at+1]) * int32(b[at+1])
		}
		results[i] = s0 + s1
	}
}
