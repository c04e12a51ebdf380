package scenarios

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/nexuscore-labs/nexus/bpf/netbed"
	"github.com/nexuscore-labs/nexus/bpf/stageprobe"
	"github.com/nexuscore-labs/nexus/loadgen"
	"github.com/nexuscore-labs/nexus/loadgen/ceiling"
	"github.com/nexuscore-labs/nexus/machine"
	"github.com/nexuscore-labs/nexus/reports"
)

// bench is what trials need and share.
type bench struct {
	lab       *Lab
	scenario  *Scenario
	self      string
	reference string            // binary of the reference build
	faults    map[string]string // planted in the subjects of this build
	folder    string            // of the run
	temp      string            // root of the trials' data folders
	cpus      machine.CPUPlan
	probes    Probes
	stages    *stageprobe.Probe
	groups    bool // cgroups can be made
	limits    limits
	ceilings  *ceiling.Table // nil: not calibrated
	drive     func(context.Context, loadgen.Config) (*loadgen.Result, error)
	progress  func(Event)
	mu        sync.Mutex // of unseen: two trials of a pair run at the same time
	unseen    []string   // what the probes said that they could not measure, each once
}

// missed keeps what could not be measured, each once.
func (b *bench) missed(texts []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, text := range texts {
		if !contains(b.unseen, text) {
			b.unseen = append(b.unseen, text)
		}
	}
}

func (b *bench) contender(name string) *Contender {
	return b.lab.contender(name)
}

// attempt runs one trial once. Its status says how it went; the error is for
// what ends the run: an interruption, or a machine that can't do it.
func (b *bench) attempt(ctx context.Context, s slot, order int) (trial reports.Trial, err error) {
	return b.attemptAt(ctx, s, order, nil)
}

// attemptAt is attempt for one side of a pair: the load begins when both have
// come to the meeting.
func (b *bench) attemptAt(ctx context.Context, s slot, order int, both *meeting) (trial reports.Trial, err error) {
	trial = reports.Trial{
		Contender: s.contender, Point: pointID(s), Sweep: sweepOf(s), Round: s.round, Order: order,
		StartedAt: time.Now(), Arrival: s.point.Arrival, OfferedPerS: s.point.RatePerS,
		Disturbance: &reports.Disturbance{},
	}
	name := fmt.Sprintf("%05d-%s", order, s.contender)
	dir := filepath.Join(b.temp, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return trial, environmentError("free space or set TMPDIR to a disk with room", "make the contender's folder: %w", err)
	}
	defer func() { err = errors.Join(err, removeAll(dir)) }()
	var group *machine.Cgroup
	if b.groups {
		if group, err = machine.NewCgroup(); err != nil {
			return trial, environmentError("", "%w", err)
		}
		defer func() { err = errors.Join(err, group.Remove()) }()
	}
	run := trialRun{bench: b, slot: s, trial: &trial, dir: dir, group: group, both: both}
	if both != nil {
		run.come = sync.OnceFunc(both.arrive)
		defer run.come()
	}
	err = run.do(ctx, filepath.Join(b.folder, "stderr", name+".log"))
	if err == nil {
		return trial, nil
	}
	var known *Error
	switch {
	case ctx.Err() != nil:
		return trial, ctx.Err()
	case errors.As(err, &known) && known.Code != ExitContender:
		return trial, err
	}
	trial.Status, trial.Reason = trialFailed, err.Error()
	return trial, nil
}

// costingSuffix marks the points of trials that measure what the probes cost.
const costingSuffix = "/probes=toggled"

// ReferenceSuffix marks the points of the reference build's trials.
const ReferenceSuffix = "/build=reference"

func pointID(s slot) string {
	if s.costing {
		return s.point.ID + costingSuffix
	}
	if s.reference {
		return s.point.ID + ReferenceSuffix
	}
	return s.point.ID
}

func sweepOf(s slot) map[string]float64 {
	out := map[string]float64{}
	for key, value := range s.point.Sweep {
		out[key] = value
	}
	if s.costing {
		out["probes_toggled"] = 1
	}
	if s.reference {
		out["reference"] = 1
	}
	return out
}

// trialRun is one attempt under way.
type trialRun struct {
	*bench
	slot  slot
	trial *reports.Trial
	dir   string
	group *machine.Cgroup
	child *child
	bed   *netbed.Bed // nil on the host's network
	both  *meeting    // nil for a trial that runs alone
	come  func()
	heard *heard
}

