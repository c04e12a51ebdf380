package ringserver

import (
	"fmt"
	"sync"
	"testing"

	"github.com/nexuscore-labs/nexus/frame"
	"github.com/nexuscore-labs/nexus/systems/seglog"
)

// BenchmarkAppend drives the server with 256 writers, each with one record
// outstanding, over 8 connections. The clients run on the same CPUs.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{100, 2048} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			r := serveTest(b, "unix", func(o *Options) { o.Log = seglog.Options{} })
			b.SetBytes(int64(size))
			b.ResetTimer()
			drive(b, r, 8, 32, size, b.N)
			b.StopTimer()
			r.stop(b)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
			b.ReportMetric(r.stats["batch_records_mean"], "records/batch")
		})
	}
}

func TestBenchmarkSmall(t *testing.T) {
	r := serveTest(t, "unix", nil)
	drive(t, r, 4, 8, 100, 500)
	r.stop(t)
	if r.stats["records_total"] != 500 {
		t.Errorf("stats %v", r.stats)
	}
}

// drive appends n records over some connections, each with a window of
// outstanding requests.
func drive(b testing.TB, r *served, conns, window, size, n int) {
	var wg sync.WaitGroup
	for i := range conns {
		share := n / conns
		if i < n%conns {
			share++
		}
		c := r.dial(b)
		wg.Go(func() { driveOne(b, c, uint32(i), window, size, share) })
	}
	wg.Wait()
}

func driveOne(b testing.TB, c *client, tenant uint32, window, size, n int) {
	body := string(make([]byte, size))
	sent, out := 0, 0
	for done := 0; done < n; {
		var wire []byte
		for out < window && sent < n {
			wire = frame.Append(wire, appendOf(tenant, uint64(sent), body))
			sent++
			out++
		}
		if _, err := c.Write(wire); err != nil {
			b.Error(err)
			return
		}
		for out > window/2 || out > 0 && sent == n {
			f, err := c.next()
			if err != nil || f.Status != frame.StatusOK {
				b.Errorf("answer %+v, error %v", f, err)
				return
			}
			out--
			done++
		}
	}
}
