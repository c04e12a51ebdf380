package reports

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/nexuscore-labs/nexus/reports/stats"
)

//go:embed gaterecordings/day07.json
var gateRecordingsDay07 []byte

// GateRecordings are trials of equal programs, recorded to learn how far apart
// the gate finds what is the same.
type GateRecordings struct {
	Version     int         `json:"version"`
	Environment Environment `json:"environment"`
	// Pairs: two copies of one binary at the same time, as `nexus gate --reference
	// COPY` runs them.
	Pairs []PairRecording `json:"pairs"`
	// Rounds: the subject and the baseline one after the other on disk,
	// scenarios/day07/rounds.yaml.
	Rounds []RoundRecording `json:"rounds"`
}

// PairRecording is one run of pairs: throughput of this build and the other.
type PairRecording struct {
	StartedAt time.Time    `json:"started_at"`
	PerS      [][2]float64 `json:"throughput_per_s"`
	CPUNs     [][2]float64 `json:"cpu_ns_per_op"`
}

// RoundRecording is one run of rounds: throughput and CPU time of subject and
// baseline.
type RoundRecording struct {
	StartedAt time.Time    `json:"started_at"`
	PerS      [][2]float64 `json:"throughput_per_s"`
	CPUNs     [][2]float64 `json:"cpu_ns_per_op"`
}

// EmbeddedGateRecordings are the recordings that this program carries.
func EmbeddedGateRecordings() (*GateRecordings, error) {
	return ParseGateRecordings(gateRecordingsDay07)
}

// ParseGateRecordings reads what Encode wrote.
func ParseGateRecordings(text []byte) (*GateRecordings, error) {
	var r GateRecordings
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("read the gate's recordings: %w", err)
	}
	if r.Version != gateRecordingsVersion || len(r.Pairs) == 0 || len(r.Rounds) < 2 {
		return nil, errors.New("the gate's recordings are empty or of another version")
	}
	for _, p := range r.Pairs {
		if err := checkRecording(p.StartedAt, "pairs", p.PerS, p.CPUNs); err != nil {
			return nil, err
		}
	}
	for _, p := range r.Rounds {
		if err := checkRecording(p.StartedAt, "rounds", p.PerS, p.CPUNs); err != nil {
			return nil, err
		}
	}
	return &r, nil
}

func checkRecording(at time.Time, what string, perS, cpuNs [][2]float64) error {
	if len(perS) < recordingMin || len(cpuNs) != len(perS) {
		return fmt.Errorf("the gate's recording of %s has %d %s, at least %d are needed", at, len(perS), what, recordingMin)
	}
	for i := range perS {
		for side := range 2 {
			if !(perS[i][side] > 0) || !(cpuNs[i][side] > 0) {
				return fmt.Errorf("the gate's recording of %s: %s %d: a throughput or a cost is not positive", at, what, i)
			}
		}
	}
	return nil
}

// NewGateRecordings is an empty set of recordings on a machine.
func NewGateRecordings(where Environment) *GateRecordings {
	return &GateRecordings{Version: gateRecordingsVersion, Environment: where}
}

// Encode writes the recordings as ParseGateRecordings reads them.
func (g *GateRecordings) Encode() ([]byte, error) {
	text, err := json.MarshalIndent(g, "", " ")
	if err != nil {
		return nil, fmt.Errorf("encode the gate's recordings: %w", err)
	}
	return append(text, '\n'), nil
}

const (
	gateRecordingsVersion = 1
	// recordingMin is the shortest recording to draw from.
	recordingMin = 5
)

// AddPairs adds a run of two copies of one binary.
func (g *GateRecordings) AddPairs(r *Result, contender, point string) error {
	perS, cpuNs := twoSides(r, func(t *Trial) int {
		switch {
		case t.Contender != contender:
			return -1
		case t.Point == point:
			return 0
		case t.Point == point+referenceSuffix:
			return 1
		}
		return -1
	})
	if err := checkRecording(r.StartedAt, "pairs", perS, cpuNs); err != nil {
		return err
	}
	g.Pairs = append(g.Pairs, PairRecording{StartedAt: r.StartedAt, PerS: perS, CPUNs: cpuNs})
	return nil
}

