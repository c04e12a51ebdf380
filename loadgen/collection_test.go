package loadgen

import (
	"math"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
)

// Runs may overlap: the last one to end gives collection back, as it was.
func TestCollectionIsHeldUntilTheLastRunEnds(t *testing.T) {
	percent := debug.SetGCPercent(73)
	defer debug.SetGCPercent(percent)
	limit := debug.SetMemoryLimit(-1)

	first := holdCollection()
	second := holdCollection()
	first()
	before := collections()
	var kept [][]byte
	for range 64 {
		kept = append(kept, make([]byte, 1<<20))
	}
	runtime.KeepAlive(kept)
	if n := collections() - before; n != 0 {
		t.Errorf("%d collections while one run still held them off", n)
	}
	second()
	if got := debug.SetGCPercent(73); got != 73 {
		t.Errorf("GC percent is %d afterwards, was 73", got)
	}
	if got := debug.SetMemoryLimit(-1); got != limit {
		t.Errorf("memory limit is %d afterwards, was %d", got, limit)
	}
}

// While collection is held off, memory stays bounded.
func TestHeldCollectionKeepsALimit(t *testing.T) {
	release := holdCollection()
	defer release()
	if limit := debug.SetMemoryLimit(-1); limit <= heapGrowthMax || limit == math.MaxInt64 {
		t.Errorf("memory limit is %d while held", limit)
	}
}

func TestCollectionUnderConcurrentRuns(t *testing.T) {
	percent := debug.SetGCPercent(100)
	defer debug.SetGCPercent(percent)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				holdCollection()()
			}
		})
	}
	wg.Wait()
	if got := debug.SetGCPercent(100); got != 100 {
		t.Errorf("GC percent is %d afterwards, was 100", got)
	}
}

func collections() uint32 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.NumGC
}
