package loadgen

import (
	"sync"
	"testing"
	"time"

	"github.com/nexuscore-labs/nexus/uring"
)

// Both ends are announced, in order and never early, and nothing after a run that
// ended before them.
func TestAnnounce(t *testing.T) {
	type call struct {
		begins bool
		ns     int64
	}
	for _, c := range []struct {
		name         string
		wait, length time.Duration
		forgoAfter   time.Duration // 0: when both calls have come
		want         []bool
	}{
		{"both", 150 * time.Millisecond, 30 * time.Millisecond, 0, []bool{true, false}},
		{"begins at once", 0, time.Millisecond, 0, []bool{true, false}},
		{"forgone before", time.Hour, time.Hour, time.Millisecond, nil},
		{"forgone between", time.Millisecond, time.Hour, 300 * time.Millisecond, []bool{true}},
	} {
		var mu sync.Mutex
		var calls []call
		both := make(chan struct{})
		r := &runner{cfg: Config{Duration: c.length, OnMeasure: func(begins bool) {
			mu.Lock()
			defer mu.Unlock()
			if calls = append(calls, call{begins, uring.Now()}); len(calls) == 2 {
				close(both)
			}
		}}}
		measureNs := uring.Now() + int64(c.wait)
		forgo := r.announce(measureNs)
		if c.forgoAfter == 0 {
			<-both
		} else {
			select {
			case <-both:
			case <-time.After(c.forgoAfter):
			}
		}
		forgo()
		mu.Lock()
		if len(calls) != len(c.want) {
			t.Errorf("%s: called %v, want %v", c.name, calls, c.want)
		}
		for i := range min(len(calls), len(c.want)) {
			due := measureNs
			if !c.want[i] {
				due += int64(c.length)
			}
			if calls[i].begins != c.want[i] || calls[i].ns < due {
				t.Errorf("%s: call %d begins %v, %v before it was due", c.name, i, calls[i].begins, time.Duration(due-calls[i].ns))
			}
		}
		mu.Unlock()
	}
	(&runner{}).announce(0)() // nobody asks
}