// AddRounds adds a run of a subject and its baseline.
func (g *GateRecordings) AddRounds(r *Result, subject, baseline, point string) error {
	perS, cpuNs := twoSides(r, func(t *Trial) int {
		switch {
		case t.Point != point:
			return -1
		case t.Contender == subject:
			return 0
		case t.Contender == baseline:
			return 1
		}
		return -1
	})
	if err := checkRecording(r.StartedAt, "rounds", perS, cpuNs); err != nil {
		return err
	}
	g.Rounds = append(g.Rounds, RoundRecording{StartedAt: r.StartedAt, PerS: perS, CPUNs: cpuNs})
	return nil
}

// twoSides are the throughput and the CPU time of the trials that side calls 0
// and 1, round by round, where both were measured.
func twoSides(r *Result, side func(*Trial) int) (perS, cpuNs [][2]float64) {
	read := func(name string) map[int][2]float64 {
		m, _ := measureNamed(name)
		found := map[int][2]float64{}
		for i := range r.Trials {
			t := &r.Trials[i]
			at := side(t)
			value, measured := m.read(t)
			if at < 0 || t.Status != "ok" || !measured {
				continue
			}
			pair := found[t.Round]
			pair[at] = value
			found[t.Round] = pair
		}
		return found
	}
	rates, costs := read("throughput"), read("cpu_ns_per_op")
	for _, round := range slices.Sorted(maps.Keys(rates)) {
		if rate, cost := rates[round], costs[round]; rate[0] > 0 && rate[1] > 0 && cost[0] > 0 && cost[1] > 0 {
			perS, cpuNs = append(perS, rate), append(cpuNs, cost)
		}
	}
	return perS, cpuNs
}

// GateTrial is one design of the gate put to the test over and over.
type GateTrial struct {
	Reference   bool    `json:"reference"` // two builds in pairs; else against a committed baseline
	Trials      int     `json:"trials"`    // pairs or rounds of one run
	Alpha       float64 `json:"alpha"`
	MinEffect   float64 `json:"min_effect"`
	Slowdown    float64 `json:"slowdown"` // planted: 0.05 makes every operation take 5% longer
	Comparisons int     `json:"comparisons"`

	Red       int       `json:"red"`       // exit code 1
	Unsettled int       `json:"unsettled"` // exit code 5: suspected and not confirmed
	Rate      *Interval `json:"rate"`      // of red, Wilson 95%
	Runs      float64   `json:"runs_mean"` // that a decision took
}

// blockLen is how many neighbouring rounds are drawn together, so that what
// disturbed them for seconds disturbs the resampled run for as long.
const blockLen = 10

// Measure puts the design to the test through Decide or DecideReference, with
// their runs for confirmation. Every run of a comparison is drawn anew, in blocks
// of neighbouring rounds of one recording.
func (g *GateRecordings) Measure(t GateTrial, seed uint64) (GateTrial, error) {
	random := rand.New(rand.NewPCG(seed, 0x67617465))
	now := g.Pairs[0].StartedAt
	runs := 0
	for range t.Comparisons {
		report, err := g.compare(&t, now, random)
		if err != nil {
			return t, err
		}
		runs += report.Runs
		switch report.Verdict {
		case GateFail:
			t.Red++
		case GateInconclusive:
			t.Unsettled++
		}
	}
	t.Runs = float64(runs) / float64(t.Comparisons)
	rate := stats.Wilson(t.Red, t.Comparisons)
	t.Rate = &rate
	return t, nil
}

func (g *GateRecordings) compare(t *GateTrial, now time.Time, random *rand.Rand) (*GateReport, error) {
	opts := GateOptions{Alpha: t.Alpha, MinEffect: t.MinEffect, Seed: random.Uint64()}
	var baseline *Baseline
	from := -1 // the recording that the baseline is not taken from
	if !t.Reference {
		home := random.IntN(len(g.Rounds))
		from = home
		var err error
		if baseline, err = g.baseline(home, t.Trials, now, random); err != nil {
			return nil, err
		}
	}
	var runs []*Result
	for {
		if t.Reference {
			runs = append(runs, g.pairRun(t, now, random))
		} else {
			runs = append(runs, g.roundRun(t, from, now, random))
		}
		var report *GateReport
		var err error
		if t.Reference {
			report, err = DecideReference(runs, now, opts)
		} else {
			report, err = Decide(baseline, runs, now, opts)
		}
		if err != nil || report.Verdict != GateRerun {
			return report, err
		}
	}
}

