package uring

import (
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// epoch is a moment on both Go's monotonic clock and CLOCK_MONOTONIC. Go reads
// the same clock through the vDSO, four times cheaper than the system call of
// golang.org/x/sys, but only tells differences.
var epoch, epochNs = calibrate()

// Now is CLOCK_MONOTONIC in ns, the clock of SubmitAndWaitUntil and of
// absolute timeouts. It is exact to the width of the calibration, well below a
// microsecond.
func Now() int64 { return epochNs + int64(time.Since(epoch)) }

// calibrate pairs the two clocks, taking the narrowest of some tries.
func calibrate() (time.Time, int64) {
	var bestTime time.Time
	var bestNs int64
	narrowest := time.Duration(math.MaxInt64)
	for range 16 {
		var ts unix.Timespec
		before := time.Now()
		if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
			continue // cannot fail for this clock, see clock_gettime(2)
		}
		width := time.Since(before)
		if width < narrowest {
			narrowest = width
			bestTime, bestNs = before, ts.Nano()-int64(width)/2
		}
	}
	return bestTime, bestNs
}
