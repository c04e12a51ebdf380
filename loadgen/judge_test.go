package loadgen

import (
	"strings"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Each reason against a run is given, alone, when its cause is there.
func TestJudge(t *testing.T) {
	type input struct {
		arrival string
		out     Result
		sum     counts
		lagNs   int64 // p99 of the generator's own
		step    time.Duration
		busyMax float64
	}
	healthy := func() input {
		return input{arrival: "constant", out: Result{ElapsedNs: 1e9, Intended: 1000, Sent: 1000, Completed: 1000, BusyShare: 0.4, Latency: hdrhistogram.New(1, latencyNsMax, latencyDigits)}}
	}
	for _, c := range []struct {
		name  string
		spoil func(*input)
		want  string
		full  bool // also Saturated
	}{
		{"healthy", func(*input) {}, "", false},
		{"poisson", func(i *input) { i.arrival = "poisson"; i.out.Intended = 1100 }, "", false},
		{"poisson far off", func(i *input) { i.arrival = "poisson"; i.out.Intended = 1300 }, "asked for", false},
		{"one percent off", func(i *input) { i.out.Intended = 1010 }, "", false},
		{"rate off", func(i *input) { i.out.Intended = 985 }, "asked for", false},
		{"unsent", func(i *input) { i.out.Sent, i.out.Unsent = 980, 20 }, "could not be sent", false},
		{"lagging", func(i *input) { i.lagNs = 1_100_000 }, "fell behind", true},
		{"lagging within the limit", func(i *input) { i.lagNs = 900_000 }, "", false},
		{"lagging less than a tenth of p99", func(i *input) { record(i.out.Latency, 40e6); i.lagNs = 3_900_000 }, "", false},
		{"lagging more than a tenth of p99", func(i *input) { record(i.out.Latency, 40e6); i.lagNs = 4_100_000 }, "fell behind", true},
		{"lagging closed", func(i *input) { i.arrival = "closed"; i.lagNs = 50e6 }, "", false},
		{"busy", func(i *input) { i.out.BusyShare = 0.99 }, "bottleneck", true},
		{"busy within the caller's limit", func(i *input) { i.out.BusyShare, i.busyMax = 1.1, 2 }, "", false},
		{"busy closed", func(i *input) { i.arrival = "closed"; i.out.BusyShare = 0.99 }, "bottleneck", true},
		{"closed has no rate", func(i *input) { i.arrival = "closed"; i.out.Intended = 5 }, "", false},
		{"nothing", func(i *input) { i.arrival = "closed"; i.out.Intended = 0 }, "no request", false},
		{"short", func(i *input) { i.out.ElapsedNs = 5e8 }, "stopped after", false},
		{"wrong in the warm-up", func(i *input) { i.sum.wrongUnmeasured = 1 }, "wrong answers", false},
		{"protocol", func(i *input) { i.sum.strays = 1 }, "protocol", false},
		{"clock forth", func(i *input) { i.step = time.Second }, "wall clock", false},
		{"clock back", func(i *input) { i.step = -time.Second }, "wall clock", false},
		{"clock slewed", func(i *input) { i.step = 5 * time.Millisecond }, "", false},
	} {
		in := healthy()
		c.spoil(&in)
		r := &runner{cfg: Config{Arrival: in.arrival, RatePerS: 1000, Duration: time.Second, BusyShareMax: in.busyMax}}
		r.judge(&in.out, &in.sum, in.lagNs, in.step)
		got := strings.Join(in.out.Invalid, "\n")
		switch {
		case c.want == "" && got != "":
			t.Errorf("%s: %s", c.name, got)
		case !strings.Contains(got, c.want), len(in.out.Invalid) > 1:
			t.Errorf("%s: %q, want one reason with %q", c.name, got, c.want)
		case in.out.Saturated != c.full:
			t.Errorf("%s: saturated %v", c.name, in.out.Saturated)
		}
	}
}
