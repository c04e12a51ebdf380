package cli

import (
	"context"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/nexuscore-labs/nexus/loadgen/ceiling"
	"github.com/nexuscore-labs/nexus/loadgen/honesty"
	"github.com/nexuscore-labs/nexus/machine"
)

// Limits beyond which the machine, not the generator, is to blame.
const (
	stealShareMax  = 0.005 // of the CPUs' time
	otherShareMax  = 0.05
	gapShareMax    = 0.01 // of a core's time, lost in gaps that a spinning thread sees
	confirmingRuns = 2    // after a run that is off
)

// generatorReport is what nexus selftest generator --json prints.
type generatorReport struct {
	Mode    string            `json:"mode"`
	Seed    uint64            `json:"seed"`
	Verdict string            `json:"verdict"` // pass, fail, disturbed
	Reasons []string          `json:"reasons"`
	Machine generatorMachine  `json:"machine"`
	Cases   []generatorCase   `json:"cases"`
	Ceiling *ceiling.Ceiling  `json:"ceiling,omitempty"`
	Lag     []honesty.LagRow  `json:"lag,omitempty"`
	CPUs    map[string][]int  `json:"cpus"`
	Limits  map[string]string `json:"limits"`
}

// generatorMachine is what disturbed the test.
type generatorMachine struct {
	StealShare     float64         `json:"steal_share"`
	OtherLoadShare float64         `json:"other_load_share"`
	Floors         []honesty.Floor `json:"floors"`
	Invalid        []string        `json:"invalid,omitempty"`
}

// generatorCase is one case: its first run, and the median of more where the
// first was off.
type generatorCase struct {
	honesty.Outcome
	Runs     int      `json:"runs"`
	Problems []string `json:"problems,omitempty"` // of each run that was off
}

func newSelftestGenerator(term *terminal) *cobra.Command {
	var mode string
	var seed uint64
	cmd := &cobra.Command{
		Use:   "generator",
		Short: "Does the generator measure what is really there? Against a server with scripted delays",
		Long: "Run the load generator against a server whose delays are scripted (constant, bimodal, a stall\n" +
			"of one second), over every transport and arrival process. Its percentiles must be within 5% of\n" +
			"those computed from the arrival schedule and the script; a case that is off is run twice more\n" +
			"and judged by its medians. Then its schedule lag is measured at shares of its ceiling.\n\n" +
			"Exit codes: 0 pass, 1 a figure is off, 5 the machine was too disturbed to tell.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if mode != "quick" && mode != "full" {
				return usagef("unknown mode %q: use quick or full", mode)
			}
			report, err := selftestGenerator(cmd.Context(), term, mode, seed)
			if err != nil {
				return err
			}
			if term.json {
				err = term.printJSON(report)
			} else {
				err = term.printGenerator(report)
			}
			return verdictOf(report, err)
		},
	}
	cmd.Flags().StringVar(&mode, "mode", "quick", "quick (some 35 s, more where cases are repeated) or full (every combination, about three minutes)")
	cmd.Flags().Uint64Var(&seed, "seed", 7, "of the arrivals and the script")
	return cmd
}

func verdictOf(report *generatorReport, err error) error {
	switch {
	case err != nil:
		return err
	case report.Verdict == "fail":
		return verdictError{exitFail}
	case report.Verdict == "disturbed":
		return verdictError{exitInvalid}
	}
	return nil
}

// twoPlaces are where generator and server run: on CPUs of their own.
func twoPlaces() (honesty.Place, error) {
	plan, err := machine.PlanCPUs()
	if err != nil {
		return honesty.Place{}, codeError{err, exitEnvironment}
	}
	if plan.Shared {
		return honesty.Place{}, codeError{fmt.Errorf("generator and server need a CPU each; this process may use %d: give this machine or container at least 2", len(plan.System)), exitEnvironment}
	}
	return honesty.Place{GeneratorCPU: plan.Generator[0], ServerCPU: plan.Contender[0]}, nil
}

