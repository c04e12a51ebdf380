package loadgen

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/uring"
)

// announceAhead is how long before a moment its announcer leaves the runtime's
// timers, which are as late as the runtime's threads, for a sleep in the kernel.
const announceAhead = 100 * time.Millisecond

// announce calls OnMeasure at both ends of the measured part. What it returns
// forgoes the calls that are not due yet.
//
// The calls come on a thread of their own with real-time priority: on a small
// machine this process's ordinary threads share the server's CPU and wait for it, by
// up to a sixth of a short run, and what is read then is of another time than the
// measured one.
func (r *runner) announce(measureNs int64) (forgo func()) {
	if r.cfg.OnMeasure == nil {
		return func() {}
	}
	forgone := make(chan struct{})
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its priority
		raiseThread()
		for _, moment := range []struct {
			ns     int64
			begins bool
		}{{measureNs, true}, {measureNs + int64(r.cfg.Duration), false}} {
			if !sleepUntil(moment.ns, forgone) {
				return
			}
			r.cfg.OnMeasure(moment.begins)
		}
	}()
	return func() { close(forgone) }
}

// sleepUntil returns at ns, false when the sleep was forgone.
func sleepUntil(ns int64, forgone <-chan struct{}) bool {
	if ahead := time.Duration(ns-uring.Now()) - announceAhead; ahead > 0 {
		timer := time.NewTimer(ahead)
		defer timer.Stop()
		select {
		case <-forgone:
			return false
		case <-timer.C:
		}
	}
	until := unix.NsecToTimespec(ns)
	for unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &until, nil) == unix.EINTR {
	}
	select {
	case <-forgone:
		return false
	default:
		return true
	}
}
