package honesty

import (
	"fmt"
	"testing"
	"time"

	"github.com/nexuscore-labs/nexus/loadgen/scriptserver"
)

func (c Case) small() Case {
	c.RatePerS, c.BurstLen, c.Connections, c.Seed, c.Stall = 1000, 4, 4, 3, 100*time.Millisecond
	c.Warmup, c.Duration = 50*time.Millisecond, 300*time.Millisecond
	return c
}

// Every transport, arrival process and script: what the schedule says is what
// is sent and answered. Time is judged by `nexus selftest generator`; here only
// what no machine can speed up is: nothing is answered before the script says.
func TestCasesAnswerWhatIsPlanned(t *testing.T) {
	for _, where := range Transports {
		for _, arrival := range []string{"constant", "poisson", "burst", "closed"} {
			for _, script := range []string{ScriptConstant, ScriptBimodal, ScriptStall} {
				c := Case{Network: where.Network, Codec: where.Codec, Arrival: arrival, Script: script}.small()
				t.Run(c.Name(), func(t *testing.T) {
					t.Parallel()
					out, err := c.Run(t.Context(), Place{-1, -1})
					if err != nil {
						t.Fatal(err)
					}
					if out.Wrong != "" || out.Requests == 0 {
						t.Fatalf("%+v", out)
					}
					for _, f := range out.Figures {
						if arrival == "closed" {
							continue // how many requests it makes depends on the machine
						}
						leastNs := f.ExpectedNs
						if script == ScriptStall {
							// A late start of the stall holds up other requests, but the
							// one that started it always for its whole length.
							leastNs = int64(c.Stall)
							if f.Quantile < 99.9 {
								continue
							}
						}
						// The histogram keeps three digits.
						if float64(f.MeasuredNs) < 0.998*float64(leastNs) || f.LoggedNs < leastNs {
							t.Errorf("p%g: measured %d, logged %d ns: the script allows nothing below %d", f.Quantile, f.MeasuredNs, f.LoggedNs, leastNs)
						}
					}
				})
			}
		}
	}
}

// The simulation's own answers, by hand.
func TestOracle(t *testing.T) {
	base := Case{Network: "tcp", Codec: "frame", Arrival: "constant", RatePerS: 1000, Connections: 1, Duration: 2 * time.Second, Seed: 1}
	latencies := func(c Case) []int64 {
		plan, err := c.plan()
		if err != nil {
			t.Fatal(err)
		}
		return c.latencies(plan)
	}
	constant := base
	constant.Script = ScriptConstant
	if got := latencies(constant); len(got) != 2000 || got[0] != 40e6 || got[1999] != 40e6 {
		t.Errorf("constant: %d requests from %d to %d ns", len(got), got[0], got[len(got)-1])
	}
	// A stall of a second from 0.4 s on at 1000/s: the answers of 10 ms before
	// and of the second are held, the first of them for 1 s and 10 ms.
	stall := base
	stall.Script = ScriptStall
	got := latencies(stall)
	if longest := got[len(got)-1]; longest < 1_009e6 || longest > 1_010e6 {
		t.Errorf("stall: the longest takes %d ns", longest)
	}
	held := 0
	for _, ns := range got {
		if ns > int64(fastDelay) {
			held++
		}
	}
	if held < 995 || held > 1001 {
		t.Errorf("stall: %d requests are held up", held)
	}
	if p99 := quantile(got, 99); p99 < 970e6 || p99 > 990e6 {
		t.Errorf("stall: p99 is %d ns", p99)
	}
	// The closed loop makes one request in that second.
	stall.Arrival = "closed"
	got = latencies(stall)
	if p99 := quantile(got, 99); p99 != int64(fastDelay) || got[len(got)-1] < 1e9 {
		t.Errorf("closed loop: p99 %d ns, longest %d ns", p99, got[len(got)-1])
	}
	// Ordered answers wait for the slow one before them; frames don't.
	slow := base
	slow.Script = ScriptBimodal
	free := latencies(slow)
	slow.Codec = "http1"
	ordered := latencies(slow)
	if quantile(free, 50) != int64(fastDelay) || quantile(ordered, 50) <= int64(fastDelay) {
		t.Errorf("bimodal: p50 %d ns free, %d ns ordered", quantile(free, 50), quantile(ordered, 50))
	}
}

// The script is the server's own: its record must agree with it, request by
// request, but for lateness.
func TestServerFollowsItsScript(t *testing.T) {
	for _, script := range []string{ScriptConstant, ScriptBimodal, ScriptStall} {
		t.Run(script, func(t *testing.T) {
			t.Parallel()
			c := Case{Network: "unix", Codec: "frame", Arrival: "poisson", Script: script}.small()
			server, remove, err := c.serve(Place{-1, -1})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = remove() }()
			_, runErr := c.load(t.Context(), server, Place{-1, -1})
			record, err := server.Close()
			if err != nil || runErr != nil {
				t.Fatal(err, runErr)
			}
			for _, e := range record.Entries {
				due := c.script().Held(e.ArrivedNs+int64(c.script().Delay(e.ID)), record.StallNs)
				if e.AnsweredNs < due {
					t.Fatalf("request %x was answered %d ns early", e.ID, due-e.AnsweredNs)
				}
			}
			if len(record.Entries) == 0 || (record.StallNs != 0) != (script == ScriptStall) {
				t.Errorf("%d requests, stalled at %d", len(record.Entries), record.StallNs)
			}
		})
	}
}

func TestBimodalShare(t *testing.T) {
	s := scriptserver.Script{Base: 1, Slow: 2, SlowShare: slowShare, Seed: 5}
	slow := 0
	const n = 100_000
	for k := range n {
		if s.Delay(idOf(k%7, k)) == 2 {
			slow++
		}
	}
	if share := float64(slow) / n; share < 0.0175 || share > 0.0225 { // over five deviations
		t.Errorf("%.4f of the requests are slow, want %.4f", share, slowShare)
	}
}

// A figure that is off is a problem, in one line that says which.
func TestProblems(t *testing.T) {
	ok := Figure{Quantile: 99, ExpectedNs: 100, MeasuredNs: 104, Error: 0.04}
	off := Figure{Quantile: 99, ExpectedNs: 100, MeasuredNs: 94, Error: -0.06}
	for _, c := range []struct {
		out  Outcome
		want bool
	}{
		{Outcome{Figures: []Figure{ok}}, false},
		{Outcome{Figures: []Figure{ok, off}}, true},
		{Outcome{Figures: []Figure{ok}, Wrong: "x"}, true},
	} {
		if got := c.out.Problem(); (got != "") != c.want {
			t.Errorf("%s: %q", fmt.Sprint(c.out.Figures), got)
		}
	}
}