// roomForSpinners lets two threads spin without keeping Go's other work from a
// processor. What it returns undoes it.
func roomForSpinners() func() {
	before := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(max(before, runtime.NumCPU()+4))
	return func() { runtime.GOMAXPROCS(before) }
}

func selftestGenerator(ctx context.Context, term *terminal, mode string, seed uint64) (*generatorReport, error) {
	place, err := twoPlaces()
	if err != nil {
		return nil, err
	}
	defer roomForSpinners()()
	cases, lagTime := honesty.Quick(seed), 600*time.Millisecond
	if mode == "full" {
		cases, lagTime = honesty.Full(seed), 3*time.Second
	}
	report := &generatorReport{
		Mode: mode, Seed: seed, Reasons: []string{},
		CPUs:   map[string][]int{"generator": {place.GeneratorCPU}, "server": {place.ServerCPU}},
		Limits: map[string]string{"percentiles": fmt.Sprintf("%g%%", 100*honesty.ErrorMax), "lag_p999": time.Duration(honesty.LagNsMax).String()},
	}
	watched := []int{place.GeneratorCPU, place.ServerCPU}
	sampler := machine.NewSampler(machine.SamplerOptions{CPUs: watched})
	if err := sampler.Start(); err != nil {
		return nil, codeError{err, exitEnvironment}
	}
	line := newStatusLine(term)
	err = report.measure(ctx, place, cases, lagTime, line)
	line.end()
	readings, sampleErr := sampler.Stop()
	if err == nil {
		err = sampleErr
	}
	if err != nil {
		return nil, drivingError(err)
	}
	wallNs := float64(readings.ElapsedNs) * float64(len(watched))
	report.Machine.StealShare = float64(readings.StealOwnNs) / wallNs
	report.Machine.OtherLoadShare = float64(readings.OtherLoadNs) / wallNs
	report.Machine.Invalid = readings.Invalid
	report.judge()
	return report, nil
}

func (r *generatorReport) measure(ctx context.Context, place honesty.Place, cases []honesty.Case, lagTime time.Duration, line *statusLine) error {
	for _, cpu := range []int{place.GeneratorCPU, place.ServerCPU} {
		line.show("how idle is CPU %d?", cpu)
		floor, err := honesty.MeasureFloor(cpu, 500*time.Millisecond)
		if err != nil {
			return err
		}
		r.Machine.Floors = append(r.Machine.Floors, floor)
	}
	for i, c := range cases {
		line.show("%d of %d: %s", i+1, len(cases), c.Name())
		done, err := runCase(ctx, c, place)
		if err != nil {
			return err
		}
		r.Cases = append(r.Cases, done)
	}
	line.show("schedule lag")
	rows, top, err := honesty.MeasureLag(ctx, place, lagTime)
	r.Lag, r.Ceiling = rows, &top
	return err
}

// runCase runs a case, and twice more if it is off: then the median counts.
func runCase(ctx context.Context, c honesty.Case, place honesty.Place) (generatorCase, error) {
	var runs []honesty.Outcome
	var problems []string
	for len(runs) == 0 || len(problems) > 0 && len(runs) <= confirmingRuns {
		out, err := c.Run(ctx, place)
		if err != nil {
			return generatorCase{}, err
		}
		runs = append(runs, out)
		if p := out.Problem(); p != "" {
			problems = append(problems, p)
		}
	}
	return generatorCase{Outcome: medianOutcome(runs), Runs: len(runs), Problems: problems}, nil
}

