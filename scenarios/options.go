package scenarios

import (
	"time"

	"github.com/nexuscore-labs/nexus/bpf"
	"github.com/nexuscore-labs/nexus/bpf/stageprobe"
	"github.com/nexuscore-labs/nexus/loadgen"
	"github.com/nexuscore-labs/nexus/loadgen/ceiling"
	"github.com/nexuscore-labs/nexus/machine"
	"github.com/nexuscore-labs/nexus/reports"
)

// Options say what to run and where.
type Options struct {
	Lab      *Lab
	Scenario *Scenario // may be nil when Resume is set: the interrupted run's own

	// Self is the binary that serves a contender: it is started as
	// `Self serve …` and must hand those arguments to ServeChild. Empty means
	// the running binary.
	Self string
	// Reference is the binary of another build. Each round then holds the trials
	// of the subjects twice, once with each build: the point of the reference's
	// has "/build=reference" behind its id. Such a run can't be resumed.
	Reference string
	// Faults are parameters for the subjects of this build (not of Reference)
	// beside the scenario's: a regression to be found. They are no part of the
	// scenario's hash, as a change of code is not, and Result.Faults names them.
	Faults map[string]string
	// RunsDir is the folder that gets the run's folder; it is made if missing.
	RunsDir string
	// Resume is the folder of an interrupted run to go on with.
	Resume string
	// Command is the command line that repeats this run.
	Command string

	// Environment is the machine's fingerprint; Run adds the CPU plan.
	Environment reports.Environment
	// CPUs is who may run where; the zero value plans by machine.PlanCPUs.
	CPUs machine.CPUPlan
	// Ceilings is the generator's calibration here; nil: there is none.
	Ceilings *ceiling.Table
	// Probes measure from the kernel; nil leaves that out.
	Probes Probes
	// Stages logs what the points with stages are broken down from; nil leaves
	// that out.
	Stages *stageprobe.Probe
	// NotMeasured is what the caller already knows cannot be measured here.
	NotMeasured []string

	// Progress, if set, is called for every step, from one goroutine at a time.
	Progress func(Event)
}

// Probes are what the runner needs of the kernel measurement: bpf.Suite.
// Start begins to count the events of one cgroup, Stop ends it; the rest is there
// to find out what that costs.
type Probes interface {
	Start(cgroupID uint64) error
	Stop() (bpf.Snapshot, error)
	Pause() error
	Resume() error
	Detach() error
	Reattach() error
	Accounts() ([]bpf.Account, error)
	Attachments() []bpf.Attachment
}

// EventKind is a step of a run.
type EventKind string

// The steps of a run, in the order in which they first happen.
const (
	EventPlan          EventKind = "plan"           // Total, ETA, Folder
	EventTrialStarted  EventKind = "trial_started"  // Contender, Point, Round, Attempt
	EventTick          EventKind = "tick"           // Tick, about ten times a second
	EventTrialFinished EventKind = "trial_finished" // Trial
	EventGates         EventKind = "gates"          // in the progress file only: the gates so far
	EventCheckStarted  EventKind = "check_started"  // Check
	EventCheckProgress EventKind = "check_progress" // Check, CheckDone, CheckTotal
	EventCheckFinished EventKind = "check_finished" // Check
	EventNote          EventKind = "note"           // Message: something that the user should know
	EventDone          EventKind = "done"           // Folder, Message: the verdict
)

// Event is one step of a run. Fields that don't belong to its kind are zero.
type Event struct {
	Kind      EventKind
	Done      int // trials finished so far
	Total     int // trials planned
	ETA       time.Duration
	Contender string
	Point     string
	Round     int  // from 0
	Attempt   int  // from 0; above it, a trial is repeated because it was invalid
	Costing   bool // the trial measures what the probes cost
	Trial     *reports.Trial
	Tick      loadgen.Tick

	Check      string
	CheckDone  int
	CheckTotal int

	Folder  string
	Message string
}
