// Package reports holds the result of a run (its schema, statistics and
// verdicts) and everything that is made from it: HTML, Markdown, JSON, Go
// benchmark text, plots, comparison and the gate.
package reports

import (
	"math"
	"time"

	"github.com/nexuscore-labs/nexus/reports/stats"
)

// SchemaVersion is the version of Result's JSON. It changes when a field is
// removed or changes its meaning; readers refuse versions they don't know.
const SchemaVersion = 1

// Verdict is the outcome of a whole run.
type Verdict string

const (
	VerdictPass         Verdict = "pass"
	VerdictFail         Verdict = "fail"
	VerdictInconclusive Verdict = "inconclusive"
	VerdictInvalid      Verdict = "invalid"
)

// Result is one run of one lab: result.json. Durations are nanoseconds, rates
// are per second, sizes are bytes; the unit is the last word of each name.
type Result struct {
	SchemaVersion int       `json:"schema_version"`
	Day           int       `json:"day"`
	Lab           string    `json:"lab"`
	Title         string    `json:"title"`
	Question      string    `json:"question"`
	Scenario      string    `json:"scenario"`        // name of the scenario file
	ScenarioHash  string    `json:"scenario_sha256"` // of the scenario after --set and mode
	Mode          string    `json:"mode"`            // quick or full
	Seed          uint64    `json:"seed"`
	StartedAt     time.Time `json:"started_at"`
	ElapsedNs     int64     `json:"elapsed_ns"`
	Command       string    `json:"command"` // repeats this run
	// Faults were planted in the subjects, to see that the gate finds them.
	Faults map[string]string `json:"faults,omitempty"`

	Verdict Verdict  `json:"verdict"`
	Reasons []string `json:"reasons"` // why the verdict is not pass; empty when it is
	// Warnings doubt a number of the run without voiding it, a sentence each.
	Warnings []string `json:"warnings,omitempty"`

	Contenders       []ContenderResult `json:"contenders"`
	Gates            []ThresholdResult `json:"gates"`
	LessonThresholds []ThresholdResult `json:"lesson_thresholds"`
	Claims           []ClaimResult     `json:"claims"`
	Oracle           OracleResult      `json:"oracle"`
	MeasuredBy       []string          `json:"measured_by"`
	NotMeasured      []string          `json:"not_measured"`
	Environment      Environment       `json:"environment"`
	Artifacts        map[string]string `json:"artifacts"` // kind (html, markdown, json, bench, plot:<name>) → path relative to the run folder

	Points  []PointResult `json:"points"`
	Trials  []Trial       `json:"trials"`
	Metrics []Metric      `json:"metrics"` // measured outside the trials: recovery rate, crash points, ...
}

// ContenderResult is one contender at the scenario's headline points.
type ContenderResult struct {
	Name           string   `json:"name"`
	Role           string   `json:"role"` // subject, baseline, peer
	Version        string   `json:"version"`
	Doc            string   `json:"doc"`
	Durability     string   `json:"durability"` // when it acknowledges, in a few words
	ThroughputPerS *float64 `json:"throughput_per_s"`
	LatencyNs      *Latency `json:"latency_ns"`
}

// Latency holds percentiles of one distribution, ns.
type Latency struct {
	Count uint64  `json:"count"`
	Mean  float64 `json:"mean"`
	P50   int64   `json:"p50"`
	P90   int64   `json:"p90"`
	P99   int64   `json:"p99"`
	P999  int64   `json:"p999"`
	Max   int64   `json:"max"`
}

// Interval is an estimate with its confidence interval: center, lo, hi,
// confidence and n. Use its Ptr for nullable fields.
type Interval = stats.Interval

