package loadgen

import (
	"strings"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/nexuscore-labs/nexus/loadgen/schedule"
)

// judged runs the arrivals' judge over one worker whose requests left late by lag.
func judged(t *testing.T, arrival string, change func(*Result), plan string, lag func(i int, atNs int64) int64) []string {
	t.Helper()
	cfg := Config{Arrival: arrival, RatePerS: 4000, BurstLen: 8, Duration: 2 * time.Second, Connections: 1}
	s, err := schedule.New(plan, cfg.RatePerS, cfg.BurstLen, 11, schedule.Part{})
	if err != nil {
		t.Fatal(err)
	}
	w := &worker{conns: make([]conn, 1), rec: &recorder{departures: newDepartures(&cfg, 1)}}
	out := &Result{Latency: hdrhistogram.New(1, latencyNsMax, latencyDigits)}
	for i := 0; ; i++ {
		at := s.Next()
		if at >= int64(cfg.Duration) {
			break
		}
		w.rec.departures.note(at, at+lag(i, at))
		out.Sent++
		record(out.Latency, 300_000)
	}
	if change != nil {
		change(out)
	}
	r := &runner{cfg: cfg, workers: []*worker{w}}
	r.judgeArrivals(out, func(format string, _ ...any) { out.Invalid = append(out.Invalid, format) })
	return out.Invalid
}

func TestArrivalsInvalidateARun(t *testing.T) {
	punctual := func(int, int64) int64 { return 5_000 }
	everyTenMs := func(_ int, at int64) int64 { return 10e6 - at%10e6 }
	for name, c := range map[string]struct {
		arrival, plan string
		lag           func(int, int64) int64
		change        func(*Result)
		want          bool
	}{
		"poisson":                     {"poisson", "poisson", punctual, nil, false},
		"constant":                    {"constant", "constant", punctual, nil, false},
		"burst":                       {"burst", "burst", punctual, nil, false},
		"poisson planned as constant": {"poisson", "constant", punctual, nil, true},
		"poisson planned as burst":    {"poisson", "burst", punctual, nil, true},
		"poisson sent in batches":     {"poisson", "poisson", everyTenMs, nil, true},
		"constant sent in batches":    {"constant", "constant", everyTenMs, nil, true},
		"the server held it up":       {"constant", "constant", everyTenMs, func(r *Result) { r.Waited = r.Sent / 10 }, false},
		"some were never sent":        {"poisson", "constant", punctual, func(r *Result) { r.Unsent, r.Intended = 100, r.Sent+100 }, false},
		"late, where latency is long": {"constant", "constant", func(i int, _ int64) int64 { return int64(i%2) * 1e6 }, func(r *Result) {
			for range 3 * r.Sent {
				record(r.Latency, 50e6)
			}
		}, false},
	} {
		got := judged(t, c.arrival, c.change, c.plan, c.lag)
		if (len(got) > 0) != c.want || len(got) > 1 {
			t.Errorf("%s: %v", name, got)
		}
		if len(got) == 1 && !strings.Contains(got[0], "arrivals are not") {
			t.Errorf("%s: %q", name, got[0])
		}
	}
}

// More requests than there is room for: the first are judged.
func TestDeparturesAreBounded(t *testing.T) {
	cfg := Config{RatePerS: 1e9, Duration: time.Hour, Connections: 2}
	d := newDepartures(&cfg, 1)
	if cap(d.intendedNs) != departuresMax {
		t.Fatalf("room for %d", cap(d.intendedNs))
	}
	for i := range int64(departuresMax + 10) {
		d.note(i, i)
	}
	d.sorted()
	if n := len(d.intendedNs); n != departuresMax*99/100 || d.sentNs[n-1] != int64(n-1) {
		t.Errorf("%d are left", n)
	}
}