// medianOutcome takes the run whose worst error is the median one: its figures
// belong together.
func medianOutcome(runs []honesty.Outcome) honesty.Outcome {
	worst := func(o honesty.Outcome) float64 {
		if o.Wrong != "" {
			return math.Inf(1)
		}
		w := 0.0
		for _, f := range o.Figures {
			w = max(w, math.Abs(f.Error))
		}
		if o.Problem() != "" {
			w = max(w, honesty.ErrorMax) // by its arrivals
		}
		return w
	}
	slices.SortStableFunc(runs, func(a, b honesty.Outcome) int {
		switch d := worst(a) - worst(b); {
		case d < 0:
			return -1
		case d > 0:
			return 1
		}
		return 0
	})
	return runs[len(runs)/2]
}

// judge says what the whole is worth. What is off on a disturbed machine is no
// failure of the generator's, and no pass either; wrong answers are a failure
// anywhere. A core that isn't idle excuses lag, but no wrong percentile: that
// takes a disturbance of another size, or a server that was late by its own record.
func (r *generatorReport) judge() {
	off, wrong, excused := false, false, false
	for _, c := range r.Cases {
		if p := c.Problem(); p != "" {
			if c.ServerWasLate() {
				excused = true
				p += "; the server of the script was late, and the generator saw what it did"
			} else {
				off, wrong = true, wrong || c.Wrong != ""
			}
			r.Reasons = append(r.Reasons, fmt.Sprintf("%s: %s", c.Case, p))
		}
	}
	for _, row := range r.Lag {
		if row.Wrong != "" {
			off, wrong = true, true
			r.Reasons = append(r.Reasons, fmt.Sprintf("%s arrivals at %.0f%% of the ceiling: %s", row.Arrival, 100*row.Share, row.Wrong))
		}
		for _, why := range row.Invalid {
			r.Reasons = append(r.Reasons, fmt.Sprintf("schedule lag of %s arrivals at %.0f%% of the ceiling was not measured: %s", row.Arrival, 100*row.Share, why))
			off, excused = off || row.CoreIdle(), excused || !row.CoreIdle()
		}
		if !row.Late() {
			continue
		}
		reason := fmt.Sprintf("schedule lag p99.9 of %s arrivals at %.0f%% of the ceiling is %v, at most %v are allowed", row.Arrival, 100*row.Share, shortly(row.LagNs[2]), time.Duration(honesty.LagNsMax))
		if row.CoreIdle() {
			off = true
		} else {
			excused = true
			reason += fmt.Sprintf("; the core is not idle: a thread that only spins would be %v late", shortly(row.Floor.LagNs[2]))
		}
		r.Reasons = append(r.Reasons, reason)
	}
	disturbed := r.Machine.disturbances()
	switch {
	case !off && !excused:
		r.Verdict = "pass"
	case wrong || off && len(disturbed) == 0:
		r.Verdict = "fail"
	default:
		r.Verdict = "disturbed"
		r.Reasons = append(r.Reasons, disturbed...)
	}
}

func (m *generatorMachine) disturbances() []string {
	var all []string
	if m.StealShare > stealShareMax {
		all = append(all, fmt.Sprintf("the hypervisor took %.1f%% of the CPUs' time", 100*m.StealShare))
	}
	if m.OtherLoadShare > otherShareMax {
		all = append(all, fmt.Sprintf("other programs took %.0f%% of the CPUs' time", 100*m.OtherLoadShare))
	}
	for _, f := range m.Floors {
		if f.GapShare > gapShareMax {
			all = append(all, fmt.Sprintf("CPU %d is not idle: %.1f%% of a spinning thread's time lay in gaps of up to %v", f.CPU, 100*f.GapShare, time.Duration(f.GapNsMax).Round(time.Microsecond)))
		}
	}
	return append(all, m.Invalid...)
}

