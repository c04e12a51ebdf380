package host

import (
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkStart is an instance's start and its first call, which touches its
// memory: cold, and from a pool that had time to fill itself.
func BenchmarkStart(b *testing.B) {
	_, m := newModule(b)
	b.Run("cold", func(b *testing.B) {
		benchStart(b, func() {}, func() (*Instance, error) { return m.Instantiate(ctx) })
	})
	b.Run("pool", func(b *testing.B) {
		p, err := NewPool(m, 64, "keep")
		if err != nil {
			b.Fatal(err)
		}
		defer p.Close(ctx)
		wait := func() {
			for len(p.ready) < cap(p.ready) {
				time.Sleep(100 * time.Microsecond)
			}
		}
		benchStart(b, wait, func() (*Instance, error) { return p.Get(ctx) })
	})
}

func benchStart(b *testing.B, wait func(), start func() (*Instance, error)) {
	stack := make([]uint64, 1)
	var startsNs []int64
	b.ReportAllocs()
	for b.Loop() {
		wait()
		began := time.Now()
		i, err := start()
		if err != nil {
			b.Fatal(err)
		}
		f, err := i.Func("keep")
		if err != nil {
			b.Fatal(err)
		}
		if err := f.Call(ctx, stack); err != nil {
			b.Fatal(err)
		}
		startsNs = append(startsNs, time.Since(began).Nanoseconds())
		i.Close(ctx)
	}
	slices.Sort(startsNs)
	b.ReportMetric(float64(startsNs[len(startsNs)/2]), "ns/start-p50")
	b.ReportMetric(float64(startsNs[len(startsNs)*99/100]), "ns/start-p99")
}

// BenchmarkDensity keeps tenants alive at once, each in a guest of its own that
// was called, and says what each takes of the process.
func BenchmarkDensity(b *testing.B) {
	for _, tenants := range []int{10, 1000, 10_000} {
		b.Run(strconv.Itoa(tenants), func(b *testing.B) {
			// Once: a second time the process would already have the room.
			rss, heap := liveTenants(b, tenants)
			b.ReportMetric(float64(rss)/float64(tenants), "rss-B/tenant")
			b.ReportMetric(float64(heap)/float64(tenants), "heap-B/tenant")
		})
	}
}

// TestDensity: ten thousand tenants in one process, and no state that two share.
func TestDensity(t *testing.T) {
	liveTenants(t, 10_000)
}

// liveTenants starts so many guests, calls each twice, and returns what they
// took while all were there.
func liveTenants(tb testing.TB, tenants int) (rssBytes, heapBytes int64) {
	_, m := newModule(tb)
	rssBefore, heapBefore := processBytes(tb)
	instances := make([]*Instance, tenants)
	for n := range instances {
		instances[n] = instantiate(tb, m)
		if before, err := call(tb, instances[n], "keep", uint64(n)+1); before != 0 || err != nil {
			tb.Fatalf("tenant %d found %d, error %v", n, before, err)
		}
	}
	rss, heap := processBytes(tb)
	for n, i := range instances {
		if got, err := call(tb, i, "keep", 0); got != uint64(n)+1 || err != nil {
			tb.Fatalf("tenant %d found %d, error %v", n, got, err)
		}
		if err := i.Close(ctx); err != nil {
			tb.Fatal(err)
		}
	}
	return rss - rssBefore, heap - heapBefore
}

// processBytes is the process's resident set (proc_pid_statm(5)) and Go's heap.
func processBytes(tb testing.TB) (rss, heap int64) {
	tb.Helper()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		tb.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(statm))[1], 10, 64)
	if err != nil {
		tb.Fatal(err)
	}
	return pages * int64(os.Getpagesize()), int64(stats.HeapAlloc)
}

func BenchmarkCall(b *testing.B) {
	_, m := newModule(b)
	i := instantiate(b, m)
	defer i.Close(ctx)
	f, err := i.Func("add")
	if err != nil {
		b.Fatal(err)
	}
	stack := make([]uint64, 2)
	b.ReportAllocs()
	for b.Loop() {
		if err := f.Call(ctx, stack); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFuel is the cost of one turn of an otherwise empty loop.
func BenchmarkFuel(b *testing.B) {
	_, m := newModule(b)
	i := instantiate(b, m)
	defer i.Close(ctx)
	const turns = 100_000
	for b.Loop() {
		if _, err := call(b, i, "count", turns); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/turns, "ns/turn")
}
