package projection

import (
	"fmt"
	"slices"
	"testing"
	"time"

	fold "github.com/nexuscore-labs/nexus/components/projection"
)

// BenchmarkRebuild is a cold rebuild of a tenant with so many events: a guest from
// the pool, the snapshot from its file, the events behind it from the log, and
// an encoding. What comes behind the snapshot grows to 10,000 events, in records
// of 16, and starts again.
func BenchmarkRebuild(b *testing.B) {
	for _, history := range []uint64{10_000, 1_000_000, 10_000_000} {
		b.Run(fmt.Sprint(history), func(b *testing.B) {
			e := openTest(b, b.TempDir(), Options{})
			defer closeTest(b, e)
			benchRebuild(b, e, history)
		})
	}
}

// BenchmarkFullReplay is what a rebuild costs without snapshots.
func BenchmarkFullReplay(b *testing.B) {
	for _, history := range []uint64{10_000, 1_000_000} {
		b.Run(fmt.Sprint(history), func(b *testing.B) {
			e := openTest(b, b.TempDir(), Options{SnapshotEvents: 1 << 30, SnapshotRecords: 1 << 30})
			defer closeTest(b, e)
			benchRebuild(b, e, history)
		})
	}
}

// BenchmarkLonelyEvents is a cold rebuild that replays so many events, each in a
// record and a commit of its own: what SnapshotRecords bounds.
func BenchmarkLonelyEvents(b *testing.B) {
	for _, events := range []uint64{999, 9999} {
		b.Run(fmt.Sprint(events), func(b *testing.B) {
			e := openTest(b, b.TempDir(), Options{SnapshotEvents: 1 << 30, SnapshotRecords: 1 << 30})
			defer closeTest(b, e)
			for n := range events {
				appendBench(b, e, n, 1)
			}
			for b.Loop() {
				if err := e.Evict(1); err != nil {
					b.Fatal(err)
				}
				if _, err := e.Rebuild(ctx, 1, 5); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestBenchmarksSmall keeps the benchmarks alive.
func TestBenchmarksSmall(t *testing.T) {
	e := openTest(t, t.TempDir(), Options{SnapshotEvents: 100})
	defer closeTest(t, e)
	fill(t, e, 1000)
	if startsNs := rebuilds(t, e, 5); len(startsNs) != 5 {
		t.Fatal(startsNs)
	}
}

func benchRebuild(b *testing.B, e *Engine, history uint64) {
	fill(b, e, history)
	b.ResetTimer()
	ns := rebuilds(b, e, max(b.N, 2))
	slices.Sort(ns)
	b.ReportMetric(float64(ns[len(ns)/2]), "ns/rebuild-p50")
	b.ReportMetric(float64(ns[len(ns)*99/100]), "ns/rebuild-p99")
}

// benchEvent is the n-th event of a shop: an order runs through its life.
func benchEvent(n uint64) fold.Event {
	product := uint32(n*0x9e3779b97f4a7c15>>40) % 4096
	return fold.Event{TimeMs: n, Kind: fold.Kind(1 + n%4), Order: uint32(n / 4), Product: product & (product >> 3), Amount: 100, Quantity: 1}
}

func appendBench(tb testing.TB, e *Engine, from, count uint64) {
	tb.Helper()
	events := make([]fold.Event, count)
	for i := range events {
		events[i] = benchEvent(from + uint64(i))
	}
	if _, err := e.Append(ctx, 1, events...); err != nil {
		tb.Fatal(err)
	}
}

func fill(tb testing.TB, e *Engine, history uint64) {
	tb.Helper()
	for n := uint64(0); n < history; n += EventsMax {
		appendBench(tb, e, n, min(EventsMax, history-n))
	}
	if e.options.SnapshotEvents <= int(history) {
		if _, err := e.Snapshot(1); err != nil {
			tb.Fatal(err)
		}
	}
}

// rebuilds times so many cold rebuilds with 160 events more before each.
func rebuilds(tb testing.TB, e *Engine, count int) (ns []int64) {
	tb.Helper()
	seq, err := e.tenant(1, false).lastEvent()
	if err != nil {
		tb.Fatal(err)
	}
	for range count {
		for range 10 {
			appendBench(tb, e, seq, 16)
			seq += 16
		}
		if err := e.Evict(1); err != nil {
			tb.Fatal(err)
		}
		began := time.Now()
		if r, err := e.Rebuild(ctx, 1, 5); err != nil || r.Seq != seq {
			tb.Fatalf("rebuilt at %d, want %d, error %v", r.Seq, seq, err)
		}
		ns = append(ns, time.Since(began).Nanoseconds())
	}
	return ns
}