func (t *trialRun) do(ctx context.Context, stderr string) (err error) {
	spec := TrialSpec{
		Contender: t.slot.contender, Point: *t.slot.point, Round: t.slot.round,
		Seed: t.slot.seed, Workload: t.workload(),
	}
	source, err := t.lab.Source(spec)
	if err != nil {
		return usageError("", "make the requests of %s: %w", t.slot, err)
	}
	if err := t.makeBed(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.closeBed()) }()
	t.child, err = startChild(childSpec{
		path: t.binary(), args: t.serveArgs().list(), cpus: t.cpus.Contender,
		group: t.group, stderr: stderr, limits: t.limits, netns: t.serverNetns(),
	})
	if err != nil {
		return err
	}
	defer t.child.abandon()
	address, err := t.child.awaitReady(ctx)
	if err != nil {
		return err
	}
	if t.both != nil {
		t.both.join(t.child.cmd.Process.Pid)
		t.come()
		if err := t.both.wait(ctx); err != nil {
			return err
		}
	}
	load, err := t.load(ctx, address, source)
	if err != nil {
		return err
	}
	t.trial.System, err = t.child.stop()
	if err != nil {
		return err
	}
	if err := t.record(load); err != nil {
		return err
	}
	return t.judge(ctx, spec, source, load)
}

func (t *trialRun) binary() string {
	if t.slot.reference {
		return t.reference
	}
	return t.self
}

func (t *trialRun) serveArgs() serveArgs {
	a := serveArgs{
		day: t.lab.Day, contender: t.slot.contender, dir: t.dir,
		network: t.workload().Transport, fd: handshakeFD, host: loopbackHost,
	}
	if t.bed != nil {
		a.host, a.device = netbed.ServerIPv4.String(), t.bed.Server.Interface
	}
	for _, c := range t.scenario.Contenders {
		if c.Name == t.slot.contender {
			a.params = servedParams(t.workload(), c.Params)
		}
	}
	if len(t.faults) == 0 || t.slot.reference || t.contender(t.slot.contender).Role != reports.RoleSubject {
		return a
	}
	if a.params == nil {
		a.params = map[string]string{}
	}
	maps.Copy(a.params, t.faults)
	return a
}

// servedParams are what ServeEnv.Params holds for a contender with own params.
func servedParams(w Workload, own map[string]string) map[string]string {
	if len(w.Params) == 0 {
		return maps.Clone(own)
	}
	params := map[string]string{ParamTenants: strconv.Itoa(w.Tenants)}
	maps.Copy(params, w.Params)
	maps.Copy(params, own)
	return params
}

// load drives the contender, and measures it meanwhile. It ends early when the
// contender does.
func (t *trialRun) load(ctx context.Context, address string, source loadgen.Source) (*loadgen.Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-t.child.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	p := t.slot.point
	t.heard = &heard{counting: t.slot.costing}
	watch := newWatch(t)
	breaking, err := t.startStages(address)
	if err != nil {
		return nil, err
	}
	load, err := t.drive(ctx, loadgen.Config{
		Target: t.target(address), Ordinary: t.bed != nil, UDPOffload: t.bed != nil && t.workload().Transport == transportUDP,
		Codec: t.workload().Codec, Arrival: p.Arrival, RatePerS: p.RatePerS, BurstLen: p.BurstLen,
		Streams: p.Writers, Connections: p.Connections, InFlightMax: p.InFlightMax,
		Warmup: t.slot.warmup, Duration: p.Duration, Timeout: p.Timeout,
		Seed: t.slot.seed, CPUs: t.generatorCPUs(), SharedCPUs: t.cpus.Shared, BusyShareMax: t.scenario.Validity.generatorBusyMax(), Source: listen(source, t.heard),
		OnTick: func(tick loadgen.Tick) {
			t.progress(Event{
				Kind: EventTick, Contender: t.slot.contender, Point: p.ID, Round: t.slot.round,
				Costing: t.slot.costing, Tick: tick,
			})
		},
		OnMeasure: watch.measure, TraceMax: breaking.traceMax(),
	})
	watched := watch.result() // first: until then it writes to the trial too
	if stagesErr := breaking.stop(load); stagesErr != nil {
		t.invalid(stagesErr.Error())
	}
	select {
	case <-t.child.ended:
		return nil, t.child.failure("ended under load")
	default:
	}
	if err != nil {
		if generatorImpossible(err) {
			return nil, environmentError("`nexus doctor` says what io_uring lacks here", "generate load: %w", err)
		}
		return nil, contenderError("", "drive the contender: %w%s", err, t.child.stderr.tail())
	}
	if watched != nil {
		t.invalid(watched.Error()) // measuring failed, not the contender
	}
	return load, nil
}

