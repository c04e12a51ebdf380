package logframe

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nexuscore-labs/nexus/components/host"
)

// benchRecords is a batch of text records of the given size.
func benchRecords(count, size int) [][]byte {
	records := make([][]byte, count)
	for i := range records {
		records[i] = bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
	}
	return records
}

func benchFramer(b *testing.B, framer Framer, count, size int) {
	records, verdicts := benchRecords(count, size), make([]Verdict, count)
	b.SetBytes(int64(count * size))
	b.ReportAllocs()
	for b.Loop() {
		if err := framer.Frame(records, verdicts); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*count), "ns/record")
}

func BenchmarkFrame(b *testing.B) {
	_, engine := newTestEngine(b, guestWasm)
	policy := Policy{Encoding: EncodingText}
	for _, size := range []int{100, 1 << 10, 4 << 10} {
		for _, count := range []int{1, 64} {
			name := fmt.Sprintf("%dB/batch%d", size, count)
			guest, err := engine.Tenant(1, policy, State{NextSeq: 1})
			if err != nil {
				b.Fatal(err)
			}
			native, err := NewNative(1, policy, State{NextSeq: 1})
			if err != nil {
				b.Fatal(err)
			}
			b.Run("wasm/"+name, func(b *testing.B) { benchFramer(b, guest, count, size) })
			b.Run("native/"+name, func(b *testing.B) { benchFramer(b, native, count, size) })
			guest.Close()
		}
	}
}

// BenchmarkTenantStart is a tenant's start until it can frame: on a fresh
// instance, and on one that the pool had ready.
func BenchmarkTenantStart(b *testing.B) {
	b.Run("cold", func(b *testing.B) {
		_, engine := newTestEngine(b, guestWasm)
		engine.Close() // no filler, nothing ready
		benchStart(b, engine, func() {})
	})
	b.Run("pool", func(b *testing.B) {
		_, engine := newTestEngine(b, guestWasm)
		benchStart(b, engine, func() {
			for !engine.pool.Ready() {
				runtime.Gosched()
			}
		})
	})
}

func benchStart(b *testing.B, engine *Engine, wait func()) {
	var starts []time.Duration
	for b.Loop() {
		wait()
		began := time.Now()
		tenant, err := engine.Tenant(1, Policy{}, State{NextSeq: 1})
		starts = append(starts, time.Since(began))
		if err != nil {
			b.Fatal(err)
		}
		tenant.Close()
	}
	slices.Sort(starts)
	b.ReportMetric(float64(starts[len(starts)/2].Nanoseconds()), "ns/start-p50")
	b.ReportMetric(float64(starts[len(starts)*99/100].Nanoseconds()), "ns/start-p99")
}

// BenchmarkMemoryPerTenant is what 1,000 tenants that framed a record each take.
func BenchmarkMemoryPerTenant(b *testing.B) {
	const tenants = 1000
	_, engine := newTestEngine(b, guestWasm)
	for range b.N {
		before, heapBefore := residentBytes(b), heapBytes()
		all := make([]*Tenant, tenants)
		verdicts := make([]Verdict, 1)
		for i := range all {
			var err error
			if all[i], err = engine.Tenant(uint32(i), Policy{}, State{NextSeq: 1}); err != nil {
				b.Fatal(err)
			}
			if err := all[i].Frame(benchRecords(1, 1<<10), verdicts); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(heapBytes()-heapBefore)/tenants, "heap-B/tenant")
		b.ReportMetric(float64(residentBytes(b)-before)/tenants, "rss-B/tenant")
		for _, tenant := range all {
			if err := tenant.Close(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func heapBytes() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// residentBytes is the process's resident set (proc_pid_statm(5)).
func residentBytes(tb testing.TB) int64 {
	tb.Helper()
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		tb.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(statm))[1], 10, 64)
	if err != nil {
		tb.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// TestFrameAllocatesNothing guards the hot path of both framers.
func TestFrameAllocatesNothing(t *testing.T) {
	_, engine := newTestEngine(t, guestWasm)
	guest, err := engine.Tenant(1, Policy{}, State{NextSeq: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer guest.Close()
	native, err := NewNative(1, Policy{}, State{NextSeq: 1})
	if err != nil {
		t.Fatal(err)
	}
	records, verdicts := benchRecords(8, 100), make([]Verdict, 8)
	for name, framer := range map[string]Framer{"guest": guest, "native": native} {
		if err := framer.Frame(records, verdicts); err != nil {
			t.Fatal(err)
		}
		allocs := testing.AllocsPerRun(100, func() {
			if err := framer.Frame(records, verdicts); err != nil {
				t.Fatal(err)
			}
		})
		if allocs != 0 {
			t.Errorf("%s: %v allocations per batch", name, allocs)
		}
	}
}

func TestCompiledOnceStartsEverywhere(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		runtime, err := host.New(context.Background(), dir)
		if err != nil {
			t.Fatal(err)
		}
		engine, err := NewEngine(context.Background(), runtime, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := engine.Close(); err != nil {
			t.Fatal(err)
		}
		runtime.Close(context.Background())
	}
}
