package hist

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/bpf/attach"
)

// The C half in the kernel and the Go half must put every value into the same
// bucket: at all edges, and at random values of every size.
func TestBucketsEqualC(t *testing.T) {
	if unix.Geteuid() != 0 {
		t.Skip("running a BPF program needs root")
	}
	spec, err := loadBucketing()
	if err != nil {
		t.Fatal(err)
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats}})
	if err != nil {
		t.Fatal(err)
	}
	defer coll.Close()
	record(t, coll.Programs["bucket_all"])
	var want Histogram
	for chunk := range slices.Chunk(interesting(), 512) {
		values := make([]uint64, 512)
		copy(values, chunk)
		for _, v := range values {
			want.Record(v)
		}
		indexes := make([]uint32, 512)
		if err := coll.Variables["values"].Set(values); err != nil {
			t.Fatal(err)
		}
		if _, err := coll.Programs["bucket_all"].Run(&ebpf.RunOptions{}); err != nil {
			t.Fatalf("run the C bucketing: %v", err)
		}
		if err := coll.Variables["indexes"].Get(&indexes); err != nil {
			t.Fatal(err)
		}
		for i, v := range values {
			if int(indexes[i]) != Index(v) {
				t.Fatalf("value %d: C says bucket %d, Go %d", v, indexes[i], Index(v))
			}
		}
	}
	var raw Raw
	if err := coll.Variables["sample"].Get(&raw); err != nil {
		t.Fatal(err)
	}
	var got Histogram
	got.AddRaw(&raw)
	if got.Sum != want.Sum || !slices.Equal(got.Counts, want.Counts) {
		t.Errorf("the histogram that C filled differs: sum %d, want %d", got.Sum, want.Sum)
	}
}

// record says what the verifier counted, as bpftest.Record does; bpftest stands
// on this package.
func record(t *testing.T, program *ebpf.Program) {
	t.Helper()
	info, err := program.Info()
	if err != nil {
		t.Fatal(err)
	}
	verified, _ := info.VerifiedInstructions()
	text, err := json.Marshal(attach.Program{Name: "bucket_all", Rung: "syscall", VerifiedInstructions: verified,
		StackBytes: attach.StackBytes(program.VerifierLog)})
	if err != nil {
		t.Fatal(err)
	}
	t.Attr("bpf-program", string(text))
}

// interesting holds every edge with its neighbours and random values of every
// bit length.
func interesting() []uint64 {
	values := []uint64{0, math.MaxUint64, math.MaxUint64 - 1, ValueMax, ValueMax + 1, 1 << 63}
	for i := range Len {
		lo, hi := Edges(i)
		values = append(values, lo, hi-1, hi)
	}
	rng := rand.New(rand.NewPCG(7, 3))
	for range 20000 {
		values = append(values, rng.Uint64()>>rng.IntN(64))
	}
	return values
}

func TestEdgesPartition(t *testing.T) {
	var next uint64
	for i := range Len {
		lo, hi := Edges(i)
		if lo != next || hi <= lo {
			t.Fatalf("bucket %d is [%d, %d), want it to begin at %d", i, lo, hi, next)
		}
		if Index(lo) != i || Index(hi-1) != i {
			t.Fatalf("bucket %d: its edges are in buckets %d and %d", i, Index(lo), Index(hi-1))
		}
		next = hi
	}
	if next != ValueMax+1 {
		t.Errorf("the buckets end at %d, want %d", next, uint64(ValueMax+1))
	}
	if Index(math.MaxUint64) != Len-1 {
		t.Errorf("the largest value is in bucket %d", Index(math.MaxUint64))
	}
}

func TestErrorBound(t *testing.T) {
	for _, v := range interesting() {
		if v == 0 || v > ValueMax {
			continue
		}
		if e := math.Abs(middle(Index(v))-float64(v)) / float64(v); e > ErrorMax || e > 0.03 {
			t.Fatalf("value %d is taken for %.1f: off by %.2f%%", v, middle(Index(v)), 100*e)
		}
	}
}

// Quantiles are compared with those of the sorted values.
func TestQuantile(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 5))
	for round := range 50 {
		n := 1 + rng.IntN(2000)
		values := make([]uint64, n)
		var h Histogram
		for i := range values {
			values[i] = rng.Uint64() >> (18 + rng.IntN(46))
			h.Record(values[i])
		}
		slices.Sort(values)
		for _, q := range []float64{0, 0.001, 0.5, 0.9, 0.99, 0.999, 1} {
			rank := max(1, int(math.Ceil(q*float64(n))))
			want := float64(values[rank-1])
			if got := h.Quantile(q); math.Abs(got-want) > ErrorMax*want {
				t.Fatalf("round %d: quantile %g of %d values is %g, want %g", round, q, n, got, want)
			}
		}
		if top := values[n-1]; h.Max() <= top || float64(h.Max()) > float64(top)*(1+2*ErrorMax)+1 {
			t.Errorf("round %d: maximum %d, the largest value is %d", round, h.Max(), top)
		}
	}
}

func TestQuantileOfNothing(t *testing.T) {
	var empty Histogram
	one := Histogram{}
	one.Record(5)
	for _, got := range []float64{empty.Quantile(0.5), empty.Mean(), one.Quantile(-0.1), one.Quantile(1.1), one.Quantile(math.NaN())} {
		if !math.IsNaN(got) {
			t.Errorf("got %g, want NaN", got)
		}
	}
	if empty.Count() != 0 || empty.Max() != 0 || empty.Buckets() != nil {
		t.Errorf("an empty histogram is not: %+v", empty)
	}
}

// Merging is the same as recording everything into one.
func TestMerge(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 1))
	var all, sum Histogram
	for range 8 {
		var part Histogram
		for range rng.IntN(300) {
			v := rng.Uint64() >> rng.IntN(64)
			part.Record(v)
			all.Record(v)
		}
		sum.Merge(&part)
	}
	if sum.Sum != all.Sum || !slices.Equal(sum.Counts, all.Counts) || sum.Count() != all.Count() {
		t.Error("the merged histogram differs from that of all values")
	}
	var n uint64
	for _, b := range sum.Buckets() {
		n += b.Count
	}
	if n != all.Count() {
		t.Errorf("the buckets hold %d values, want %d", n, all.Count())
	}
}

func BenchmarkRecord(b *testing.B) {
	var h Histogram
	for i := range b.N {
		h.Record(uint64(i) * 977)
	}
}

func BenchmarkQuantile(b *testing.B) {
	var h Histogram
	for _, v := range interesting() {
		h.Record(v)
	}
	for b.Loop() {
		h.Quantile(0.99)
	}
}
