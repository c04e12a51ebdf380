package cli

import (
	"context"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/nexuscore-labs/nexus/reports"
)

// What the gate is held to, by its default settings.
const (
	falseAlarmsMax = 0.01
	powerMin       = 0.95
	slowdownFound  = 0.05
)

// gatesReport is what nexus selftest gates says.
type gatesReport struct {
	Trials []reports.GateTrial `json:"trials"`
	Live   []liveComparison    `json:"live"`
	Failed []string            `json:"failed"` // what the default settings don't keep
}

// liveComparison is one gate over runs that were made now.
type liveComparison struct {
	Fault   string              `json:"fault,omitempty"`
	Verdict reports.GateVerdict `json:"verdict"`
	Runs    int                 `json:"runs"`
	Ratio   *reports.Interval   `json:"ratio"` // of the throughput, this build over the other
}

func newSelftestGates(term *terminal) *cobra.Command {
	var quick bool
	var comparisons, live, liveFaults int
	var fault, recordings, record string
	var recordRuns int
	cmd := &cobra.Command{
		Use:   "gates",
		Short: "How often the gate cries when nothing changed, and what slowdown it finds",
		Long: "Comparisons of equal programs, drawn from recorded runs of this project's 2-core machine, go\n" +
			"through the gate's own code, with and without a planted slowdown. --live adds runs made here:\n" +
			"this binary against itself, and with a fault planted in its append path. --record makes\n" +
			"recordings on this machine instead, --recordings draws from such a file: trials that the\n" +
			"defaults were not chosen on.\n\n" +
			"Exit codes: 0 the default settings keep their promise (at most 1% alarms, 5% found 95% of the\n" +
			"time), 1 they don't.",
		Example: "  nexus selftest gates\n  nexus selftest gates --record moods.json && nexus selftest gates --recordings moods.json\n  nexus selftest gates --live 10 --live-faults 3 --fault append_delay=1ns",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if record != "" {
				return recordGates(cmd.Context(), term, record, recordRuns)
			}
			if quick {
				comparisons = min(comparisons, 300)
			}
			report, err := recordedGates(term, recordings, comparisons, quick)
			if err != nil {
				return err
			}
			for i := range live + liveFaults {
				planted := ""
				if i >= live {
					planted = fault
				}
				one, err := liveGate(cmd.Context(), term, planted)
				if err != nil {
					return err
				}
				report.Live = append(report.Live, one)
			}
			return report.print(term)
		},
	}
	cmd.Flags().StringVar(&recordings, "recordings", "", "draw from the recordings in this file, not from this program's own")
	cmd.Flags().StringVar(&record, "record", "", "make recordings here and write them to this file; nothing else is done")
	cmd.Flags().IntVar(&recordRuns, "record-runs", 4, "with --record: runs of pairs, and as many of rounds, two or more")
	cmd.Flags().BoolVar(&quick, "quick", false, "only the default settings, 300 comparisons each")
	cmd.Flags().IntVar(&comparisons, "comparisons", 1000, "recorded comparisons for each line")
	cmd.Flags().IntVar(&live, "live", 0, "gates to run now, of this binary against itself")
	cmd.Flags().IntVar(&liveFaults, "live-faults", 0, "gates to run now with the fault planted")
	cmd.Flags().StringVar(&fault, "fault", "append_delay=1ns", "what --live-faults plants")
	return cmd
}

// designs are the lines of the table.
func designs(comparisons int, quick bool) []reports.GateTrial {
	standard := reports.GateTrial{Reference: true, Trials: reports.ReferencePairs, Alpha: reports.ReferenceAlpha, MinEffect: reports.ReferenceMinEffect, Comparisons: comparisons}
	committed := reports.GateTrial{Trials: 5, Alpha: reports.DefaultAlpha, MinEffect: reports.DefaultGateMinEffect, Comparisons: comparisons}
	var all []reports.GateTrial
	add := func(t reports.GateTrial, slowdowns ...float64) {
		for _, slowdown := range slowdowns {
			t.Slowdown = slowdown
			all = append(all, t)
		}
	}
	if quick {
		add(standard, 0, slowdownFound)
		add(committed, 0, 1)
		return all
	}
	add(standard, 0, 0.03, slowdownFound, 0.10)
	for _, pairs := range []int{10, 20, 80} {
		t := standard
		t.Trials = pairs
		add(t, 0, 0.03, slowdownFound, 0.10)
	}
	for _, alpha := range []float64{0.001, 0.05} {
		t := standard
		t.Alpha = alpha
		add(t, 0, slowdownFound)
	}
	for _, effect := range []float64{0.01, 0.03} {
		t := standard
		t.MinEffect = effect
		add(t, 0, slowdownFound)
	}
	for _, effect := range []float64{0.03, 0.10, 0.20, reports.DefaultGateMinEffect} {
		t := committed
		t.MinEffect = effect
		add(t, 0, slowdownFound, 0.20, 0.50, 1)
	}
	return all
}

func loadRecordings(path string) (*reports.GateRecordings, error) {
	if path == "" {
		return reports.EmbeddedGateRecordings()
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, usagef("--recordings: %v", err)
	}
	recordings, err := reports.ParseGateRecordings(text)
	if err != nil {
		return nil, usagef("--recordings %s: %v", path, err)
	}
	return recordings, nil
}

