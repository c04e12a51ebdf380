package scenarios

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// Modes of a run.
const (
	ModeQuick = "quick" // a minute: at least 5 short trials
	ModeFull  = "full"  // ten minutes: at least 10 trials
)

// StorageMemory as Scenario.Storage keeps the contenders' files in memory.
const StorageMemory = "memory"

// Scenario is one scenario file made effective for one mode: sizes resolved,
// sweeps expanded, --set applied. Names end in their unit.
type Scenario struct {
	Name       string             `json:"name"`
	Day        int                `json:"day"`
	Title      string             `json:"title"`
	Mode       string             `json:"mode"`
	Seed       uint64             `json:"seed"`
	Storage    string             `json:"storage,omitempty"` // memory; empty is a disk
	Workload   Workload           `json:"workload"`
	Contenders []ContenderChoice  `json:"contenders"`
	Points     []Point            `json:"points"`
	Headline   string             `json:"headline"` // id of the point whose numbers stand for a contender
	Overhead   *Overhead          `json:"probe_overhead,omitempty"`
	Thresholds []Threshold        `json:"thresholds"`
	Checks     map[string]Numbers `json:"checks"` // sizes by name of the check; a check that is not here does not run
	Validity   *Validity          `json:"validity,omitempty"`

	// Hash is the SHA-256 of all that is above, in hexadecimal.
	Hash string `json:"-"`
	// Path is the file, and Sets the overrides, that it was loaded from.
	Path string   `json:"-"`
	Sets []string `json:"-"`

	twins  map[string]bool  // contenders whose trials the reference build repeats
	places map[string]place // of the values in the file, for later complaints
}

// Numbers are a check's sizes, in their canonical units (bytes, ns, 1/s).
type Numbers map[string]float64

// ContenderChoice names one contender of the lab that takes part.
type ContenderChoice struct {
	Name   string            `json:"name"`
	Warmup time.Duration     `json:"warmup_ns,omitempty"` // at least so long
	Params map[string]string `json:"params,omitempty"`
	// Transport and Codec stand in place of the workload's where they are set.
	Transport string `json:"transport,omitempty"`
	Codec     string `json:"codec,omitempty"`
}

// Workload.Network that serves a contender in a network namespace, joined to the
// generator's by a pair of virtual Ethernet interfaces.
const (
	// NetworkVeth has packets worked on by threads on the CPUs of the end that they
	// arrive at, and their time charged to the contender.
	NetworkVeth = "veth"
	// NetworkVethInline has them worked on by the CPU that sends them, at once: what
	// a request's way takes without the threads' wake-ups. Nobody is charged, so
	// such trials have no CPU time per request.
	NetworkVethInline = "veth-inline"
)

// workloadOf is the point's workload as the named contender is asked it.
func (s *Scenario) workloadOf(p *Point, contender string) Workload {
	w := p.Workload
	for _, c := range s.Contenders {
		if c.Name != contender {
			continue
		}
		if c.Transport != "" {
			w.Transport = c.Transport
		}
		if c.Codec != "" {
			w.Codec = c.Codec
		}
	}
	return w
}

// Workload is what the requests of a trial look like.
type Workload struct {
	Transport  string            `json:"transport"`         // unix, tcp, udp
	Codec      string            `json:"codec"`             // frame, http1, resp
	Network    string            `json:"network,omitempty"` // veth, veth-inline; empty is the host's loopback
	Tenants    int               `json:"tenants"`
	Popularity Popularity        `json:"popularity"` // of tenants and keys
	Record     SizeRange         `json:"record"`
	Params     map[string]string `json:"params,omitempty"` // the lab's own
}

// Popularity says how often each key is chosen.
type Popularity struct {
	Kind string  `json:"kind"` // zipf, uniform, sequential
	Skew float64 `json:"skew"` // exponent of zipf, 0 otherwise
}

// SizeRange is a distribution of sizes, both ends included.
type SizeRange struct {
	Kind     string `json:"kind"` // constant, uniform, loguniform
	MinBytes int    `json:"min_bytes"`
	MaxBytes int    `json:"max_bytes"`
}

// Point is one sweep point: how the contenders are driven there.
type Point struct {
	ID          string             `json:"id"`   // name, and what its sweep sets: curve/rate_per_s=4000
	Name        string             `json:"name"` // as in the file
	Sweep       map[string]float64 `json:"sweep"`
	Arrival     string             `json:"arrival"`    // constant, poisson, burst, closed
	RatePerS    float64            `json:"rate_per_s"` // with Load 0 until the run has measured it
	Load        *LoadShare         `json:"load,omitempty"`
	BurstLen    int                `json:"burst_len"`
	Writers     int                `json:"writers"` // logical writers: loadgen's streams
	Connections int                `json:"connections"`
	InFlightMax int                `json:"in_flight_max"` // per connection
	Warmup      time.Duration      `json:"warmup_ns"`
	Duration    time.Duration      `json:"duration_ns"`
	Timeout     time.Duration      `json:"timeout_ns"` // per request
	Trials      int                `json:"trials"`
	Stages      bool               `json:"stages,omitempty"`
	Contenders  []string           `json:"contenders"` // those that run here
	Workload    Workload           `json:"workload"`   // the scenario's, with what the sweep sets
}

// LoadShare asks for a rate that is a share of what a contender bears on this machine,
// so that the same scenario is the same load on a fast disk and on a slow one.
type LoadShare struct {
	Share     float64 `json:"share"`
	Contender string  `json:"contender"`
	Point     string  `json:"point"` // where its throughput is measured, in a closed loop
}

// Overhead asks for the cost of the probes: extra trials of one contender in which
// they are switched on and off many times.
type Overhead struct {
	Contender string        `json:"contender"`
	Point     string        `json:"point"`
	Trials    int           `json:"trials"`
	Duration  time.Duration `json:"duration_ns"` // in place of the point's
}

// Classes of thresholds.
const (
	ClassGate   = "gate"   // must hold on every machine
	ClassLesson = "lesson" // the lesson's own number: reported, fails nothing
)

// Threshold is one rule about one number. Without Against it limits the
// subject's value, with it the ratio subject/against of paired trials.
type Threshold struct {
	ID      string  `json:"id"`
	Doc     string  `json:"doc"`
	Class   string  `json:"class"`
	Metric  string  `json:"metric"`
	Point   string  `json:"point,omitempty"` // id; empty for numbers measured beside the trials
	Subject string  `json:"subject,omitempty"`
	Against string  `json:"against,omitempty"` // a contender, or "peers": every peer, the hardest counts
	Compare string  `json:"compare"`
	Limit   float64 `json:"limit"`
	Unit    string  `json:"unit"`
	// CoverageMin is the share of the subject's answers that the oracle must
	// have looked at, 0 to 1; below it the threshold counts as not measured.
	CoverageMin float64 `json:"coverage_min,omitempty"`
}

// hash returns the scenario's identity: equal hashes ask for equal work.
func (s *Scenario) hash() (string, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return "", fmt.Errorf("encode the effective scenario: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// point returns the point with the given id, or nil.
func (s *Scenario) point(id string) *Point {
	for i := range s.Points {
		if s.Points[i].ID == id {
			return &s.Points[i]
		}
	}
	return nil
}
