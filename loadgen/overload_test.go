package loadgen

import (
	"testing"
	"time"
)

// A server slower than the offered rate must come out overloaded, with its own
// pace as the throughput though all requests are answered in the drain.
func TestOverloadedServerShowsItsOwnPace(t *testing.T) {
	const delay, connections, duration = 2 * time.Millisecond, 2, 300 * time.Millisecond
	// Each connection can't be answered faster than once per delay.
	const capacity = uint64(connections * (duration/delay + 1))
	var r *Result
	for range 10 { // until the generator had the CPU for long enough to overload the server
		var err error
		r, err = Run(t.Context(), Config{
			Target: Target{Network: "tcp", Address: slowServer(t, delay).Addr().String()}, RatePerS: 2000, Streams: 6, Connections: connections,
			Duration: duration, Timeout: 20 * time.Second, Source: newCountingSource(6),
		})
		if err != nil {
			t.Fatal(err)
		}
		checkAccounting(t, r)
		if r.Sent > capacity {
			break
		}
	}
	// What was due in the last moments of the window may have met a generator
	// without a CPU; all that was sent must be answered.
	if r.Completed != r.Sent || r.Sent <= capacity {
		t.Errorf("%d of %d sent completed, the server can do %d in the window: the drain should have answered all", r.Completed, r.Sent, capacity)
	}
	if r.Answered == 0 || r.Answered > capacity {
		t.Errorf("%d answered in the window, the server can do 1 to %d", r.Answered, capacity)
	}
	if !r.Saturated && !r.Overloaded {
		t.Errorf("not overloaded: %d of %d answered in time", r.Answered, r.Intended)
	}
}

func TestHealthyServerIsNotOverloaded(t *testing.T) {
	r, err := Run(t.Context(), Config{
		Target: startNull(t, "unix", "frame"), Codec: "frame", Arrival: "poisson", RatePerS: 2000, Streams: 40, Connections: 10,
		Warmup: 50 * time.Millisecond, Duration: 300 * time.Millisecond, Timeout: time.Second, Seed: 1, Source: sourceFor("frame", 40, 64),
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.Overloaded {
		t.Errorf("overloaded: %d of %d answered in time", r.Answered, r.Intended)
	}
}

func TestClosedLoopIsNeverOverloaded(t *testing.T) {
	server := slowServer(t, time.Millisecond)
	r := untilAnswered(t, 100*time.Millisecond, func(window time.Duration) *Result {
		r, err := Run(t.Context(), Config{
			Target: Target{Network: "tcp", Address: server.Addr().String()}, Arrival: "closed", Streams: 12, Connections: 1,
			Duration: window, Timeout: 20 * time.Second, Source: newCountingSource(12),
		})
		if err != nil {
			t.Fatal(err)
		}
		return r
	})
	if r.Overloaded || r.Answered == 0 {
		t.Errorf("overloaded %v, %d answered", r.Overloaded, r.Answered)
	}
}

func TestOverloadedLimit(t *testing.T) {
	for _, c := range []struct {
		intended, answered uint64
		want               bool
	}{
		{0, 0, false}, {100, 70, false}, {100, 69, true}, {100, 130, false},
		{1_000_000, 990_000, false}, {1_000_000, 989_999, true},
	} {
		if got := overloaded(c.intended, c.answered); got != c.want {
			t.Errorf("overloaded(%d, %d) = %v", c.intended, c.answered, got)
		}
	}
}
