package loadgen

import (
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	// niceBest is the best nice value, setpriority(2).
	niceBest = -20
	// realtimePriority is low among real-time tasks: only ordinary ones, to which
	// most of the kernel's threads belong, have to wait for it.
	realtimePriority = 1
	// realtimeShareMax of its CPU's time is what a real-time worker may use. One
	// that never sleeps starves the kernel's threads, and is stopped for up to
	// 50 ms a second for it, sched(7).
	realtimeShareMax = 0.8
	realtimeWindowNs = int64(20e6)
)

// realtime is the state of a worker's real-time priority.
type realtime struct {
	on            bool
	windowEndNs   int64
	windowStartNs int64
	cpuNs         int64 // of the thread when the window began
}

// raise puts the calling thread before others on its CPU. On a small machine
// the CPU is not the worker's alone: the kernel's own threads and the rest of
// this process run there too. The worker becomes a real-time task, so that it
// runs the moment a request is due or answered; mindRealtime ends that for one
// that never sleeps, as a closed loop at its ceiling. The nice value is for then.
// Without the right to either it goes on as it is; the lag shows what that cost.
func (w *worker) raise() {
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), niceBest)
	if w.ordinary {
		return
	}
	w.realtime.on = raiseThread()
}

// raiseThread makes the calling thread a real-time task, false without the right to.
func raiseThread() bool {
	attr := unix.SchedAttr{
		Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: realtimePriority,
		Flags: unix.SCHED_FLAG_RESET_ON_FORK, // io_uring's worker threads are ordinary ones
	}
	return unix.SchedSetAttr(0, &attr, 0) == nil
}

// lower ends the real-time priority of a worker that left too little of its
// CPU to others; the nice value stays.
func (w *worker) lower() error {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL, Nice: niceBest}
	if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
		return fmt.Errorf("end the worker's real-time priority: %w", err)
	}
	w.realtime.on = false
	return nil
}

// mindRealtime is called by housekeeping: at the end of each window it looks at
// how much of the CPU the worker used.
func (w *worker) mindRealtime() error {
	r := &w.realtime
	if !r.on || w.nowNs < r.windowEndNs {
		return nil
	}
	cpuNs := threadCPUNs()
	used, passed := cpuNs-r.cpuNs, w.nowNs-r.windowStartNs
	first := r.windowStartNs == 0
	r.windowStartNs, r.windowEndNs, r.cpuNs = w.nowNs, w.nowNs+realtimeWindowNs, cpuNs
	if first || float64(used) <= realtimeShareMax*float64(passed) {
		return nil
	}
	return w.lower()
}