// generatorCPUs gives the generator no more workers than connections.
func (t *trialRun) generatorCPUs() []int {
	return t.cpus.Generator[:min(len(t.cpus.Generator), t.slot.point.Connections)]
}

// generatorImpossible reports whether the load generator can't work on this
// machine at all.
func generatorImpossible(err error) bool {
	return errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOMEM)
}

// invalid marks the trial as not to be trusted.
func (t *trialRun) invalid(reason string) {
	t.trial.Status = trialInvalid
	reason = oneLine(reason)
	if t.trial.Reason != "" {
		reason = t.trial.Reason + "; " + reason
	}
	t.trial.Reason = reason
}

// record puts what the generator measured into the trial.
func (t *trialRun) record(load *loadgen.Result) error {
	r := t.trial
	r.ElapsedNs = load.ElapsedNs
	if load.ElapsedNs > 0 {
		r.ThroughputPerS = float64(load.Answered) / (float64(load.ElapsedNs) / 1e9)
	}
	r.Overloaded = load.Overloaded
	r.Counts = reports.Counts{
		Intended: load.Intended, Sent: load.Sent, Completed: load.Completed, Errors: load.Errors,
		Timeouts: load.Timeouts, Wrong: load.Wrong, Unsent: load.Unsent, InFlight: load.InFlight, Waited: load.Waited,
	}
	r.LatencyNs, r.ServiceNs, r.LagNs = reports.LatencyOf(load.Latency), reports.LatencyOf(load.Service), reports.LatencyOf(load.Lag)
	var errs [3]error
	r.Histograms.LatencyHDR, errs[0] = reports.EncodeHistogram(load.Latency)
	r.Histograms.ServiceHDR, errs[1] = reports.EncodeHistogram(load.Service)
	r.Histograms.LagHDR, errs[2] = reports.EncodeHistogram(load.Lag)
	if err := errors.Join(errs[:]...); err != nil {
		return environmentError("", "encode histograms: %w", err)
	}
	r.Generator = reports.Generator{CPUNs: load.CPUNs, BusyShare: load.BusyShare, Saturated: load.Saturated, Features: load.Features}
	for _, tick := range load.Timeline {
		r.Timeline = append(r.Timeline, reports.Tick(tick))
	}
	r.Pace = &reports.Pace{
		IntervalNs: load.Pace.IntervalNs, MeasuredFrom: load.Pace.MeasuredFrom,
		Answered: load.Pace.Answered, LatencySumNs: load.Pace.LatencySumNs,
	}
	r.Pace.Judge(r.Arrival == "closed")
	r.Warnings = append(r.Warnings, r.Pace.Steady.Doubts()...)
	for _, reason := range load.Invalid {
		t.invalid(reason)
	}
	t.judgeCeiling(load)
	return nil
}

// judge decides the trial's status: wrong answers make it failed, whatever the
// measurement was worth.
func (t *trialRun) judge(ctx context.Context, spec TrialSpec, source loadgen.Source, load *loadgen.Result) error {
	if load.Wrong > 0 {
		return contenderError("", "%d wrong answers, the first: %s", load.Wrong, load.FirstWrong)
	}
	if load.Sent == 0 && !t.heard.mute() {
		t.invalid("the generator sent nothing in the measured part")
		return nil
	}
	if load.Completed == 0 {
		return contenderError("", "no right answer in %s: %d sent, %d refused, %d timed out; in all, %d were never answered: %s",
			time.Duration(load.ElapsedNs).Round(time.Millisecond), load.Sent, load.Errors, load.Timeouts, t.heard.unanswered.Load(), load.FirstError)
	}
	if t.lab.Verify != nil {
		found, err := t.lab.Verify(ctx, Evidence{
			Spec: spec, Contender: *t.contender(t.slot.contender), Dir: t.dir, Source: source, Load: load,
		})
		if err != nil {
			return contenderError("", "the oracle can't read what the contender left: %w", err)
		}
		t.trial.Oracle = found
		if found.Wrong+found.Lost+found.Phantom > 0 {
			return contenderError("", "the oracle found %d wrong, %d lost and %d phantom of %d: %s",
				found.Wrong, found.Lost, found.Phantom, found.Checked, found.Note)
		}
	}
	if t.trial.Status == "" {
		t.trial.Status = trialOK
	}
	return nil
}

// removeAll removes a trial's data.
func removeAll(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove the contender's data: %w", err)
	}
	return nil
}
