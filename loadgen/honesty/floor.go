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
	ElapsedNs int64    `json:"elapsed_ns"`
	GapNsMax  int64    `json:"gap_ns_max"`
	GapShare  float64  `json:"gap_share"` // of the time, in gaps of more than GapNs
	LagNs     [3]int64 `json:"lag_ns"`    // at Quantiles, for requests due at random times
}

// MeasureFloor spins on the CPU, with the generator's priority, for the time.
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
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -20)
	gaps := make([]int64, 0, floorGapsMax)
	startNs := uring.Now()
	lastNs, endNs := startNs, startNs+int64(duration)
	for lastNs < endNs {
		nowNs := uring.Now()
		if gap := nowNs - lastNs; gap >= floorGapNsMin && len(gaps) < cap(gaps) {
			gaps = append(gaps, gap)
		}
		lastNs = nowNs
	}
	return floorOf(cpu, gaps, lastNs-startNs), nil
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
