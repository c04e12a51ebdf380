package loadgen

import (
	"slices"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// What is traced must be what is counted: as many entries as right answers, the
// same latencies, and byte offsets that end at the end of what each connection
// carried.
func TestTracedAnswersAreThoseThatWereCounted(t *testing.T) {
	const bodyLen, headerLen = 64, 24
	for _, network := range []string{"tcp", "udp"} {
		t.Run(network, func(t *testing.T) {
			r, err := Run(t.Context(), Config{
				Target: startNull(t, network, "frame"), Arrival: "poisson", RatePerS: 2000, Streams: 8, Connections: 4,
				Duration: 200 * time.Millisecond, Timeout: 20 * time.Second, Seed: 3,
				Source: newEchoSource(8, bodyLen), TraceMax: 10_000,
			})
			if err != nil {
				t.Fatal(err)
			}
			if uint64(len(r.Traced)) != r.Completed || r.TraceMissed != 0 {
				t.Fatalf("%d traced, %d missed, %d completed", len(r.Traced), r.TraceMissed, r.Completed)
			}
			again := hdrhistogram.New(1, latencyNsMax, latencyDigits)
			byPort := map[uint16][]Traced{}
			for i := range r.Traced {
				record(again, r.Traced[i].LatencyNs())
				byPort[r.Traced[i].Port] = append(byPort[r.Traced[i].Port], r.Traced[i])
			}
			if !again.Equals(r.Latency) {
				t.Error("the latencies of the traced answers are not those of the histogram")
			}
			if r.Completed > 100 && len(byPort) != 4 {
				t.Errorf("%d local ports, want 4", len(byPort))
			}
			for port, all := range byPort {
				slices.SortFunc(all, func(a, b Traced) int { return int(a.RequestEnd) - int(b.RequestEnd) })
				for i, e := range all {
					// No warm-up: a lossless connection carried nothing but these frames.
					want := uint64((i + 1) * (headerLen + bodyLen))
					if network == "tcp" && (e.RequestEnd != want || e.AnswerEnd != want) {
						t.Fatalf("port %d, request %d ends at %d, its answer at %d, want %d", port, i, e.RequestEnd, e.AnswerEnd, want)
					}
				}
			}
		})
	}
}

func TestTraceIsBounded(t *testing.T) {
	r, err := Run(t.Context(), Config{
		Target: startNull(t, "tcp", "frame"), Arrival: "closed", Streams: 4,
		Duration: 100 * time.Millisecond, Timeout: 20 * time.Second, Source: newEchoSource(4, 8), TraceMax: 5,
	})
	if err != nil {
		t.Fatal(err)
	}
	if uint64(len(r.Traced))+r.TraceMissed != r.Completed || len(r.Traced) > 5 {
		t.Errorf("%d traced and %d missed of %d completed, at most 5 may be kept", len(r.Traced), r.TraceMissed, r.Completed)
	}
}