// ThresholdResult is the verdict on one threshold.
type ThresholdResult struct {
	ID      string    `json:"id"`
	Doc     string    `json:"doc"`
	Status  string    `json:"status"` // gates: pass, fail, inconclusive, not_measured; lesson: held, not_held, inconclusive, not_measured
	Value   *float64  `json:"value"`  // null when not measured
	CI      *Interval `json:"ci,omitempty"`
	Limit   float64   `json:"limit"`
	Compare string    `json:"compare"` // ">=", "<=", "=="
	Unit    string    `json:"unit"`
	Metric  string    `json:"metric"`
	Point   string    `json:"point,omitempty"`
	Subject string    `json:"subject,omitempty"`
	Against string    `json:"against,omitempty"`
	Why     string    `json:"why,omitempty"` // of anything but pass or held
}

// ClaimResult is the verdict on one statement of the lesson.
type ClaimResult struct {
	ID        string `json:"id"`
	Statement string `json:"statement"`
	Verdict   string `json:"verdict"`  // held, refuted, inconclusive, not_measurable
	Evidence  string `json:"evidence"` // the number, in one sentence
	Command   string `json:"command"`  // what tests it
}

// OracleResult counts what the oracle looked at, over all trials and checks.
type OracleResult struct {
	Checked uint64 `json:"checked"`
	Wrong   uint64 `json:"wrong"`
	Lost    uint64 `json:"lost"`
	Phantom uint64 `json:"phantom"`
	Note    string `json:"note,omitempty"`
}

// PointResult is one contender at one sweep point, over all valid trials.
type PointResult struct {
	Contender      string              `json:"contender"`
	Point          string              `json:"point"`
	Sweep          map[string]float64  `json:"sweep"` // what the point sets: writers, rate_per_s, record_bytes
	Trials         int                 `json:"trials"`
	Invalid        int                 `json:"invalid"`
	Overloaded     int                 `json:"overloaded,omitempty"` // valid trials that could not bear the offered rate
	ThroughputPerS *Interval           `json:"throughput_per_s"`
	LatencyNs      map[string]Interval `json:"latency_ns"` // p50, p90, p99, p999 over trials
	CPUNsPerOp     *Interval           `json:"cpu_ns_per_op"`
	Pooled         Latency             `json:"pooled_ns"` // of the merged histogram
	Stages         *StageBreakdown     `json:"stages,omitempty"`
}

// Trial is one measured run of one contender at one sweep point.
type Trial struct {
	Contender string             `json:"contender"`
	Point     string             `json:"point"`
	Sweep     map[string]float64 `json:"sweep"`
	Round     int                `json:"round"`
	Order     int                `json:"order"`  // position in the run
	Status    string             `json:"status"` // ok, invalid, failed
	Reason    string             `json:"reason,omitempty"`
	// Warnings doubt a number of the trial without voiding it; AllWarnings sums
	// them up, so equal doubts should be equal texts.
	Warnings []string `json:"warnings,omitempty"`

	StartedAt      time.Time          `json:"started_at"`
	ElapsedNs      int64              `json:"elapsed_ns"`
	Arrival        string             `json:"arrival"` // constant, poisson, burst, closed
	OfferedPerS    float64            `json:"offered_per_s"`
	ThroughputPerS float64            `json:"throughput_per_s"`     // verified answers that arrived in the measured part
	LatencyNs      Latency            `json:"latency_ns"`           // from the intended send time
	ServiceNs      Latency            `json:"service_ns"`           // from the actual send
	LagNs          Latency            `json:"lag_ns"`               // intended to actual send
	Overloaded     bool               `json:"overloaded,omitempty"` // open loop: could not bear the offered rate
	Histograms     Histogram          `json:"histograms"`
	Counts         Counts             `json:"counts"`
	Oracle         OracleResult       `json:"oracle"`
	Generator      Generator          `json:"generator"`
	Resources      Resources          `json:"resources"`
	Disturbance    *Disturbance       `json:"disturbance,omitempty"`
	Kernel         []KernelHistogram  `json:"kernel,omitempty"`
	KernelCounts   []KernelCount      `json:"kernel_counts,omitempty"`
	System         map[string]float64 `json:"system,omitempty"` // the contender's own counters, unit last in the name
	Stages         *StageBreakdown    `json:"stages,omitempty"` // where the time went; absent where it was not measured
	Timeline       []Tick             `json:"timeline,omitempty"`
	Pace           *Pace              `json:"pace,omitempty"`
	ProbeCost      *ProbeCost         `json:"probe_cost,omitempty"`
	Events         []Event            `json:"events,omitempty"`
}

