// Package stagetest checks the stages of a request against delays of known
// place and length, injected into a small real server.
package stagetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/nexuscore-labs/nexus/bpf/stageprobe"
	"github.com/nexuscore-labs/nexus/bpf/stages"
	"github.com/nexuscore-labs/nexus/frame"
	"github.com/nexuscore-labs/nexus/loadgen"
	"github.com/nexuscore-labs/nexus/machine"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/scenarios/breakdown"
)

// Injections.
const (
	None  = "none"
	Sleep = "sleep"
	Spin  = "busy loop"
	Disk  = "slow disk"
	Hog   = "CPU hog"
)

// Tolerance is how far a stage may be from what was injected, and the sum of the
// stages from what the client saw.
const Tolerance = 0.05

const (
	caseDuration  = 500 * time.Millisecond
	repeatsMax    = 3 // of a disturbed case
	overheadPairs = 5
)

// Case is one injection over one transport, against the same server without it.
type Case struct {
	Network   string `json:"network"`
	Injection string `json:"injection"`
	Stage     string `json:"stage"` // where it belongs
	Requests  uint64 `json:"requests"`
	Joined    uint64 `json:"joined"`
	// InjectedNs is the mean per request, measured without the probe: CPU time of
	// the server's thread for work, the scheduler's account of its waits for a CPU
	// for the hog, and the server's clock less that account for other waits.
	InjectedNs float64 `json:"injected_ns"`
	// FoundNs is by how much the stage grew.
	FoundNs    float64                 `json:"found_ns"`
	ErrorShare Share                   `json:"error_share"` // |found − injected| / injected
	SumShare   Share                   `json:"sum_share"`   // the worst band's |sum − client| / client
	Account    Account                 `json:"account"`
	Breakdown  *reports.StageBreakdown `json:"breakdown"`
	Status     string                  `json:"status"` // pass, fail, disturbed
	Why        string                  `json:"why,omitempty"`
}

// Share is a share of 1; one that is not finite is null in JSON.
type Share float64

// MarshalJSON implements json.Marshaler.
func (s Share) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(s)) || math.IsInf(float64(s), 0) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(s))
}

// Result is all that a test found.
type Result struct {
	Cases []Case `json:"cases"`
	// OverheadRatio is the closed-loop rate without the probe over that with it,
	// median of pairs, by transport: a round trip that does nothing is the worst
	// case.
	OverheadRatio map[string]float64 `json:"overhead_ratio"`
	Disk          string             `json:"disk"` // how it was slowed
	Tolerance     float64            `json:"tolerance"`
}

// Status is fail when a case is or there are none, then disturbed, then pass.
func (r *Result) Status() string {
	if len(r.Cases) == 0 {
		return "fail"
	}
	status := "pass"
	for _, c := range r.Cases {
		if c.Status == "fail" {
			return "fail"
		}
		if c.Status != "pass" {
			status = c.Status
		}
	}
	return status
}

// Bench is where a test runs.
type Bench struct {
	Self     string // the nexus binary
	Probe    *stageprobe.Probe
	CPUs     machine.CPUPlan
	Dir      string // on the disk that is to be slowed
	Progress func(text string)
	disk     string
}

// Run runs every injection over TCP and UDP. It takes about ten seconds.
func (b *Bench) Run(ctx context.Context) (*Result, error) {
	out := &Result{OverheadRatio: map[string]float64{}, Tolerance: Tolerance}
	for _, network := range []string{"tcp", "udp"} {
		plain, _, err := b.undisturbed(ctx, network, None)
		if err != nil {
			return nil, err
		}
		for _, injection := range []struct {
			name  string
			stage stages.Stage
		}{{Sleep, stages.BlockedSleep}, {Spin, stages.OnCPU}, {Disk, stages.BlockedDisk}, {Hog, stages.RunQueue}} {
			got, disturbed, err := b.undisturbed(ctx, network, injection.name)
			if err != nil {
				return nil, err
			}
			out.Cases = append(out.Cases, compare(network, injection.name, injection.stage, plain, got, disturbed))
		}
		if out.OverheadRatio[network], err = b.overhead(ctx, network); err != nil {
			return nil, err
		}
	}
	out.Disk = b.disk
	return out, nil
}

// measured is one run of the server.
type measured struct {
	account   Account
	breakdown *reports.StageBreakdown
	latencyNs float64
	rate      float64
}

// undisturbed repeats a case while the machine spoils it, and says what spoilt
// the last.
func (b *Bench) undisturbed(ctx context.Context, network, injection string) (*measured, string, error) {
	for attempt := 0; ; attempt++ {
		b.Progress(fmt.Sprintf("%s, %s", network, injection))
		m, disturbed, err := b.once(ctx, network, injection, true)
		if err != nil {
			return nil, "", fmt.Errorf("%s over %s: %w", injection, network, err)
		}
		if disturbed == "" || attempt == repeatsMax {
			return m, disturbed, nil
		}
	}
}

