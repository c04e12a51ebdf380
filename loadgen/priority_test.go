package loadgen

import (
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// onThread runs f on a thread of its own, which ends with it.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer close(done)
		f()
	}()
	<-done
}

func policy(t *testing.T) uint32 {
	t.Helper()
	attr, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		t.Error(err)
		return 0
	}
	return attr.Policy
}

// burn uses CPU time of the calling thread.
func burn(ns int64) (used int64) {
	began := threadCPUNs()
	for threadCPUNs()-began < ns {
	}
	return threadCPUNs() - began
}

func TestRealtimeEndsWhenItLeavesNothingToOthers(t *testing.T) {
	for _, test := range []struct {
		name   string
		closed bool
		// passed is how much time went by while the thread used so much of its CPU.
		passed func(usedNs int64) int64
		want   uint32
	}{
		{"spinning", false, func(usedNs int64) int64 { return usedNs }, unix.SCHED_NORMAL},
		{"closed, at its ceiling", true, func(usedNs int64) int64 { return usedNs }, unix.SCHED_NORMAL},
		{"closed, half asleep", true, func(usedNs int64) int64 { return 2 * usedNs }, unix.SCHED_FIFO},
		{"half asleep", false, func(usedNs int64) int64 { return 2 * usedNs }, unix.SCHED_FIFO},
	} {
		t.Run(test.name, func(t *testing.T) {
			onThread(func() {
				w := &worker{closed: test.closed}
				w.raise()
				if !w.realtime.on {
					t.Error("root must be allowed SCHED_FIFO")
					return
				}
				w.nowNs = 1e9
				if err := w.mindRealtime(); err != nil {
					t.Error(err)
				}
				w.nowNs += max(realtimeWindowNs, test.passed(burn(realtimeWindowNs)+burn(1e6)))
				if err := w.mindRealtime(); err != nil {
					t.Error(err)
				}
				if got := policy(t); got != test.want {
					t.Errorf("policy is %d afterwards, want %d", got, test.want)
				}
			})
		})
	}
}

// A worker that sleeps is a real-time task to the end and says so; one that is
// not pinned, or that is pinned to the server's CPU, must not be.
func TestRunSaysWhetherItWasRealtime(t *testing.T) {
	for _, c := range []struct {
		cpus         []int
		shared, want bool
	}{{nil, false, false}, {[]int{0}, false, true}, {[]int{0}, true, false}} {
		r, err := Run(t.Context(), Config{
			Target: startNull(t, "unix", "frame"), Arrival: "constant", RatePerS: 200, Streams: 4, Connections: 4,
			Duration: 100 * time.Millisecond, Timeout: 30 * time.Second, CPUs: c.cpus, SharedCPUs: c.shared, Source: newEchoSource(4, 64),
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Contains(r.Features, "realtime"); got != c.want {
			t.Errorf("%+v: features %v", c, r.Features)
		}
	}
}
