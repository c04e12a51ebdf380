// Each implementation is held against sums in float64 (f32) or int64 (int8)
// over all lengths around the loops' strides, at odd addresses, and with the
// extremes of int8.
package distance

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"unsafe"
)

func implementations(t testing.TB) []kernels {
	if !simd.available {
		t.Log("no SIMD on this machine: only the portable loops are tested")
		return []kernels{portable}
	}
	return []kernels{portable, simd}
}

// use makes one implementation serve the exported functions.
func use(t testing.TB, k kernels) {
	before := inUse
	inUse = k
	t.Cleanup(func() { inUse = before })
}

func TestFloat32AgainstFloat64(t *testing.T) {
	for _, k := range implementations(t) {
		t.Run(k.name, func(t *testing.T) {
			use(t, k)
			rng := rand.New(rand.NewPCG(1, 2))
			for n := 0; n <= 400; n++ {
				// One element in front makes the address odd for 32-byte loads.
				a, b := randomFloats(rng, n+1)[1:], randomFloats(rng, n+1)[1:]
				var dot, l2, size float64
				for i := range a {
					dot += float64(a[i]) * float64(b[i])
					d := float64(a[i]) - float64(b[i])
					l2 += d * d
					size += math.Abs(float64(a[i]) * float64(b[i]))
				}
				closeTo(t, fmt.Sprintf("dot of %d", n), Dot(a, b), dot, size)
				closeTo(t, fmt.Sprintf("squared l2 of %d", n), SquaredL2(a, b), l2, l2)
			}
		})
	}
}

func TestInt8IsExact(t *testing.T) {
	for _, k := range implementations(t) {
		t.Run(k.name, func(t *testing.T) {
			use(t, k)
			rng := rand.New(rand.NewPCG(3, 4))
			for n := 0; n <= 400; n++ {
				a, b := make([]int8, n+1)[1:], make([]int8, n+1)[1:]
				for _, extreme := range []bool{false, true} {
					var want int64
					for i := range a {
						a[i], b[i] = int8(rng.Uint32()), int8(rng.Uint32())
						if extreme {
							a[i], b[i] = -128, -128
						}
						want += int64(a[i]) * int64(b[i])
					}
					if got := DotInt8(Widen(nil, a), b); int64(got) != want {
						t.Fatalf("dot of %d, extreme %v: %d, want %d", n, extreme, got, want)
					}
				}
			}
		})
	}
}

// TestRowsAreIndependent: many rows at once give what each alone gives.
func TestRowsAreIndependent(t *testing.T) {
	for _, k := range implementations(t) {
		t.Run(k.name, func(t *testing.T) {
			use(t, k)
			rng := rand.New(rand.NewPCG(5, 6))
			for _, dim := range []int{16, 32, 48, 112, 384} {
				for n := range 9 {
					q, q8 := randomFloats(rng, dim), Widen(nil, randomInts(rng, dim))
					rows, rows8 := make([]unsafe.Pointer, n), make([]unsafe.Pointer, n)
					vectors, vectors8 := make([][]float32, n), make([][]int8, n)
					for i := range n {
						vectors[i], vectors8[i] = randomFloats(rng, dim), randomInts(rng, dim)
						rows[i], rows8[i] = unsafe.Pointer(&vectors[i][0]), unsafe.Pointer(&vectors8[i][0])
					}
					dots, l2s, dots8 := make([]float32, n), make([]float32, n), make([]int32, n)
					DotRows(q, rows, dots)
					SquaredL2Rows(q, rows, l2s)
					DotInt8Rows(q8, rows8, dots8)
					for i := range n {
						if dots[i] != Dot(q, vectors[i]) || l2s[i] != SquaredL2(q, vectors[i]) || dots8[i] != DotInt8(q8, vectors8[i]) {
							t.Fatalf("dim %d, row %d of %d differs from the row alone", dim, i, n)
						}
					}
				}
			}
		})
	}
}

func TestWiden(t *testing.T) {
	for _, k := range implementations(t) {
		use(t, k)
		rng := rand.New(rand.NewPCG(9, 9))
		for n := range 100 {
			src := randomInts(rng, n)
			got := Widen([]int16{77}, src)
			if len(got) != n+1 || got[0] != 77 {
				t.Fatalf("%s: %d values, the first %d", k.name, len(got), got[0])
			}
			for i, v := range src {
				if got[i+1] != int16(v) {
					t.Fatalf("%s: value %d of %d is %d, want %d", k.name, i, n, got[i+1], v)
				}
			}
		}
	}
}

// Prefetching is a hint: any address will do.
func TestPrefetch(t *testing.T) {
	for _, k := range implementations(t) {
		use(t, k)
		Prefetch(nil, 200)
		Prefetch(unsafe.Pointer(&k), 0)
	}
}

func TestNotANumberStaysVisible(t *testing.T) {
	for _, k := range implementations(t) {
		use(t, k)
		a := make([]float32, 40)
		a[3] = float32(math.NaN())
		if got := Dot(a, a); got == got {
			t.Errorf("%s: a vector with NaN has the dot product %v", k.name, got)
		}
	}
}

func randomFloats(rng *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(rng.NormFloat64())
	}
	return v
}

func randomInts(rng *rand.Rand, n int) []int8 {
	v := make([]int8, n)
	for i := range v {
		v[i] = int8(rng.Uint32())
	}
	return v
}

// closeTo allows the rounding of n float32 additions of terms that add up to
// size without their signs.
func closeTo(t *testing.T, what string, got float32, want, size float64) {
	t.Helper()
	if math.Abs(float64(got)-want) > 1e-5*size+1e-12 {
		t.Fatalf("%s: %v, want %v", what, got, want)
	}
}

func BenchmarkRows(b *testing.B) {
	for _, k := range implementations(b) {
		use(b, k)
		rng := rand.New(rand.NewPCG(7, 8))
		for _, dim := range []int{112, 384} {
			const n = 32
			q, q8, flat, flat8 := randomFloats(rng, dim), Widen(nil, randomInts(rng, dim)), randomFloats(rng, dim*n), randomInts(rng, dim*n)
			rows, rows8 := make([]unsafe.Pointer, n), make([]unsafe.Pointer, n)
			for i := range n {
				rows[i], rows8[i] = unsafe.Pointer(&flat[i*dim]), unsafe.Pointer(&flat8[i*dim])
			}
			out, out8 := make([]float32, n), make([]int32, n)
			b.Run(fmt.Sprintf("f32/%s/%d", k.name, dim), func(b *testing.B) {
				for b.Loop() {
					DotRows(q, rows, out)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/row")
			})
			b.Run(fmt.Sprintf("int8/%s/%d", k.name, dim), func(b *testing.B) {
				for b.Loop() {
					DotInt8Rows(q8, rows8, out8)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/row")
			})
		}
	}
}
