package bpf

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/bpf/bpftest"
)

// What the probes cost: the same work without probes, with probes attached but
// off, and with probes on. While they are attached, off-on-on-off is repeated;
// the steps without probes surround that, so drift cancels on both levels. The
// medians of the ratios are reported: of the CPU time of the worked process,
// which neighbours on the machine hardly touch, and of the elapsed time.

// cost is the time of one operation in ns.
type cost struct{ cpu, elapsed float64 }

func (a cost) plus(b cost) cost { return cost{a.cpu + b.cpu, a.elapsed + b.elapsed} }

// overhead holds means of two steps: none and attached of each round, off and on
// of each repetition in it.
type overhead struct{ none, attached, off, on []cost }

func measureOverhead(t testing.TB, opts Options, workload string, n, rounds, repetitions int) overhead {
	t.Helper()
	child := bpftest.Start(t, workload, n)
	child.Step()
	var o overhead
	for range rounds {
		none := timeStep(t, child, n)
		withSuite(t, opts, func(s *Suite) {
			attached := timeStep(t, child, n)
			for range repetitions {
				off, on := repeat(t, s, child, n)
				o.off, o.on = append(o.off, off), append(o.on, on)
			}
			o.attached = append(o.attached, attached.plus(timeStep(t, child, n)))
		})
		o.none = append(o.none, none.plus(timeStep(t, child, n)))
	}
	return o
}

// repeat takes off-on-on-off.
func repeat(t testing.TB, s *Suite, child *bpftest.Process, n int) (off, on cost) {
	t.Helper()
	for _, switchedOn := range []bool{false, true, true, false} {
		if !switchedOn {
			off = off.plus(timeStep(t, child, n))
			continue
		}
		if err := s.Start(child.CgroupID); err != nil {
			t.Fatal(err)
		}
		on = on.plus(timeStep(t, child, n))
		if _, err := s.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	return off, on
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

// timeStep measures one step; half of it, because rounds add up two.
func timeStep(t testing.TB, child *bpftest.Process, n int) cost {
	t.Helper()
	cpu, began := cpuTime(t, child.PID), time.Now()
	child.Step()
	elapsed := time.Since(began)
	per := 2 * float64(n)
	return cost{float64(cpuTime(t, child.PID)-cpu) / per, float64(elapsed.Nanoseconds()) / per}
}

// cpuTime reads a process's CPU clock; its id is made as clock_getcpuclockid(3) does.
func cpuTime(t testing.TB, pid int) int64 {
	t.Helper()
	const cpuclockSched = 2
	var now unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|cpuclockSched), &now); err != nil {
		t.Fatal(err)
	}
	return now.Nano()
}

// median of a part of each round, or with a base of its ratio to the base's.
func median(rounds, base []cost, part func(cost) float64) float64 {
	values := make([]float64, len(rounds))
	for i, c := range rounds {
		values[i] = part(c)
		if base != nil {
			values[i] /= part(base[i])
		}
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// BenchmarkOverhead reports the cost of the whole suite and of each probe on a
// null system call, which is all overhead, and on a durable write.
func BenchmarkOverhead(b *testing.B) {
	needRoot(b)
	for _, name := range append([]string{"all"}, Probes()...) {
		opts := Options{}
		if name != "all" {
			opts.Probes = []string{name}
		}
		b.Run("getppid/"+name, func(b *testing.B) { reportOverhead(b, opts, "getppid", 50_000) })
		b.Run("append/"+name, func(b *testing.B) { reportOverhead(b, opts, "append", 1000) })
	}
}

func reportOverhead(b *testing.B, opts Options, workload string, n int) {
	const rounds, repetitions = 3, 5
	o := measureOverhead(b, opts, workload, n, rounds*b.N, repetitions)
	cpu := func(c cost) float64 { return c.cpu }
	elapsed := func(c cost) float64 { return c.elapsed }
	b.ReportMetric(0, "ns/op") // of no meaning here
	b.ReportMetric(median(o.none, nil, cpu), "none-cpu-ns/call")
	b.ReportMetric(median(o.off, nil, cpu), "off-cpu-ns/call")
	b.ReportMetric(median(o.on, nil, cpu), "on-cpu-ns/call")
	b.ReportMetric(median(o.attached, o.none, cpu), "off/none-cpu")
	b.ReportMetric(median(o.on, o.off, cpu), "on/off-cpu")
	b.ReportMetric(median(o.on, o.off, elapsed), "on/off-elapsed")
}

// The measurement itself, small.
func TestOverhead(t *testing.T) {
	needRoot(t)
	o := measureOverhead(t, Options{}, "getppid", 1009, 1, 1)
	for _, rounds := range [][]cost{o.none, o.attached, o.off, o.on} {
		if len(rounds) != 1 || rounds[0].cpu <= 0 || rounds[0].elapsed <= 0 {
			t.Errorf("overhead %+v", o)
		}
	}
}
