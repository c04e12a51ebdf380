package loadgen

import (
	"runtime"
	"runtime/debug"
	"sync"
)

// heapGrowthMax is how much a run may allocate before garbage is collected
// during it after all.
const heapGrowthMax = 2 << 30

// collection counts the runs that hold garbage collection off: it is the whole
// process's, and the last run to end gives it back.
var collection struct {
	mu      sync.Mutex
	holders int
	percent int
	limit   int64
}

// holdCollection collects what garbage there is and then holds collection off
// until release is called. The collector's threads would run on the workers'
// CPUs, for milliseconds at a time, and stop the workers at its phase changes:
// what it did would be seen as the schedule's lag.
func holdCollection() (release func()) {
	collection.mu.Lock()
	defer collection.mu.Unlock()
	if collection.holders++; collection.holders > 1 {
		return releaseCollection
	}
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	collection.limit = debug.SetMemoryLimit(int64(stats.Sys-stats.HeapReleased) + heapGrowthMax)
	collection.percent = debug.SetGCPercent(-1)
	return releaseCollection
}

func releaseCollection() {
	collection.mu.Lock()
	defer collection.mu.Unlock()
	if collection.holders--; collection.holders > 0 {
		return
	}
	debug.SetGCPercent(collection.percent)
	debug.SetMemoryLimit(collection.limit)
}