func (t *terminal) printGenerator(r *generatorReport) error {
	table := tabwriter.NewWriter(t.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "transport\tarrivals\tscript\tp50 ms: script, measured\tp99 ms\tp99.9 ms\tlag p99.9\tserver late\t")
	for _, c := range r.Cases {
		fmt.Fprintf(table, "%s %s\t%s\t%s\t", c.Network, c.Codec, c.Arrival, c.Script)
		for _, f := range c.Figures {
			fmt.Fprintf(table, "%s\t", figureText(f))
		}
		fmt.Fprintf(table, "%v\t%v\t%s\n", time.Duration(c.LagNs[2]).Round(time.Microsecond), time.Duration(c.LateNs[2]).Round(time.Microsecond), caseText(c))
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	fmt.Fprintf(t.stdout, "\nThe closed loop's p99 is what a patient client sees of a stalled second; the open loop's is what the others see.\n\n")
	if err := t.printLag(r); err != nil {
		return err
	}
	fmt.Fprintf(t.stdout, "\nmachine: %.1f%% stolen, %.0f%% other load", 100*r.Machine.StealShare, 100*r.Machine.OtherLoadShare)
	for _, f := range r.Machine.Floors {
		fmt.Fprintf(t.stdout, "; CPU %d: gaps of up to %v", f.CPU, time.Duration(f.GapNsMax).Round(time.Microsecond))
	}
	words := map[string]string{"pass": "pass: every figure is within its limit", "fail": "FAIL", "disturbed": "INVALID: this machine was too disturbed to tell"}
	fmt.Fprintf(t.stdout, "\n%s\n", words[r.Verdict])
	for _, reason := range r.Reasons {
		fmt.Fprintf(t.stdout, "  - %s\n", reason)
	}
	return nil
}

func figureText(f honesty.Figure) string {
	mark := ""
	if f.Off() {
		mark = " !"
	}
	return fmt.Sprintf("%.2f, %.2f %+.1f%%%s", float64(f.ExpectedNs)/1e6, float64(f.MeasuredNs)/1e6, 100*f.Error, mark)
}

func caseText(c generatorCase) string {
	switch {
	case c.Problem() != "":
		return "off"
	case c.Runs > 1:
		return fmt.Sprintf("ok (median of %d)", c.Runs)
	}
	return "ok"
}

func (t *terminal) printLag(r *generatorReport) error {
	if r.Ceiling == nil {
		return nil
	}
	fmt.Fprintf(t.stdout, "schedule lag, tcp frame; ceiling %.0f requests/s (the %s is the limit)\n", r.Ceiling.PerSecond, r.Ceiling.Limiter())
	table := tabwriter.NewWriter(t.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "arrivals\tof the ceiling\toffered/s\tachieved\tlag p50\tp99\tp99.9\tof it queueing\ta bare spinning thread's p99.9\t")
	for _, row := range r.Lag {
		mark := "ok"
		if row.Late() {
			mark = "late"
		}
		fmt.Fprintf(table, "%s\t%.0f%%\t%.0f\t%.2f%%\t%v\t%v\t%v\t%v\t%v\t%s\n", row.Arrival, 100*row.Share, row.OfferedPerS, 100*row.AchievedPerS/row.OfferedPerS,
			shortly(row.LagNs[0]), shortly(row.LagNs[1]), shortly(row.LagNs[2]), shortly(row.QueueingNs[2]), shortly(row.Floor.LagNs[2]), mark)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	return nil
}

func shortly(ns int64) time.Duration { return time.Duration(ns).Round(100 * time.Nanosecond) }

// statusLine shows what is under way on standard error: one line that changes
// on a terminal, a line each elsewhere, nothing when quiet.
type statusLine struct {
	out  io.Writer
	live bool
}

func newStatusLine(term *terminal) *statusLine {
	if term.quiet {
		return &statusLine{out: io.Discard}
	}
	return &statusLine{out: term.stderr, live: width(term.stderr) > 0}
}

func (l *statusLine) show(format string, args ...any) {
	if l.live {
		fmt.Fprintf(l.out, "\r\x1b[K"+format, args...)
		return
	}
	fmt.Fprintf(l.out, format+"\n", args...)
}

func (l *statusLine) end() {
	if l.live {
		fmt.Fprint(l.out, "\r\x1b[K")
	}
}
