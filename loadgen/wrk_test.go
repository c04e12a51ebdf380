package loadgen

import (
	"fmt"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/nexuscore-labs/nexus/loadgen/codec"
	"github.com/nexuscore-labs/nexus/loadgen/nullserver"
)

var wrkRequests = regexp.MustCompile(`(\d+) requests in`)

// BenchmarkAgainstWrk compares requests per generator CPU second with wrk, on
// the same server in the same run: ours, wrk, ours, wrk.
func BenchmarkAgainstWrk(b *testing.B) {
	wrk, err := exec.LookPath("wrk")
	if err != nil {
		b.Skip("wrk is not installed (Debian package wrk)")
	}
	if runtime.NumCPU() < 2 {
		b.Skip("needs two CPUs")
	}
	for _, conns := range []int{64, 128, 256} {
		b.Run(fmt.Sprint(conns), func(b *testing.B) {
			server, err := nullserver.Start(nullserver.Config{Network: "tcp", Address: "127.0.0.1:0", Protocol: "http1", CPU: runtime.NumCPU() - 1})
			if err != nil {
				b.Fatal(err)
			}
			var ours, theirs, oursCPU, theirsCPU, oursWall, theirsWall float64
			for b.Loop() {
				r, err := Run(b.Context(), Config{
					Target: Target{Network: "tcp", Address: server.Address}, Codec: "http1", Arrival: "closed", Streams: conns, Connections: conns,
					Duration: time.Second, CPUs: []int{0}, Source: &fixedSource{op: Op{Kind: codec.HTTPGet, Key: []byte("/")}, want: "ok"},
				})
				if err != nil {
					b.Fatal(err)
				}
				ours += float64(r.Completed)
				oursCPU += float64(r.CPUNs) / 1e9
				oursWall += float64(r.ElapsedNs) / 1e9
				cmd := exec.CommandContext(b.Context(), "taskset", "-c", "0", wrk, "-t1", "-c"+strconv.Itoa(conns), "-d1s", "http://"+server.Address+"/")
				start := time.Now()
				out, err := cmd.CombinedOutput()
				if err != nil {
					b.Fatalf("%v: %s", err, out)
				}
				theirsWall += time.Since(start).Seconds()
				n, err := strconv.ParseFloat(string(wrkRequests.FindSubmatch(out)[1]), 64)
				if err != nil {
					b.Fatal(err)
				}
				theirs += n
				theirsCPU += (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
			}
			if err := server.Close(); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(ours/oursCPU, "req/cpu-s")
			b.ReportMetric(theirs/theirsCPU, "wrk-req/cpu-s")
			b.ReportMetric(ours/oursCPU/(theirs/theirsCPU), "ratio")
			b.ReportMetric(ours/oursWall, "req/s")
			b.ReportMetric(theirs/theirsWall, "wrk-req/s")
		})
	}
}