// once runs one server under a closed loop of one stream: no request waits for
// another, so each bears exactly its own delay.
func (b *Bench) once(ctx context.Context, network, injection string, probed bool) (m *measured, disturbed string, err error) {
	child, err := b.start(ctx, network, injection)
	if err != nil {
		return nil, "", err
	}
	defer func() { err = errors.Join(err, child.close()) }()
	sampler := machine.NewSampler(machine.SamplerOptions{CPUs: append(append([]int{}, b.CPUs.Contender...), b.CPUs.Generator...)})
	if probed {
		root, err := machine.Cgroup2Root()
		if err != nil {
			return nil, "", err
		}
		if err := b.Probe.Start(stageprobe.Target{CgroupID: child.group.ID, Port: child.port}, root); err != nil {
			return nil, "", err
		}
	}
	if err := sampler.Start(); err != nil {
		return nil, "", err
	}
	config := loadgen.Config{
		Target: loadgen.Target{Network: network, Address: fmt.Sprintf("127.0.0.1:%d", child.port)},
		Codec:  "frame", Arrival: "closed", Streams: 1, Connections: 1,
		Duration: caseDuration, Timeout: 5 * time.Second, Seed: 1, CPUs: b.CPUs.Generator[:1], Source: pings{},
	}
	if probed {
		config.TraceMax = 1 << 17
	}
	load, err := loadgen.Run(ctx, config)
	readings, samplerErr := sampler.Stop()
	m = &measured{}
	if probed {
		log, stopErr := b.Probe.Stop()
		if stopErr != nil {
			return nil, "", errors.Join(err, stopErr)
		}
		if err == nil {
			m.breakdown = breakdown.Of(load, log)
		}
	}
	if err := errors.Join(err, samplerErr); err != nil {
		return nil, "", err
	}
	if m.account, err = child.stop(); err != nil {
		return nil, "", err
	}
	if load.Completed == 0 || load.Wrong > 0 {
		return nil, "", fmt.Errorf("%w: %d right and %d wrong answers: %s", loadgen.ErrNotRight, load.Completed, load.Wrong, load.FirstWrong)
	}
	m.latencyNs = load.Latency.Mean()
	m.rate = float64(load.Answered) / (float64(load.ElapsedNs) / 1e9)
	if readings.StealOwnNs > readings.ElapsedNs/50 {
		disturbed = fmt.Sprintf("the hypervisor took %.1f%% of the time", 100*float64(readings.StealOwnNs)/float64(readings.ElapsedNs))
	}
	return m, disturbed, nil
}

// pings asks for an echo and demands an answer of success.
type pings struct{}

func (pings) Next(_ uint32, op *loadgen.Op) { op.Kind = uint8(frame.KindPing) }

func (pings) Check(_ uint32, _ uint64, reply *loadgen.Reply) loadgen.Judgement {
	if reply == nil || reply.Status != 0 {
		return loadgen.Wrong
	}
	return loadgen.Right
}

// mean is the mean per joined request of one stage over all bands.
func mean(b *reports.StageBreakdown, stage stages.Stage) float64 {
	sum := 0.0
	for i := range b.Bands {
		sum += b.Bands[i].Stages[stage].MeanNs * float64(b.Bands[i].Joined)
	}
	return sum / float64(b.Joined)
}

func compare(network, injection string, stage stages.Stage, plain, got *measured, disturbed string) Case {
	c := Case{
		Network: network, Injection: injection, Stage: stage.String(), Requests: got.breakdown.Requests,
		Joined: got.breakdown.Joined, Account: got.account, Breakdown: got.breakdown, SumShare: Share(got.breakdown.ErrorShareMax()), Status: "pass",
	}
	requests := float64(got.account.Requests)
	switch injection {
	case Hog:
		c.InjectedNs = float64(got.account.InjectedDelayNs) / requests
	case Spin:
		c.InjectedNs = float64(got.account.WorkNs) / requests
	default:
		c.InjectedNs = float64(got.account.InjectedNs-got.account.WorkNs-got.account.InjectedDelayNs) / requests
	}
	c.FoundNs = mean(got.breakdown, stage) - mean(plain.breakdown, stage)
	c.ErrorShare = Share(math.Abs(c.FoundNs-c.InjectedNs) / c.InjectedNs)
	switch {
	case !(c.ErrorShare <= Tolerance):
		c.Status, c.Why = "fail", fmt.Sprintf("%s is off by %.1f%%", c.Stage, 100*c.ErrorShare)
	case !(c.SumShare <= Tolerance):
		c.Status, c.Why = "fail", fmt.Sprintf("the stages are off the client's latency by %.1f%%", 100*c.SumShare)
	}
	if c.Status == "fail" && disturbed != "" {
		c.Status, c.Why = "disturbed", c.Why+"; "+disturbed
	}
	return c
}

// overhead is the median over pairs of the rate without the probe over that with it.
func (b *Bench) overhead(ctx context.Context, network string) (float64, error) {
	var ratios []float64
	for i := range overheadPairs {
		b.Progress(fmt.Sprintf("%s, probe off and on, pair %d of %d", network, i+1, overheadPairs))
		var rate [2]float64
		for k := range 2 {
			probed := (i+k)%2 == 1
			m, _, err := b.once(ctx, network, None, probed)
			if err != nil {
				return 0, err
			}
			if probed {
				rate[1] = m.rate
			} else {
				rate[0] = m.rate
			}
		}
		ratios = append(ratios, rate[0]/rate[1])
	}
	return median(ratios), nil
}

// Self is the running binary.
func Self() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find the own binary: %w", err)
	}
	return path, nil
}
