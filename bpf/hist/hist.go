// Package hist is the histogram that the BPF programs fill and Go reads:
// log-linear buckets, 32 to each power of two. The C half is loglinear.h.
package hist

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -strip llvm-strip-19 -no-global-types -output-suffix _test -target bpfel -go-package hist bucketing bucketing.bpf.c -- -I../headers -O2 -g -Wall -Werror -mcpu=v3

import (
	"fmt"
	"math"
	"math/bits"
)

const (
	subBits = 5
	subs    = 1 << subBits
	expMax  = 46

	// Len is the number of buckets.
	Len = (expMax - subBits + 1) * subs
	// ValueMax is the largest value that has a bucket of its own width; larger
	// ones are counted in the last bucket. In ns it is 19.5 hours.
	ValueMax = 1<<expMax - 1
	// ErrorMax bounds |estimate - value| / value when a value is estimated by
	// the middle of its bucket.
	ErrorMax = 1.0 / (2 * subs)
)

// Index returns the bucket of v.
func Index(v uint64) int {
	if v < subs {
		return int(v)
	}
	if v > ValueMax {
		return Len - 1
	}
	e := bits.Len64(v) - 1 - subBits
	return e<<subBits + int(v>>e)
}

// Edges returns the values [lo, hi) that bucket i counts. The last bucket also
// counts everything above. It panics if i is not in [0, Len).
func Edges(i int) (lo, hi uint64) {
	if i < 0 || i >= Len {
		panic(fmt.Sprintf("hist: bucket %d out of range", i))
	}
	if i < subs {
		return uint64(i), uint64(i) + 1
	}
	e := i>>subBits - 1
	lo = uint64(i-e<<subBits) << e
	return lo, lo + 1<<e
}

// Raw is one CPU's histogram as it lies in a BPF map (struct loglinear).
type Raw struct {
	Sum    uint64
	Counts [Len]uint64
}

// Histogram is a distribution of unsigned integers. The zero value is empty and
// ready to use. It is not safe for concurrent use.
type Histogram struct {
	Sum    uint64   // of the exact values, not of the buckets
	Counts []uint64 // by bucket; nil when empty, else Len long
}

// Bucket counts the values in [Lo, Hi).
type Bucket struct {
	Lo, Hi uint64
	Count  uint64
}

// Record adds v.
func (h *Histogram) Record(v uint64) {
	h.grow()
	h.Sum += v
	h.Counts[Index(v)]++
}

// AddRaw adds what one CPU counted.
func (h *Histogram) AddRaw(raw *Raw) {
	h.grow()
	h.Sum += raw.Sum
	for i, n := range raw.Counts {
		h.Counts[i] += n
	}
}

// Merge adds the values of o to h.
func (h *Histogram) Merge(o *Histogram) {
	if o.Counts == nil {
		return
	}
	h.grow()
	h.Sum += o.Sum
	for i, n := range o.Counts {
		h.Counts[i] += n
	}
}

func (h *Histogram) grow() {
	if h.Counts == nil {
		h.Counts = make([]uint64, Len)
	}
}

// Count returns how many values were added.
func (h *Histogram) Count() uint64 {
	var n uint64
	for _, c := range h.Counts {
		n += c
	}
	return n
}

// Mean returns the exact mean, or NaN when empty.
func (h *Histogram) Mean() float64 {
	n := h.Count()
	if n == 0 {
		return math.NaN()
	}
	return float64(h.Sum) / float64(n)
}

// Quantile estimates the smallest value that at least the share q of the values
// does not exceed, within ErrorMax for values up to ValueMax. It returns NaN
// when h is empty or q is not in [0, 1].
func (h *Histogram) Quantile(q float64) float64 {
	n := h.Count()
	if n == 0 || !(q >= 0 && q <= 1) {
		return math.NaN()
	}
	rank := max(1, uint64(math.Ceil(q*float64(n))))
	var seen uint64
	for i, c := range h.Counts {
		seen += c
		if seen >= rank {
			return middle(i)
		}
	}
	return math.NaN()
}

// middle is exact for buckets of width 1 and the centre of the integers in any other.
func middle(i int) float64 {
	lo, hi := Edges(i)
	return float64(lo) + float64(hi-1-lo)/2
}

// Max returns the upper edge of the highest bucket in use, or 0 when empty.
func (h *Histogram) Max() uint64 {
	for i := len(h.Counts) - 1; i >= 0; i-- {
		if h.Counts[i] != 0 {
			_, hi := Edges(i)
			return hi
		}
	}
	return 0
}

// Buckets returns the buckets that are not empty, in ascending order.
func (h *Histogram) Buckets() []Bucket {
	var out []Bucket
	for i, c := range h.Counts {
		if c != 0 {
			lo, hi := Edges(i)
			out = append(out, Bucket{Lo: lo, Hi: hi, Count: c})
		}
	}
	return out
}
