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
// trial.
type watch struct {
	t       *trialRun
	sampler *machine.Sampler
	others  strangers

	mu      sync.Mutex
	started bool
	stopped bool
	probed  bool // the probes are on
	costing *costing
	before  usage
	beganAt time.Time // when before was read
	probeAt time.Time // when the probes were on
	err     error
}

// measure is loadgen.Config.OnMeasure.
func (w *watch) measure(begins bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.stopped:
	case begins:
		w.start()
	case w.started:
		w.stop()
	}
}

// result ends what still goes on, and says what failed. It must come before the
// contender is stopped.
func (w *watch) result() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.started && !w.stopped {
		w.stop()
	}
	w.stopped = true
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
	return &watch{t: t, sampler: machine.NewSampler(options), others: watchStrangers()}
}

func (w *watch) start() {
	w.started = true
	// First what is read in no time: switching the probes on takes some ten
	// milliseconds, a tenth of a short trial.
	w.before, w.err = w.t.usage()
	w.beganAt = time.Now()
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

// stop takes the last readings and puts them into the trial.
func (w *watch) stop() {
	w.stopped = true
	var costErr error
	if w.costing != nil {
		costErr = w.costing.finish()
	}
	covered := time.Since(w.beganAt)
	after, err := w.t.usage()
	err = errors.Join(costErr, err)
	readings, samplerErr := w.sampler.Stop()
	if w.probed {
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
	w.t.trial.Resources = after.since(w.before)
	w.t.trial.Resources.StealNs = readings.StealNs
	if w.t.workload().Network == NetworkVethInline {
		// The sender's CPU did the packets' work: what is left would flatter.
		w.t.trial.Resources.UserNs, w.t.trial.Resources.SystemNs = 0, 0
		w.t.unsee("CPU time at points on veth-inline: the generator's CPU does the contender's work on packets")
	}
	w.t.missed(append(w.before.unseen, after.unseen...))
	w.t.judgeMachine(&readings)
	probed := covered
	if w.probed {
		probed -= w.probeAt.Sub(w.beganAt)
	}
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
