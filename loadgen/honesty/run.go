package honesty

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nexuscore-labs/nexus/loadgen"
	"github.com/nexuscore-labs/nexus/loadgen/arrivals"
	"github.com/nexuscore-labs/nexus/loadgen/scriptserver"
)

// arrivalTolerance is what a gap between requests may be off where the server
// reads them: the generator's lag, the network, and the server's waking up.
const arrivalTolerance = 200 * time.Microsecond

// Place says where generator and server run.
type Place struct {
	GeneratorCPU int // below 0: not pinned
	ServerCPU    int // below 0: not pinned
}

func (p Place) pinned() bool { return p.GeneratorCPU >= 0 && p.ServerCPU >= 0 }

// cpus are the generator's.
func (p Place) cpus() []int {
	if !p.pinned() {
		return nil
	}
	return []int{p.GeneratorCPU}
}

// Run runs one case. The error is for what keeps it from running; what is wrong
// with the outcome is in the outcome.
func (c Case) Run(ctx context.Context, place Place) (out Outcome, err error) {
	plan, err := c.plan()
	if err != nil {
		return out, err
	}
	server, remove, err := c.serve(place)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	result, runErr := c.load(ctx, server, place)
	record, closeErr := server.Close()
	if err := errors.Join(runErr, closeErr); err != nil {
		return out, fmt.Errorf("%s: %w", c.Name(), err)
	}
	return c.compare(plan, result, &record), nil
}

func (c *Case) load(ctx context.Context, server *scriptserver.Server, place Place) (*loadgen.Result, error) {
	return loadgen.Run(ctx, loadgen.Config{
		Target: loadgen.Target{Network: server.Network, Address: server.Address}, Codec: c.Codec,
		Arrival: c.Arrival, RatePerS: c.RatePerS, BurstLen: c.BurstLen,
		Streams: c.Connections, Connections: c.Connections, InFlightMax: c.inFlightMax(),
		Warmup: c.Warmup, Duration: c.Duration, Timeout: 5 * time.Second, Seed: c.Seed,
		CPUs: place.cpus(), Source: newSource(c.Codec, c.Connections),
	})
}

// inFlightMax is room for all that a stall can hold up; a closed loop needs one.
func (c *Case) inFlightMax() int {
	if c.Arrival == "closed" {
		return 1
	}
	return 4096
}

func (c *Case) serve(place Place) (*scriptserver.Server, func() error, error) {
	address, remove := "127.0.0.1:0", func() error { return nil }
	if c.Network == "unix" {
		dir, err := os.MkdirTemp("", "nexus-honesty-")
		if err != nil {
			return nil, nil, fmt.Errorf("make a folder for the socket: %w", err)
		}
		address, remove = filepath.Join(dir, "s"), func() error { return os.RemoveAll(dir) }
	}
	cpu := -1
	if place.pinned() {
		cpu = place.ServerCPU
	}
	server, err := scriptserver.Start(scriptserver.Config{
		Network: c.Network, Address: address, Protocol: c.Codec, Script: c.script(),
		CPU: cpu, LogMax: c.logMax(),
	})
	if err != nil {
		return nil, nil, errors.Join(err, remove())
	}
	return server, remove, nil
}

func (c *Case) logMax() int {
	perS := max(c.RatePerS, float64(c.Connections)/fastDelay.Seconds())
	return int(2*perS*(c.Warmup+c.Duration).Seconds()) + 1000
}

// compare puts the three views beside each other.
func (c *Case) compare(plan []planned, r *loadgen.Result, record *scriptserver.Record) Outcome {
	out := Outcome{
		Case: c.Name(), Network: c.Network, Codec: c.Codec, Arrival: c.Arrival, Script: c.Script,
		Answered: r.Completed, Invalid: r.Invalid,
	}
	late := lateness(record)
	expected := c.latencies(plan)
	out.Requests = len(expected)
	logged, arrivedNs := c.logged(plan, r.StartNs, record)
	for i, q := range Quantiles {
		f := Figure{Quantile: q, ExpectedNs: quantile(expected, q), LoggedNs: quantile(logged, q), MeasuredNs: r.Latency.ValueAtQuantile(q)}
		f.Error = float64(f.MeasuredNs)/float64(f.ExpectedNs) - 1
		f.ErrorLogged = float64(f.MeasuredNs)/float64(f.LoggedNs) - 1
		out.Figures = append(out.Figures, f)
		out.LagNs[i] = r.Lag.ValueAtQuantile(q)
		out.LateNs[i] = quantile(late, q)
	}
	if c.Arrival != "closed" {
		out.Arrivals = c.testArrivals(plan, arrivedNs)
	}
	out.Wrong = c.wrong(plan, out.Requests, r, record)
	return out
}

