package scenarios

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nexuscore-labs/nexus/bpf"
	"github.com/nexuscore-labs/nexus/machine"
	"github.com/nexuscore-labs/nexus/reports"
)

// watch measures the contender and the machine over the measured part of a
// trial. measure only reads what is read in no time, on loadgen's punctual thread;
// what takes some ten milliseconds, as switching the probes does, goes on beside it.
type watch struct {
	t       *trialRun
	sampler *machine.Sampler
	others  strangers
	beside  sync.WaitGroup

	mu     sync.Mutex // of before and after
	before *reading
	after  *reading

	begun   chan struct{} // closed: the probes and the sampler are on
	probed  bool          // the probes are on; like what follows only of the steps beside
	probeAt time.Time     // since when
	costing *costing
	err     error
}

// reading is what the contender has used until a moment.
type reading struct {
	usage
	at  time.Time
	err error
}

func (w *watch) read() *reading {
	r := &reading{at: time.Now()}
	r.usage, r.err = w.t.usage()
	return r
}

// measure is loadgen.Config.OnMeasure.
func (w *watch) measure(begins bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.after != nil:
	case begins:
		w.before = w.read()
		w.beside.Go(w.start)
	case w.before != nil:
		w.end()
	}
}

// end takes the last reading; w.mu is held.
func (w *watch) end() {
	w.after = w.read()
	w.beside.Go(w.stop)
}

// result ends what still goes on, and says what failed. It must come before the
// contender is stopped.
func (w *watch) result() error {
	w.mu.Lock()
	if w.before != nil && w.after == nil {
		w.end()
	}
	if w.after == nil {
		w.after = &reading{} // nothing was measured, and nothing is from here on
	}
	w.mu.Unlock()
	w.beside.Wait()
	select {
	case <-w.t.child.ended: // it failed the trial, and its processes are gone
	default:
		w.err = errors.Join(w.err, w.others.judge(w.t))
	}
	if w.err != nil {
		return fmt.Errorf("measure the contender: %w", w.err)
	}
	return nil
}

func newWatch(t *trialRun) *watch {
	options := machine.SamplerOptions{CPUs: t.pinned()}
	if t.limits.machine != nil {
		t.limits.machine(&options)
	}
	return &watch{t: t, sampler: machine.NewSampler(options), others: watchStrangers(), begun: make(chan struct{})}
}

func (w *watch) start() {
	defer close(w.begun)
	w.err = w.before.err
	if w.probing() {
		err := w.t.probes.Start(w.t.group.ID)
		w.probed, w.probeAt = err == nil, time.Now()
		w.err = errors.Join(w.err, err)
	}
	w.err = errors.Join(w.err, w.sampler.Start())
	if w.err == nil && w.t.slot.costing && w.t.probes != nil && w.t.group != nil {
		w.costing, w.err = startCosting(w.t)
	}
}

func (w *watch) probing() bool {
	return w.t.probes != nil && w.t.group != nil && !w.t.slot.costing
}

// stop ends what start began, and puts the readings into the trial.
func (w *watch) stop() {
	<-w.begun
	covered := w.after.at.Sub(w.before.at)
	var costErr error
	if w.costing != nil {
		costErr = w.costing.finish()
	}
	readings, samplerErr := w.sampler.Stop()
	probed := covered
	err := errors.Join(costErr, w.after.err)
	if w.probed {
		probed = time.Since(w.probeAt)
		snapshot, stopErr := w.t.probes.Stop()
		err = errors.Join(err, stopErr)
		if stopErr == nil {
			w.t.kernel(snapshot)
		}
	}
	w.err = errors.Join(w.err, err, samplerErr)
	if w.err != nil {
		return
	}
	w.t.trial.Resources = w.after.since(w.before.usage)
	w.t.trial.Resources.StealNs = readings.StealNs
	w.t.missed(append(w.before.unseen, w.after.unseen...))
	w.t.judgeMachine(&readings)
	w.judgeWindow(covered, probed)
}

// windowOffMax is by how much of the measured part the readings may miss it, or
// reach beyond: as other load, it moves what an operation costs by as much.
const windowOffMax = 0.05

// judgeWindow drops CPU time that is not the measured part's: on a crowded machine
// this process may be late to read it, and a contender that used no CPU would look
// cheap. What the probes counted stays, since its distributions are right.
func (w *watch) judgeWindow(covered, probed time.Duration) {
	measured := w.t.slot.point.Duration
	off := func(window time.Duration) bool {
		return (window - measured).Abs().Seconds() > windowOffMax*measured.Seconds()
	}
	if off(covered) {
		t := w.t.trial
		t.Resources = reports.Resources{StealNs: t.Resources.StealNs} // absent, see reports
		w.t.missed([]string{"resources of some trials: this process was late to read them, and they were another time's than the measured one"})
	}
	if off(probed) {
		w.t.missed([]string{"whole counts of the kernel's events in some trials: the probes were on for less than the measured part, so counts per operation are low there; distributions are not"})
	}
}

// kernel puts what the probes counted into the trial.
func (t *trialRun) kernel(snapshot bpf.Snapshot) {
	for i := range snapshot.Histograms {
		h := &snapshot.Histograms[i]
		out := reports.KernelHistogram{
			Probe: h.Probe, Label: h.Label, Unit: h.Unit, Count: h.Count(), Sum: float64(h.Sum),
			P50: h.Quantile(0.5), P99: h.Quantile(0.99), Max: float64(h.Max()),
		}
		for _, bucket := range h.Buckets() {
			out.Buckets = append(out.Buckets, reports.KernelBucket{Lo: float64(bucket.Lo), Hi: float64(bucket.Hi), Count: bucket.Count})
		}
		t.trial.Kernel = append(t.trial.Kernel, out)
	}
	t.missed(snapshot.NotMeasured)
	for _, c := range snapshot.Counters {
		t.trial.KernelCounts = append(t.trial.KernelCounts, reports.KernelCount{Probe: c.Probe, Label: c.Label, Value: c.Value, Unit: c.Unit})
	}
}
