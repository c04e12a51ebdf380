package bpf

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nexuscore-labs/nexus/bpf/bpftest"
)

// What the probes cost: the same work without probes, with probes attached but
// off, and with probes on. Each round runs off-on-on-off, so drift cancels, and
// the median of the rounds' ratios is reported.

// overhead is the time of one operation, ns, by condition, and its ratios.
type overhead struct {
	noneNs, offNs, onNs float64
	offRatio, onRatio   float64 // to no probes
}

func measureOverhead(t testing.TB, opts Options, workload string, n, rounds int) overhead {
	t.Helper()
	child := bpftest.Start(t, workload, n)
	child.Step()
	var none, off, on, offRatio, onRatio []float64
	for range rounds {
		first := timeStep(child, n)
		var offSum, onSum float64
		withSuite(t, opts, func(s *Suite) {
			for _, switchedOn := range []bool{false, true, true, false} {
				if !switchedOn {
					offSum += timeStep(child, n)
					continue
				}
				if err := s.Start(child.CgroupID); err != nil {
					t.Fatal(err)
				}
				onSum += timeStep(child, n)
				if _, err := s.Stop(); err != nil {
					t.Fatal(err)
				}
			}
		})
		base := (first + timeStep(child, n)) / 2
		none, off, on = append(none, base), append(off, offSum/2), append(on, onSum/2)
		offRatio, onRatio = append(offRatio, offSum/2/base), append(onRatio, onSum/2/base)
	}
	return overhead{median(none), median(off), median(on), median(offRatio), median(onRatio)}
}

func withSuite(t testing.TB, opts Options, f func(*Suite)) {
	t.Helper()
	s, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	f(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func timeStep(child *bpftest.Process, n int) float64 {
	began := time.Now()
	child.Step()
	return float64(time.Since(began).Nanoseconds()) / float64(n)
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// BenchmarkOverhead reports the cost of the whole suite and of each probe on a
// null system call, which is all overhead, and on a durable write.
func BenchmarkOverhead(b *testing.B) {
	needRoot(b)
	suites := map[string]Options{"all": {}}
	for _, name := range Probes() {
		suites[name] = Options{Probes: []string{name}}
	}
	for name, opts := range suites {
		for workload, n := range map[string]int{"getppid": 200_000, "append": 300} {
			b.Run(fmt.Sprintf("%s/%s", workload, name), func(b *testing.B) {
				o := measureOverhead(b, opts, workload, n, max(5, b.N))
				b.ReportMetric(0, "ns/op") // of no meaning here
				b.ReportMetric(o.noneNs, "none-ns/call")
				b.ReportMetric(o.offNs, "off-ns/call")
				b.ReportMetric(o.onNs, "on-ns/call")
				b.ReportMetric(o.offRatio, "off/none")
				b.ReportMetric(o.onRatio, "on/none")
			})
		}
	}
}

// The measurement itself, small.
func TestOverhead(t *testing.T) {
	needRoot(t)
	o := measureOverhead(t, Options{}, "getppid", 101, 1)
	if o.noneNs <= 0 || o.offNs <= 0 || o.onNs <= 0 || o.onRatio <= 0 {
		t.Errorf("overhead %+v", o)
	}
}