// drawn are n indices below among in blocks.
func drawn(n, among int, random *rand.Rand) []int {
	var indices []int
	for len(indices) < n {
		start := random.IntN(among)
		for i := range blockLen {
			indices = append(indices, (start+i)%among)
		}
	}
	return indices[:n]
}

func (g *GateRecordings) result(now time.Time) *Result {
	return &Result{SchemaVersion: SchemaVersion, Day: 7, Lab: "day07", Scenario: "recorded", ScenarioHash: "recorded", Mode: "quick", StartedAt: now,
		Verdict: VerdictPass, Environment: g.Environment,
		Contenders: []ContenderResult{{Name: "subject", Role: RoleSubject}, {Name: "baseline", Role: RoleBaseline}}}
}

const recordedPoint = "saturation"

// recordedTrial has the throughput and the CPU time per operation that were
// recorded. A second of operations carries both.
func recordedTrial(contender, point string, round, order int, perS, cpuNs float64) Trial {
	return Trial{Contender: contender, Point: point, Round: round, Order: order, Status: "ok", Arrival: "closed",
		ElapsedNs: int64(time.Second), ThroughputPerS: perS, Resources: Resources{UserNs: int64(cpuNs * perS)}}
}

func (g *GateRecordings) pairRun(t *GateTrial, now time.Time, random *rand.Rand) *Result {
	recording := &g.Pairs[random.IntN(len(g.Pairs))]
	r := g.result(now)
	this, other := 0, 1
	if random.IntN(2) == 1 { // both programs are the same: which is called the reference is arbitrary
		this, other = other, this
	}
	for round, i := range drawn(t.Trials, len(recording.PerS), random) {
		perS, cpuNs := recording.PerS[i], recording.CPUNs[i]
		r.Trials = append(r.Trials, recordedTrial("subject", recordedPoint, round, 2*round, perS[this]/(1+t.Slowdown), cpuNs[this]*(1+t.Slowdown)),
			recordedTrial("subject", recordedPoint+referenceSuffix, round, 2*round+1, perS[other], cpuNs[other]))
	}
	return r
}

// roundRun is drawn from another recording than the baseline's: the machine of
// today is not in the mood of yesterday's.
func (g *GateRecordings) roundRun(t *GateTrial, not int, now time.Time, random *rand.Rand) *Result {
	at := random.IntN(len(g.Rounds) - 1)
	if at >= not {
		at++
	}
	return g.rounds(at, t.Trials, t.Slowdown, now, random)
}

func (g *GateRecordings) rounds(at, trials int, slowdown float64, now time.Time, random *rand.Rand) *Result {
	recording := &g.Rounds[at]
	r := g.result(now)
	for round, i := range drawn(trials, len(recording.PerS), random) {
		perS, cpuNs := recording.PerS[i], recording.CPUNs[i]
		r.Trials = append(r.Trials, recordedTrial("subject", recordedPoint, round, 2*round, perS[0]/(1+slowdown), cpuNs[0]*(1+slowdown)),
			recordedTrial("baseline", recordedPoint, round, 2*round+1, perS[1], cpuNs[1]))
	}
	return r
}

// baseline pools two runs, as `nexus gate --update` is told to.
func (g *GateRecordings) baseline(at, trials int, now time.Time, random *rand.Rand) (*Baseline, error) {
	runs := []*Result{g.rounds(at, trials, 0, now, random), g.rounds(at, trials, 0, now, random)}
	b := &Baseline{SchemaVersion: BaselineVersion, Day: 7, Lab: "day07", Scenario: "recorded", ScenarioHash: "recorded", Mode: "quick",
		Reason: "recorded", CreatedAt: now, Environment: g.Environment}
	for _, name := range []string{"throughput", "cpu_ns_per_op"} {
		m, _ := measureNamed(name)
		b.Series = append(b.Series, seriesOf(runs, recordedPoint, m)...)
	}
	return b, b.validate()
}
