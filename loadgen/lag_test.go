package loadgen

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/nexuscore-labs/nexus/loadgen/nullserver"
)

// BenchmarkLag reports the schedule lag at several offered rates.
func BenchmarkLag(b *testing.B) {
	if runtime.NumCPU() < 2 {
		b.Skip("needs two CPUs")
	}
	for _, rate := range []float64{1_000, 20_000, 80_000} {
		b.Run(fmt.Sprintf("%.0f_per_s", rate), func(b *testing.B) {
			server, err := nullserver.Start(nullserver.Config{Network: "tcp", Address: "127.0.0.1:0", Protocol: "frame", CPU: runtime.NumCPU() - 1})
			if err != nil {
				b.Fatal(err)
			}
			var r *Result
			for b.Loop() {
				r, err = Run(b.Context(), Config{
					Target: Target{Network: "tcp", Address: server.Address}, Arrival: "poisson", RatePerS: rate, Streams: 64, Connections: 64,
					Warmup: 100 * time.Millisecond, Duration: time.Second, CPUs: []int{0}, Source: newEchoSource(64, 64),
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			if err := server.Close(); err != nil {
				b.Fatal(err)
			}
			for _, q := range []float64{50, 99, 99.9} {
				b.ReportMetric(float64(r.Lag.ValueAtQuantile(q)), fmt.Sprintf("lag-p%v-ns", q))
				b.ReportMetric(float64(r.Latency.ValueAtQuantile(q)), fmt.Sprintf("latency-p%v-ns", q))
			}
			b.ReportMetric(r.BusyShare, "busy")
		})
	}
}
