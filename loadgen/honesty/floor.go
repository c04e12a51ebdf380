package honesty

import (
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/nexuscore-labs/nexus/uring"
	"golang.org/x/sys/unix"
)

const (
	floorGapNsMin = int64(5_000)
	floorGapsMax  = 1 << 16
)

// Floor is how late the best possible generator would be on a CPU: a thread
// that does nothing but look at the clock.
type Floor struct {
	CPU       int      `json:"cpu"`
	ElapsedNs int64    `json:"elapsed_ns"` // spent looking
	GapNsMax  int64    `json:"gap_ns_max"`
	GapShare  float64  `json:"gap_share"` // of the time, in gaps of more than 100 µs
	LagNs     [3]int64 `json:"lag_ns"`    // at Quantiles, for requests due at random times
}

// A real-time task that never sleeps is stopped by the kernel, so the thread
// looks for as long as it sleeps.
const (
	lookTime  = 2 * time.Millisecond
	sleepTime = 2 * time.Millisecond
)

// MeasureFloor looks at the clock on the CPU, with the generator's priority, for
// the time; it takes twice as long.
func MeasureFloor(cpu int, duration time.Duration) (Floor, error) {
	type found struct {
		floor Floor
		err   error
	}
	done := make(chan found, 1)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		f, err := spin(cpu, duration)
		done <- found{f, err}
	}()
	f := <-done
	return f.floor, f.err
}

func spin(cpu int, duration time.Duration) (Floor, error) {
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return Floor{}, fmt.Errorf("pin to CPU %d: %w", cpu, err)
	}
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1, Flags: unix.SCHED_FLAG_RESET_ON_FORK}
	if unix.SchedSetAttr(0, &attr, 0) != nil {
		_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -20)
	}
	gaps := make([]int64, 0, floorGapsMax)
	spent := int64(0)
	for spent < int64(duration) {
		startNs := uring.Now()
		lastNs := startNs
		for lastNs-startNs < int64(lookTime) {
			nowNs := uring.Now()
			if gap := nowNs - lastNs; gap >= floorGapNsMin && len(gaps) < cap(gaps) {
				gaps = append(gaps, gap)
			}
			lastNs = nowNs
		}
		spent += lastNs - startNs
		ts := unix.NsecToTimespec(int64(sleepTime))
		_ = unix.Nanosleep(&ts, nil) // one that a signal ends is as good
	}
	return floorOf(cpu, gaps, spent), nil
}

// floorOf computes the lag of requests that are due at random times: one that
// is due in a gap waits for its end.
func floorOf(cpu int, gaps []int64, elapsedNs int64) Floor {
	f := Floor{CPU: cpu, ElapsedNs: elapsedNs}
	slices.Sort(gaps)
	long := int64(0)
	for _, g := range gaps {
		if g > 100_000 {
			long += g
		}
	}
	if len(gaps) == 0 || elapsedNs <= 0 {
		return f
	}
	f.GapNsMax = gaps[len(gaps)-1]
	f.GapShare = float64(long) / float64(elapsedNs)
	for i, q := range Quantiles {
		f.LagNs[i] = lagExceeded(gaps, (1-q/100)*float64(elapsedNs))
	}
	return f
}

// lagExceeded is the lag that requests due within a total time of restNs
// exceed: the x for which the parts of the gaps beyond x add up to it.
func lagExceeded(sorted []int64, restNs float64) int64 {
	lo, hi := int64(0), sorted[len(sorted)-1]
	for lo < hi {
		x := (lo + hi) / 2
		beyond := 0.0
		for _, g := range sorted {
			beyond += float64(max(0, g-x))
		}
		if beyond > restNs {
			lo = x + 1
		} else {
			hi = x
		}
	}
	return lo
}
