// Package scenarios reads scenario files and runs them: it plans the trials,
// starts contenders, drives them, asks the oracle and judges the thresholds.
package scenarios

import (
	"context"

	"github.com/nexuscore-labs/nexus/loadgen"
	"github.com/nexuscore-labs/nexus/reports"
)

// Lab is one lesson made runnable: all that the runner needs to know of it.
type Lab struct {
	Day      int
	Title    string
	Question string   // the one sentence that the report answers
	Scenario string   // path of the scenario file that runs by default, from the repository's root
	Needs    []string // capability ids that machine.Probe knows; missing ones end the run with exit code 3
	Tools    []string // capability ids of programs that some contenders start: setup installs them too

	Contenders []Contender

	// Source makes the requests of one trial. Equal arguments give equal
	// requests, so every contender of a round is asked the same.
	Source func(spec TrialSpec) (loadgen.Source, error)

	// Verify is the oracle. It runs after the contender has stopped, and reads
	// what it left in evidence.Dir.
	Verify func(ctx context.Context, evidence Evidence) (reports.OracleResult, error)

	// Checks are the lab's experiments that are not trials: crash points,
	// recovery rate, claims. They run in order after the trials.
	Checks []Check

	// ClaimsYAML is labs/dayNN/claims.yaml.
	ClaimsYAML []byte
}

// Contender is one way to do the lab's job. Serve runs in a process of its own.
type Contender struct {
	Name       string
	Role       string // subject, baseline, peer
	Doc        string // one line
	Durability string // when it acknowledges
	Version    func() string
	// Params are what a scenario may set for it, each with its valid values; none
	// listed means any. The workload's params are the lab's, not listed here.
	Params map[string][]string
	// AnswersInDriver says that answers leave by XDP_TX: a pair of virtual Ethernet
	// interfaces then needs a program at the generator's end, too.
	AnswersInDriver bool
	// Serve serves until ctx ends, then drains, closes its store and returns.
	Serve func(ctx context.Context, env ServeEnv) error
}

// ServeEnv is what a contender's process gets from the runner.
type ServeEnv struct {
	Dir     string // its own empty folder; the oracle reads it later
	Network string // unix, tcp, udp
	// Host is the address to listen at over tcp and udp, on a port of the
	// contender's own choice.
	Host string
	// Device is the interface that requests arrive on, in the contender's own
	// network namespace; empty on the host's network. The process runs in there.
	Device string
	// Params are the point's workload.params, with the number of its tenants as
	// ParamTenants, and over them the scenario's params for this contender. A
	// workload without params hands nothing over, its tenants neither.
	Params map[string]string
	// Ready tells the runner the address to drive. It is called once.
	Ready func(address string) error
	// Stat sets one of the contender's own counters (unit last in the name);
	// the runner reads them when the contender has stopped.
	Stat func(name string, value float64)
}

// ParamTenants is the key in ServeEnv.Params of the workload's number of tenants.
const ParamTenants = "tenants"

// TrialSpec is one planned trial.
type TrialSpec struct {
	Contender string
	Point     Point
	Round     int
	Seed      uint64 // equal for all contenders of a round and point
	Workload  Workload
}

// Evidence is what the oracle gets to see of one trial.
type Evidence struct {
	Spec      TrialSpec
	Contender Contender
	Dir       string
	Source    loadgen.Source // the one that the trial used, with what it saw acknowledged
	Load      *loadgen.Result
}

// Check is an experiment beside the trials.
type Check struct {
	Name string
	Doc  string
	Run  func(ctx context.Context, env CheckEnv) (CheckResult, error)
}

// CheckEnv is what a check gets.
type CheckEnv struct {
	Mode     string // quick or full
	Seed     uint64
	Dir      string             // a folder of its own, removed afterwards
	Params   map[string]float64 // the scenario's sizes for this check
	Result   *reports.Result    // the trials so far; read only
	Self     string             // path of this binary, for child processes
	Progress func(done, total int)
}

// CheckResult is what a check found.
type CheckResult struct {
	Metrics []reports.Metric
	Oracle  reports.OracleResult
	Claims  []reports.ClaimResult
}