// Answers is how many verified answers arrived in the measured part: what the
// contender's resources are divided by. 0 when nothing was measured.
func (t *Trial) Answers() float64 {
	return math.Round(t.ThroughputPerS * float64(t.ElapsedNs) / 1e9)
}

// Histogram carries whole HDR histograms, V2 compressed and base64 encoded, ns.
type Histogram struct {
	LatencyHDR string `json:"latency_hdr"`
	ServiceHDR string `json:"service_hdr"`
	LagHDR     string `json:"lag_hdr"`
}

// Counts accounts for every request of a trial:
// Intended = Sent + Unsent, Sent = Completed + Errors + Timeouts + InFlight.
type Counts struct {
	Intended  uint64 `json:"intended"`
	Sent      uint64 `json:"sent"`
	Completed uint64 `json:"completed"` // right answers
	Errors    uint64 `json:"errors"`    // answers that say no
	Timeouts  uint64 `json:"timeouts"`
	Wrong     uint64 `json:"wrong"`     // answers that are not right: the trial is void
	Unsent    uint64 `json:"unsent"`    // due, never sent
	InFlight  uint64 `json:"in_flight"` // unanswered at the end
	Waited    uint64 `json:"waited"`    // sent late because the in-flight bound was reached
}

// Generator is the load generator's own bill.
type Generator struct {
	CPUNs     int64    `json:"cpu_ns"`
	BusyShare float64  `json:"busy_share"` // CPU time over wall time of its workers
	Saturated bool     `json:"saturated"`
	Features  []string `json:"features"` // ring features in use
}

// Resources is what the contender's process used during the trial.
type Resources struct {
	UserNs              int64 `json:"user_ns"`
	SystemNs            int64 `json:"system_ns"`
	PacketNs            int64 `json:"packet_ns,omitempty"` // of SystemNs: the kernel's thread that works on the contender's packets, in a network namespace
	RSSMaxBytes         int64 `json:"rss_max_bytes"`
	VoluntarySwitches   int64 `json:"voluntary_switches"`
	InvoluntarySwitches int64 `json:"involuntary_switches"`
	MinorFaults         int64 `json:"minor_faults"`
	MajorFaults         int64 `json:"major_faults"`
	ReadBytes           int64 `json:"read_bytes"`
	WriteBytes          int64 `json:"write_bytes"`
	StealNs             int64 `json:"steal_ns"` // of the whole machine
}

// Disturbance is what else went on during a trial, on the CPUs that it was
// pinned to. Shares are of their time.
type Disturbance struct {
	OtherContenderShare float64 `json:"other_contender_share"` // other programs on the contender's CPUs
	OtherGeneratorShare float64 `json:"other_generator_share"` // and on the generator's
	StealWorstShare     float64 `json:"steal_worst_share"`     // of the CPU from which the hypervisor took most
	// FrequencyKHz is the slowest and fastest of a busy CPU; 0 is not visible.
	FrequencyKHz [2]int64 `json:"frequency_khz"`
}

// KernelHistogram is one distribution measured in the kernel.
type KernelHistogram struct {
	Probe   string         `json:"probe"` // syscall, runqueue, offcpu, block, uring, ...
	Label   string         `json:"label"` // fdatasync, write, ...
	Unit    string         `json:"unit"`  // ns or bytes or count
	Count   uint64         `json:"count"`
	Sum     float64        `json:"sum"`
	P50     float64        `json:"p50"`
	P99     float64        `json:"p99"`
	Max     float64        `json:"max"` // upper edge of the highest bucket in use
	Buckets []KernelBucket `json:"buckets"`
}

