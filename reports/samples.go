package reports

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nexuscore-labs/nexus/reports/quantity"
)

// measure is one number of a trial that comparison and gate look at.
type measure struct {
	name   string
	label  string // for people
	unit   quantity.Unit
	higher bool // higher is better
	read   func(*Trial) (value float64, measured bool)
}

func percentileMeasure(name, label string, read func(*Latency) int64) measure {
	return measure{name: name, label: label, unit: quantity.Ns, read: func(t *Trial) (float64, bool) {
		return float64(read(&t.LatencyNs)), t.LatencyNs.Count > 0
	}}
}

var measures = []measure{
	{name: "throughput", label: "throughput", unit: quantity.PerS, higher: true, read: func(t *Trial) (float64, bool) { return t.ThroughputPerS, true }},
	percentileMeasure("latency_p50", "p50", func(l *Latency) int64 { return l.P50 }),
	percentileMeasure("latency_p99", "p99", func(l *Latency) int64 { return l.P99 }),
	{name: "cpu_ns_per_op", label: "CPU per op", unit: quantity.Ns, read: func(t *Trial) (float64, bool) {
		if perOp := t.cpuNsPerOp(); perOp != nil {
			return *perOp, true
		}
		return 0, false
	}},
}

// measureNamed is false for a name that no measure has.
func measureNamed(name string) (measure, bool) {
	i := slices.IndexFunc(measures, func(m measure) bool { return m.name == name })
	if i < 0 {
		return measure{}, false
	}
	return measures[i], true
}

// tells says whether the measure means something for the kind of load: open loop
// fixes the rate, closed loop hides the latency.
func (m measure) tells(closed bool) bool {
	switch m.unit {
	case quantity.PerS:
		return closed
	case quantity.Ns:
		return !closed || m.name == "cpu_ns_per_op"
	}
	return true
}

// arrow is the label with the better direction.
func (m measure) arrow() string {
	if m.higher {
		return m.label + " ↑"
	}
	return m.label + " ↓"
}

// sample is the measure in every valid trial at a place, over several runs. It
// is nil when a valid trial lacks it: half a sample would be a biased one.
func sample(runs []*Result, at place, m measure) []float64 {
	var values []float64
	for _, r := range runs {
		for i := range r.Trials {
			t := &r.Trials[i]
			if t.Status != "ok" || t.Contender != at.contender || t.Point != at.point {
				continue
			}
			value, measured := m.read(t)
			if !measured {
				return nil
			}
			values = append(values, value)
		}
	}
	return values
}

// pairedRatios are subject over against for each round in which both have a
// valid trial.
func pairedRatios(runs []*Result, subject, against, point string, m measure) []float64 {
	var ratios []float64
	for _, r := range runs {
		divisors := map[int]float64{}
		for i := range r.Trials {
			t := &r.Trials[i]
			if t.Status == "ok" && t.Contender == against && t.Point == point {
				if value, measured := m.read(t); measured && value > 0 {
					divisors[t.Round] = value
				}
			}
		}
		for i := range r.Trials {
			t := &r.Trials[i]
			if t.Status != "ok" || t.Contender != subject || t.Point != point {
				continue
			}
			value, measured := m.read(t)
			if divisor, paired := divisors[t.Round]; paired && measured {
				ratios = append(ratios, value/divisor)
			}
		}
	}
	return ratios
}

// Difference is a field in which two results are not alike.
type Difference struct {
	Field string `json:"field"`
	A     string `json:"a"`
	B     string `json:"b"`
}

// UnlikeError says why two results must not be compared.
type UnlikeError struct{ Differences []Difference }

// Error names every differing field with both values.
func (e *UnlikeError) Error() string {
	var parts []string
	for _, d := range e.Differences {
		parts = append(parts, fmt.Sprintf("%s: %q against %q", d.Field, d.A, d.B))
	}
	return "results that are not alike must not be compared: " + strings.Join(parts, "; ")
}

// Fingerprint holds the fields of the environment that absolute numbers depend
// on. The host's name and the versions of this program and its tools are no part
// of it: they are often what a comparison is about. Memory counts in whole GiB,
// because kernels reserve slightly different amounts.
func (e *Environment) Fingerprint() map[string]string {
	return map[string]string{
		"kernel": e.Kernel, "arch": e.Arch, "cpu_model": e.CPUModel, "cpus": fmt.Sprint(e.CPUs),
		"memory_bytes": fmt.Sprintf("%d GiB", (e.MemoryBytes+1<<29)>>30), "filesystem": e.Filesystem, "disk": e.Disk,
		"governor": e.Governor, "virtual": e.Virtual, "cpu_plan": fmt.Sprint(e.CPUPlan), // fmt sorts map keys
	}
}

// EmulatedHypervisor begins Environment.Virtual where the processor is software.
const EmulatedHypervisor = "qemu-emulated"

// EmulatedWarning is what every report of such a machine says.
const EmulatedWarning = "the processor is emulated by software (QEMU TCG): answers and counts hold, and no speed of this run can be compared with any other"

// GeneratorLimitsWarning is what the report of a run says whose scenario lets the
// generator be the bottleneck. Charts of speed are left out of it.
const GeneratorLimitsWarning = "the scenario lets the generator be the bottleneck: no rate of this run is the contender's"

// Emulated reports whether the machine's processor is software.
func (e *Environment) Emulated() bool { return strings.HasPrefix(e.Virtual, EmulatedHypervisor) }

func scenarioDifferences(a, b *Result) []Difference {
	return differences("", map[string]string{
		"schema_version": fmt.Sprint(a.SchemaVersion), "day": fmt.Sprint(a.Day), "lab": a.Lab,
		"scenario": a.Scenario, "scenario_sha256": a.ScenarioHash, "mode": a.Mode,
	}, map[string]string{
		"schema_version": fmt.Sprint(b.SchemaVersion), "day": fmt.Sprint(b.Day), "lab": b.Lab,
		"scenario": b.Scenario, "scenario_sha256": b.ScenarioHash, "mode": b.Mode,
	})
}

func environmentDifferences(a, b *Environment) []Difference {
	return differences("environment.", a.Fingerprint(), b.Fingerprint())
}

func differences(prefix string, a, b map[string]string) []Difference {
	var all []Difference
	for _, field := range slices.Sorted(maps.Keys(a)) {
		if a[field] != b[field] {
			all = append(all, Difference{prefix + field, a[field], b[field]})
		}
	}
	return all
}

// InvalidRunError says that a run's measurement can't be trusted: nothing can be
// concluded from it.
type InvalidRunError struct{ Why string }

// Error says why.
func (e *InvalidRunError) Error() string { return "the measurement is invalid: " + e.Why }

// ExitCode is that of an inconclusive measurement.
func (e *InvalidRunError) ExitCode() int { return exitInvalid }

const exitInvalid = 5 // as scenarios.ExitInvalid, which this package can't import

// untrusted says why no number of r may be used, or is nil.
func untrusted(r *Result) error {
	if err := r.Validate(); err != nil {
		return err
	}
	if r.Verdict == VerdictInvalid {
		return &InvalidRunError{Why: strings.Join(r.Reasons, "; ")}
	}
	if r.Environment.Emulated() {
		return &InvalidRunError{Why: EmulatedWarning}
	}
	if o := r.Oracle; o.Wrong+o.Lost+o.Phantom > 0 {
		return fmt.Errorf("answers were not right (%d wrong, %d lost, %d phantom): such a run has no performance", o.Wrong, o.Lost, o.Phantom)
	}
	return nil
}