func recordedGates(term *terminal, path string, comparisons int, quick bool) (*gatesReport, error) {
	recordings, err := loadRecordings(path)
	if err != nil {
		return nil, err
	}
	report := &gatesReport{}
	for i, design := range designs(comparisons, quick) {
		if !term.quiet && width(term.stderr) > 0 {
			fmt.Fprintf(term.stderr, "\rdesign %d", i+1)
		}
		measured, err := recordings.Measure(design, uint64(i)+1)
		if err != nil {
			return nil, fmt.Errorf("design %d: %w", i+1, err)
		}
		report.Trials = append(report.Trials, measured)
		report.hold(&measured)
	}
	if !term.quiet && width(term.stderr) > 0 {
		fmt.Fprint(term.stderr, "\r\033[K")
	}
	return report, nil
}

// hold checks a default design against its promise.
func (g *gatesReport) hold(t *reports.GateTrial) {
	standard := t.Reference && t.Trials == reports.ReferencePairs && t.Alpha == reports.ReferenceAlpha && t.MinEffect == reports.ReferenceMinEffect
	committed := !t.Reference && t.Trials == 5 && t.MinEffect == reports.DefaultGateMinEffect
	switch {
	case (standard || committed) && t.Slowdown == 0 && t.Rate.Center > falseAlarmsMax:
		g.Failed = append(g.Failed, fmt.Sprintf("%s: %d alarms in %d comparisons without a change", design(t), t.Red, t.Comparisons))
	case standard && t.Slowdown == slowdownFound && t.Rate.Center < powerMin:
		g.Failed = append(g.Failed, fmt.Sprintf("%s: %d of %d slowdowns of 5%% found", design(t), t.Red, t.Comparisons))
	}
}

func design(t *reports.GateTrial) string {
	if t.Reference {
		return fmt.Sprintf("two builds, %d pairs", t.Trials)
	}
	return fmt.Sprintf("committed baseline, %d rounds", t.Trials)
}

// liveGate is one gate of this binary against itself, over runs made now.
func liveGate(ctx context.Context, term *terminal, fault string) (liveComparison, error) {
	self, err := os.Executable()
	if err != nil {
		return liveComparison{}, codeError{fmt.Errorf("find the own binary: %w", err), exitEnvironment}
	}
	dir, err := os.MkdirTemp("", "nexus-selftest-")
	if err != nil {
		return liveComparison{}, codeError{fmt.Errorf("make a folder for the runs: %w", err), exitEnvironment}
	}
	defer os.RemoveAll(dir)
	f := gateFlags{day: "day07", scenario: referenceScenario(7)}
	f.run = runFlags{mode: "quick", runsDir: dir, noProbes: true, reference: self}
	if fault != "" {
		if f.run.faults, err = faultOf(fault); err != nil {
			return liveComparison{}, err
		}
	}
	runs, err := f.runs(ctx, term, nil)
	if err != nil {
		return liveComparison{}, err
	}
	report, err := f.decide(ctx, term, func(runs []*reports.Result) (*reports.GateReport, error) {
		return reports.DecideReference(runs, time.Now(), f.options)
	}, runs, true)
	if err != nil {
		return liveComparison{}, err
	}
	return liveComparison{Fault: fault, Verdict: report.Verdict, Runs: report.Runs, Ratio: report.Checks[0].Ratio}, nil
}

func (g *gatesReport) print(term *terminal) error {
	if term.json {
		if err := term.printJSON(g); err != nil {
			return err
		}
	} else if err := g.table(term); err != nil {
		return err
	}
	if len(g.Failed) > 0 {
		return verdictError{exitFail}
	}
	return nil
}

func (g *gatesReport) table(term *terminal) error {
	out := tabwriter.NewWriter(term.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "design\tα\tmin. effect\tslower by\tred\t95% interval\tunsettled\truns")
	for i := range g.Trials {
		t := &g.Trials[i]
		fmt.Fprintf(out, "%s\t%g\t%g%%\t%g%%\t%d/%d\t%.1f%%..%.1f%%\t%d\t%.1f\n", design(t), t.Alpha, 100*t.MinEffect, 100*t.Slowdown, t.Red, t.Comparisons,
			100*t.Rate.Lo, 100*t.Rate.Hi, t.Unsettled, t.Runs)
	}
	for _, l := range g.Live {
		what := "live, no change"
		if l.Fault != "" {
			what = "live, " + l.Fault
		}
		fmt.Fprintf(out, "%s\t\t\t\t%s\tthroughput %.3f (%.3f..%.3f)\t\t%d\n", what, l.Verdict, l.Ratio.Center, l.Ratio.Lo, l.Ratio.Hi, l.Runs)
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	for _, failure := range g.Failed {
		fmt.Fprintf(term.stdout, "✗ %s\n", failure)
	}
	if len(g.Failed) == 0 {
		fmt.Fprintln(term.stdout, "✓ the default settings keep at most 1% alarms and find a slowdown of 5% at least 95% of the time")
	}
	return nil
}