// KernelBucket counts values in [Lo, Hi).
type KernelBucket struct {
	Lo    float64 `json:"lo"`
	Hi    float64 `json:"hi"`
	Count uint64  `json:"count"`
}

// KernelCount is one counter measured in the kernel.
type KernelCount struct {
	Probe string  `json:"probe"`
	Label string  `json:"label"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// Tick is one interval of a trial's timeline.
type Tick struct {
	OffsetNs  int64  `json:"offset_ns"`
	Completed uint64 `json:"completed"`
	P50Ns     int64  `json:"p50_ns"`
	P99Ns     int64  `json:"p99_ns"`
}

// Pace is the answers over a whole trial, warm-up included, in short equal
// intervals, and what they say about the trial.
type Pace struct {
	IntervalNs   int64    `json:"interval_ns"`
	MeasuredFrom int      `json:"measured_from"`  // the first interval of the measured part
	Answered     []uint64 `json:"answered"`       // in each interval
	LatencySumNs []int64  `json:"latency_sum_ns"` // of those answers, from the intended send time
	Steady       *Steady  `json:"steady,omitempty"`
}

// Steady says how steady a trial was, judged by its throughput under a closed
// loop and by its mean latency under an open one.
type Steady struct {
	Signal      string  `json:"signal"`      // throughput or latency
	FromNs      int64   `json:"from_ns"`     // end of the warm-up by MSER-5, from the measured part's start; negative: before it
	BiasRatio   float64 `json:"bias_ratio"`  // mean of the measured part over that of the steady part, less 1
	Late        bool    `json:"late"`        // the warm-up reached into the measured part and moved its mean
	Never       bool    `json:"never"`       // it still drifted at the end
	Values      int     `json:"values"`      // intervals in the steady part
	Independent float64 `json:"independent"` // what they are worth as independent values
	ErrorRatio  float64 `json:"error_ratio"` // half of the 95% interval of the measured part's mean over the mean, by batch means; 0: not measured
}

// Event is something that happened during a trial and is marked on its timeline.
type Event struct {
	OffsetNs int64  `json:"offset_ns"`
	Name     string `json:"name"`
}

// Metric is a number measured outside the trials by one of the lab's checks.
type Metric struct {
	Name   string    `json:"name"` // recovery_bytes_per_s, crash_points, ...
	Value  float64   `json:"value"`
	CI     *Interval `json:"ci,omitempty"`
	Unit   string    `json:"unit"`
	Doc    string    `json:"doc"`
	Source string    `json:"source"` // the check that measured it
}

// Environment is the machine's fingerprint. Absolute numbers are comparable
// only between results whose Key fields are equal.
type Environment struct {
	Hostname     string            `json:"hostname"`
	Kernel       string            `json:"kernel"`
	Arch         string            `json:"arch"`
	CPUModel     string            `json:"cpu_model"`
	CPUs         int               `json:"cpus"`
	MemoryBytes  int64             `json:"memory_bytes"`
	Filesystem   string            `json:"filesystem"`
	Disk         string            `json:"disk"`
	Governor     string            `json:"governor"`
	Virtual      string            `json:"virtual"`
	GoVersion    string            `json:"go_version"`
	NexusVersion string            `json:"nexus_version"`
	CPUPlan      map[string][]int  `json:"cpu_plan"` // generator, contender
	Tools        map[string]string `json:"tools,omitempty"`
	// GeneratorCeilings are the load generator's calibrated ceilings, verified
	// requests per second of its CPU time, by transport, codec and depth.
	GeneratorCeilings map[string]float64 `json:"generator_ceilings_per_cpu_s,omitempty"`
}
