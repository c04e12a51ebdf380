package seglog

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestAppendAllocatesNothing fails when the append path allocates per record.
func TestAppendAllocatesNothing(t *testing.T) {
	l := openTest(t, t.TempDir(), DirOptions{}, Options{})
	payload := make([]byte, 200)
	ctx := context.Background()
	n := testing.AllocsPerRun(300, func() {
		if _, err := l.Append(ctx, 1, payload); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations per append", n)
	}
	closeTest(t, l)
}

// TestEngineStageAllocatesNothing is the same for the server's path, without
// the disk: whole batches of records.
func TestEngineStageAllocatesNothing(t *testing.T) {
	dev := openTestDir(t, t.TempDir(), DirOptions{})
	e := openTestEngine(t, dev, Options{SegmentBytes: 256 << 20})
	prepareTest(t, e)
	payload := make([]byte, 100)
	n := testing.AllocsPerRun(200, func() {
		for tenant := range uint32(64) {
			if _, err := e.Stage(tenant, payload); err != nil {
				t.Fatal(err)
			}
		}
		if _, ok := e.Cut(); !ok {
			t.Fatal("nothing to commit")
		}
		e.Finish(nil)
	})
	// The sparse index grows by one entry per 16 records, in doubling slices.
	if n >= 1 {
		t.Errorf("%v allocations per batch of 64 records", n)
	}
}

func openTestDir(t testing.TB, path string, o DirOptions) *Dir {
	t.Helper()
	d, err := OpenDir(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func openTestEngine(t testing.TB, dev Device, o Options) *Engine {
	t.Helper()
	e, err := OpenEngine(dev, o, [][]byte{make([]byte, 1<<20), make([]byte, 1<<20)})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func prepareTest(t testing.TB, e *Engine) {
	t.Helper()
	p := e.Prepare()
	if p == nil {
		t.Fatal("no preparation is due")
	}
	p.Run()
	e.Prepared(p)
	if err := e.PrepareFailed(); err != nil {
		t.Fatal(err)
	}
}

// Each benchmark also runs small as a test.

func BenchmarkAppend(b *testing.B) {
	for _, writers := range []int{1, 16, 256} {
		for _, size := range []int{100, 4096} {
			b.Run(fmt.Sprintf("writers=%d/bytes=%d", writers, size), func(b *testing.B) {
				benchAppend(b, b.TempDir(), writers, size, b.N)
			})
		}
	}
}

func benchAppend(b testing.TB, dir string, writers, size, n int) {
	l := openTest(b, dir, DirOptions{}, Options{})
	if bb, ok := b.(*testing.B); ok {
		bb.ReportAllocs()
		bb.SetBytes(int64(size))
		bb.ResetTimer()
	}
	var wg sync.WaitGroup
	for w := range writers {
		share := n / writers
		if w < n%writers {
			share++
		}
		wg.Go(func() {
			payload := make([]byte, size)
			for range share {
				if _, err := l.Append(context.Background(), uint32(w), payload); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if bb, ok := b.(*testing.B); ok {
		bb.StopTimer()
		s := l.Stats()
		bb.ReportMetric(s.BatchRecordsMean(), "records/batch")
		bb.ReportMetric(float64(n)/bb.Elapsed().Seconds(), "appends/s")
	}
	closeTest(b, l)
}

func BenchmarkStage(b *testing.B) {
	for _, size := range []int{100, 1024} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) { benchStage(b, size, b.N) })
	}
}

// benchStage measures staging and publishing without the disk.
func benchStage(b testing.TB, size, n int) {
	e := openTestEngine(b, openTestDir(b, b.TempDir(), DirOptions{Reserve: true}), Options{SegmentBytes: 1 << 30})
	prepareTest(b, e)
	payload := make([]byte, size)
	if bb, ok := b.(*testing.B); ok {
		bb.ReportAllocs()
		bb.SetBytes(int64(size))
		bb.ResetTimer()
	}
	for i := range n {
		_, err := e.Stage(uint32(i%64), payload)
		if err == ErrBusy { // segment full
			flushTest(e)
			prepareTest(b, e)
			_, err = e.Stage(uint32(i%64), payload)
		}
		if err != nil {
			b.Fatal(err)
		}
		if i%256 == 255 {
			flushTest(e)
		}
	}
}

func flushTest(e *Engine) {
	if _, ok := e.Cut(); ok {
		e.Finish(nil) // this benchmark has no disk
	}
}

// BenchmarkRecovery opens a log that is in the page cache.
func BenchmarkRecovery(b *testing.B) {
	for _, size := range []int{100, 1000} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			dir, bytes := bigLog(b, size, 256<<20)
			b.SetBytes(bytes)
			b.ResetTimer()
			started := cpuTime(b)
			for b.Loop() {
				benchRecover(b, dir)
			}
			// Unlike MB/s this doesn't depend on what else the machine does.
			b.ReportMetric(float64(bytes)*float64(b.N)/1e6/(cpuTime(b)-started).Seconds(), "MB/CPU-s")
		})
	}
}

func cpuTime(b testing.TB) time.Duration {
	var use unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &use); err != nil {
		b.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

func benchRecover(b testing.TB, dir string) Recovery {
	dev := openTestDir(b, dir, DirOptions{})
	defer dev.Close()
	e := openTestEngine(b, dev, Options{})
	r := e.Recovery()
	if err := e.Close(nil); err != nil {
		b.Fatal(err)
	}
	return r
}

// bigLog writes a closed log of that many bytes and leaves it cached.
func bigLog(b testing.TB, record, total int) (dir string, size int64) {
	b.Helper()
	dir = filepath.Join(b.TempDir(), "log")
	dev := openTestDir(b, dir, DirOptions{Buffered: true, Reserve: true})
	e := openTestEngine(b, dev, Options{})
	payload := make([]byte, record)
	write := func() {
		k, ok := e.Cut()
		if !ok {
			return
		}
		_, err := k.File.WriteAt(e.batches[k.Buffer].buf[:k.Bytes], k.Offset)
		e.Finish(err)
	}
	for i := uint32(0); e.Bytes() < int64(total); i++ {
		_, err := e.Stage(i%1000, payload)
		for err == ErrBusy {
			write()
			if e.next == nil {
				prepareTest(b, e)
			}
			_, err = e.Stage(i%1000, payload)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	write()
	if err := e.Close(nil); err != nil {
		b.Fatal(err)
	}
	_ = dev.Close()
	r := benchRecover(b, dir) // warms the page cache
	return dir, r.Bytes
}

func TestBenchmarksSmall(t *testing.T) {
	benchAppend(t, t.TempDir(), 8, 100, 200)
	benchStage(t, 100, 5000)
	dir, size := bigLog(t, 500, 3<<20)
	if r := benchRecover(t, dir); r.Bytes != size || r.Records == 0 {
		t.Errorf("recovery %+v of %d bytes", r, size)
	}
}