// lateness is how long after the script's time each answer left.
func lateness(record *scriptserver.Record) []int64 {
	late := make([]int64, 0, len(record.Entries))
	for _, e := range record.Entries {
		late = append(late, e.AnsweredNs-e.DueNs)
	}
	slices.Sort(late)
	return late
}

// logged is each measured request's latency by the server's record, from when
// it was due, and when it arrived there.
func (c *Case) logged(plan []planned, startNs int64, record *scriptserver.Record) (latencies, arrivedNs []int64) {
	due := make(map[uint64]int64, len(plan))
	for _, p := range plan {
		due[p.id] = p.atNs
	}
	for _, e := range record.Entries {
		at, known := due[e.ID]
		if c.Arrival == "closed" {
			at, known = e.ArrivedNs-startNs, true
		}
		if !known || at < int64(c.Warmup) || at >= int64(c.Warmup+c.Duration) {
			continue
		}
		latencies = append(latencies, e.AnsweredNs-startNs-at)
		arrivedNs = append(arrivedNs, e.ArrivedNs)
	}
	slices.Sort(latencies)
	slices.Sort(arrivedNs)
	return latencies, arrivedNs
}

func (c *Case) testArrivals(plan []planned, arrivedNs []int64) []arrivals.Test {
	var dueNs []int64
	for _, p := range plan {
		if p.atNs >= int64(c.Warmup) {
			dueNs = append(dueNs, p.atNs)
		}
	}
	slices.Sort(dueNs)
	if c.Arrival == "poisson" {
		return append(arrivals.PlanPoisson(dueNs, c.RatePerS), arrivals.SendsPoisson(arrivedNs, c.RatePerS, arrivalTolerance)...)
	}
	// Only the last ones can be missing; wrong sees to that.
	return arrivals.Displaced(dueNs, arrivedNs, arrivalTolerance)
}

// wrong says what must not happen whatever the machine does. In an open loop
// exactly the planned requests are made; a datagram may be lost.
func (c *Case) wrong(plan []planned, requests int, r *loadgen.Result, record *scriptserver.Record) string {
	lost := r.Timeouts + r.Errors + r.InFlight
	allowed := uint64(0)
	if c.Network == "udp" {
		allowed = uint64(requests / 1000)
	}
	switch {
	case r.Wrong > 0:
		return fmt.Sprintf("%d wrong answers: %s", r.Wrong, r.FirstWrong)
	case c.Arrival != "closed" && r.Intended != uint64(requests):
		return fmt.Sprintf("%d requests were intended, the schedule has %d", r.Intended, requests)
	case c.Arrival != "closed" && lost == 0 && !lastOnesMissing(plan, record):
		return fmt.Sprintf("of %d requests, %d were left out in between", requests, r.Unsent)
	case lost > allowed:
		return fmt.Sprintf("%d of %d requests got no answer: %s", lost, requests, r.FirstError)
	case record.Lost > 0:
		return fmt.Sprintf("the server's record lacks %d answers", record.Lost)
	case c.Script == ScriptStall && record.StallNs == 0:
		return "the server never stalled"
	}
	return ""
}

// lastOnesMissing says whether the planned requests that the server never saw
// are the last ones: a generator that is late at the end can't send those in
// time, and counts them as unsent. Any other must be sent.
func lastOnesMissing(plan []planned, record *scriptserver.Record) bool {
	seen := make(map[uint64]bool, len(record.Entries))
	for _, e := range record.Entries {
		seen[e.ID] = true
	}
	firstNs, lastNs := int64(math.MaxInt64), int64(0) // missing, seen
	for _, p := range plan {
		if seen[p.id] {
			lastNs = max(lastNs, p.atNs)
		} else {
			firstNs = min(firstNs, p.atNs)
		}
	}
	return firstNs >= lastNs
}
