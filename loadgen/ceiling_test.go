package loadgen

import (
	"context"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/nexuscore-labs/nexus/loadgen/nullserver"
)

// ceilings are the closed loops whose rate bounds what the generator offers.
var ceilings = []struct {
	name, network, codec string
	conns, depth         int
	offload              bool
}{
	{"tcp_frame_c64", "tcp", "frame", 64, 1, false},
	{"tcp_frame_c64_d16", "tcp", "frame", 64, 16, false},
	{"unix_frame_c64", "unix", "frame", 64, 1, false},
	{"unix_frame_c64_d16", "unix", "frame", 64, 16, false},
	{"udp_frame_c64", "udp", "frame", 64, 1, false},
	{"udp_frame_c64_d4", "udp", "frame", 64, 4, false},
	{"udp_frame_c64_d16", "udp", "frame", 64, 16, false},
	{"udp_offload_c64_d16", "udp", "frame", 64, 16, true},
	{"udp_offload_c8_d64", "udp", "frame", 8, 64, true},
	{"tcp_http1_c64", "tcp", "http1", 64, 1, false},
	{"tcp_http1_c256", "tcp", "http1", 256, 1, false},
	{"tcp_resp_c64_d16", "tcp", "resp", 64, 16, false},
}

// runCeiling drives the null server; pinned: on the last CPU from the first.
func runCeiling(tb testing.TB, i int, warmup, duration time.Duration, pinned bool) (*Result, *nullserver.Server) {
	tb.Helper()
	c := ceilings[i]
	cfg := nullserver.Config{Network: c.network, Address: "127.0.0.1:0", Protocol: c.codec, CPU: -1}
	if c.network == "unix" {
		cfg.Address = filepath.Join(tb.TempDir(), "s")
	}
	var cpus []int
	if pinned && runtime.NumCPU() > 1 {
		cfg.CPU, cpus = runtime.NumCPU()-1, []int{0}
	}
	server, err := nullserver.Start(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	result, err := Run(context.Background(), Config{
		Target: Target{Network: server.Network, Address: server.Address}, Codec: c.codec, Arrival: "closed",
		Streams: c.conns * c.depth, Connections: c.conns, Warmup: warmup, Duration: duration,
		Timeout: 2 * time.Second, CPUs: cpus, UDPOffload: c.offload, Source: sourceFor(c.codec, c.conns*c.depth, 16),
	})
	if err != nil {
		tb.Fatal(err)
	}
	if err := server.Close(); err != nil {
		tb.Fatal(err)
	}
	return result, server
}

// untilAnswered repeats a run with a window ten times as long for as long as nothing was
// answered in it: on a crowded machine a short one can pass while the
// generator is off its CPU, which says nothing about what is under test.
func untilAnswered(t *testing.T, window time.Duration, run func(window time.Duration) *Result) *Result {
	t.Helper()
	const windowMax = 30 * time.Second
	for {
		r := run(window)
		checkAccounting(t, r)
		if r.Answered > 0 || 10*window > windowMax {
			return r
		}
		t.Logf("nothing was answered within %v", window)
		window *= 10
	}
}

// Each ceiling also runs small, so that no benchmark rots.
func TestCeilingsRun(t *testing.T) {
	for i, c := range ceilings {
		t.Run(c.name, func(t *testing.T) {
			r := untilAnswered(t, 30*time.Millisecond, func(window time.Duration) *Result {
				r, _ := runCeiling(t, i, 0, window, false)
				return r
			})
			if r.Completed == 0 || r.Wrong > 0 || r.Errors > 0 {
				t.Fatalf("%+v", r)
			}
		})
	}
}

// BenchmarkCeiling reports verified requests per generator CPU second.
func BenchmarkCeiling(b *testing.B) {
	for i, c := range ceilings {
		b.Run(c.name, func(b *testing.B) {
			var r *Result
			var s *nullserver.Server
			for b.Loop() {
				r, s = runCeiling(b, i, 200*time.Millisecond, 2*time.Second, true)
			}
			b.ReportMetric(float64(r.Completed)/(float64(r.CPUNs)/1e9), "req/cpu-s")
			b.ReportMetric(float64(r.Completed)/(float64(r.ElapsedNs)/1e9), "req/s")
			b.ReportMetric(float64(s.CPUNs())/1e9/2.2, "server-busy")
			b.ReportMetric(r.BusyShare, "busy")
			b.ReportMetric(float64(r.Latency.ValueAtQuantile(50)), "p50-ns")
		})
	}
}
