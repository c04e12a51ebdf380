package loadgen

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// result merges the workers and judges whether the run may be trusted.
func (r *runner) result(clockStep time.Duration) *Result {
	out := &Result{
		StartNs:   r.collector.startNs - int64(r.cfg.Warmup),
		ElapsedNs: int64(r.cfg.Duration),
		Latency:   hdrhistogram.New(1, latencyNsMax, latencyDigits),
		Service:   hdrhistogram.New(1, latencyNsMax, latencyDigits),
		Lag:       hdrhistogram.New(1, latencyNsMax, latencyDigits),
		Timeline:  r.collector.timeline,
	}
	var sum counts
	ownLag := hdrhistogram.New(1, latencyNsMax, latencyDigits)
	for _, w := range r.workers {
		sum.add(&w.rec.counts)
		ownLag.Merge(w.rec.ownLag)
		out.InFlight += w.measuredInFlight()
		out.Latency.Merge(w.rec.latency)
		out.Service.Merge(w.rec.service)
		out.Lag.Merge(w.rec.lag)
		out.Pace.merge(&w.rec.pace.Pace)
		out.CPUNs += w.cpuNs
		out.Traced = append(out.Traced, w.tracer.entries...)
		out.TraceMissed += w.tracer.missed
		sum.cut += uint64(w.set.Cut())
		out.ElapsedNs = min(out.ElapsedNs, max(w.nowNs-w.measureNs, 0))
		if out.FirstWrong == "" {
			out.FirstWrong = w.rec.firstWrong
		}
		if out.FirstError == "" {
			out.FirstError = w.rec.firstError
		}
	}
	out.Intended, out.Sent, out.Completed, out.Unsent = sum.intended, sum.sent, sum.completed, sum.unsent
	out.Errors, out.Timeouts, out.Wrong, out.Waited = sum.errors, sum.timeouts, sum.wrong, sum.waited
	out.Answered = sum.arrived
	for _, w := range r.workers {
		if out.ElapsedNs > 0 {
			out.BusyShare = max(out.BusyShare, float64(w.cpuNs-w.spinNs)/float64(out.ElapsedNs))
		}
	}
	out.Features = append(out.Features, r.workers[0].set.Features()...)
	if !slices.ContainsFunc(r.workers, func(w *worker) bool { return !w.realtime.on }) {
		out.Features = append(out.Features, "realtime")
	}
	if r.cfg.Arrival == "closed" {
		out.Features = append(out.Features, "closed_loop_hides_queueing")
	}
	r.judge(out, &sum, ownLag.ValueAtPercentile(lagQuantile), clockStep)
	return out
}

func (c *counts) add(o *counts) {
	c.intended += o.intended
	c.sent += o.sent
	c.completed += o.completed
	c.errors += o.errors
	c.timeouts += o.timeouts
	c.wrong += o.wrong
	c.unsent += o.unsent
	c.waited += o.waited
	c.arrived += o.arrived
	c.wrongUnmeasured += o.wrongUnmeasured
	c.strays += o.strays
	c.late += o.late
}

// judge lists the reasons against the run, each in one line.
func (r *runner) judge(out *Result, sum *counts, ownLagNs int64, clockStep time.Duration) {
	invalid := func(format string, args ...any) {
		out.Invalid = append(out.Invalid, fmt.Sprintf(format, args...))
	}
	full := out.ElapsedNs >= int64(r.cfg.Duration)
	if !full {
		invalid("stopped after %v of %v", time.Duration(out.ElapsedNs).Round(time.Millisecond), r.cfg.Duration)
	}
	if out.Intended == 0 {
		invalid("no request was intended within the measured %v", r.cfg.Duration)
	}
	if r.cfg.Arrival != "closed" && full {
		r.judgeRate(out, invalid)
		r.judgeArrivals(out, invalid)
	}
	if limit := lagLimit(out.Latency); r.cfg.Arrival != "closed" && ownLagNs > limit {
		out.Saturated = true
		invalid("the generator fell behind: p%d of its own lag is %v, %v would not show in the latencies", lagQuantile,
			time.Duration(ownLagNs).Round(10*time.Microsecond), time.Duration(limit).Round(10*time.Microsecond))
	}
	if out.BusyShare > cmp.Or(r.cfg.BusyShareMax, busyShareMax) {
		out.Saturated = true
		invalid("the generator is the bottleneck: a worker was busy for %.1f%% of the time", 100*out.BusyShare)
	}
	out.Overloaded = r.cfg.Arrival != "closed" && full && !out.Saturated && overloaded(out.Intended, out.Answered)
	if sum.wrongUnmeasured > 0 {
		invalid("%d wrong answers outside the measured part: %s", sum.wrongUnmeasured, out.FirstWrong)
	}
	if sum.cut > 0 {
		invalid("%d receives lost answers to a short buffer", sum.cut)
	}
	if sum.strays > 0 {
		invalid("the server broke the protocol %d times: %s", sum.strays, out.FirstWrong)
	}
	// Slewing may move the clock by 500 ppm, see adjtimex(2).
	allowed := clockStepNsMax + (int64(r.cfg.Warmup)+int64(r.cfg.Duration))/2000
	if step := int64(clockStep); step > allowed || step < -allowed {
		invalid("the wall clock was set by %v during the run", clockStep)
	}
}

// overloaded reports whether a server fell behind the load. In a steady state
// as many answers arrive in a window as requests; both counts scatter by about
// their root.
func overloaded(intended, answered uint64) bool {
	missing := float64(intended) - float64(answered)
	return missing > max(overloadShareMin*float64(intended), 3*math.Sqrt(float64(intended)))
}

// lagLimit is how late the generator may send of its own fault before what it
// measures is its own lag: a tenth of the latency at the same percentile, or
// 1 ms where that is less, since a virtual CPU that is taken away for a moment
// costs as much.
func lagLimit(latency *hdrhistogram.Histogram) int64 {
	return max(lagLimitNs, latency.ValueAtPercentile(lagQuantile)/10)
}

func (r *runner) judgeRate(out *Result, invalid func(string, ...any)) {
	if out.Intended == 0 {
		return
	}
	unsent := float64(out.Unsent) / float64(out.Intended)
	if unsent > rateErrorMax {
		invalid("rate: %.2f%% of the intended requests could not be sent (pipelines full or connections lost)", 100*unsent)
	}
	want := r.cfg.RatePerS * r.cfg.Duration.Seconds()
	// Chance moves a Poisson count by its root; whole bursts move it by one.
	allowed := max(rateErrorMax*want, 1)
	switch r.cfg.Arrival {
	case "poisson":
		allowed = max(allowed, 5*math.Sqrt(want))
	case "burst":
		allowed = max(allowed, float64(r.cfg.BurstLen))
	}
	if math.Abs(float64(out.Intended)-want) > allowed {
		invalid("rate: %d requests were intended, %.0f asked for", out.Intended, want)
	}
}
