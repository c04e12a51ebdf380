package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nexuscore-labs/nexus/labs"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/scenarios"
)

// gateFlags are the flags of nexus gate.
type gateFlags struct {
	day                     string
	baseline                string
	update                  bool
	reason                  string
	junitPath, markdownPath string
	run                     runFlags
	scenario                string // of the runs that the gate makes; empty: the lab's
	options                 reports.GateOptions
}

func newGate(term *terminal) *cobra.Command {
	var flags gateFlags
	cmd := &cobra.Command{
		Use:   "gate [run…]",
		Short: "For CI: fail on a confirmed regression against the committed baseline",
		Long: "Compare runs with the baseline in reports/baselines/. Without runs it makes one, and further\n" +
			"ones to confirm before it says red. Ratios subject/baseline are compared on any machine,\n" +
			"absolute numbers only on the baseline's. Whatever is missing, empty, invalid or stale fails.\n\n" +
			"With --reference it compares two builds instead: both serve at the same time, pair by pair,\n" +
			"which finds far smaller regressions than any committed number can (docs/MEASURING.md).\n\n" +
			"Exit codes: 0 no regression, 1 regression confirmed, 2 the baseline or a run can't be used,\n" +
			"5 a run is invalid, a regression is suspected and not confirmed, or it is too noisy to tell.",
		Example: "  nexus gate --day day07\n  nexus gate runs/A runs/B --markdown summary.md --junit gate.xml\n  nexus gate --update --reason 'the log now syncs twice' --day day07",
		RunE: func(cmd *cobra.Command, args []string) error {
			return flags.gate(cmd.Context(), term, args)
		},
	}
	cmd.Flags().StringVar(&flags.day, "day", "day07", "the lab to gate")
	cmd.Flags().StringVar(&flags.baseline, "baseline", "", "baseline file (default: the lab's below reports/baselines)")
	cmd.Flags().BoolVar(&flags.update, "update", false, "make these runs, or a new one, the baseline")
	cmd.Flags().StringVar(&flags.reason, "reason", "", "with --update: why the baseline changes")
	cmd.Flags().StringVar(&flags.junitPath, "junit", "", "write JUnit XML to this file")
	cmd.Flags().StringVar(&flags.markdownPath, "markdown", "", "write a summary for a pull request to this file")
	cmd.Flags().StringVar(&flags.run.mode, "mode", scenarios.ModeQuick, "size of the runs that the gate makes")
	cmd.Flags().StringVar(&flags.run.runsDir, "out", "runs", "folder for the runs that the gate makes")
	flags.run.addBuilds(cmd)
	cmd.Flags().StringArrayVar(&flags.run.sets, "set", nil, "override a value of the scenario")
	cmd.Flags().Float64Var(&flags.options.MinEffect, "min-effect", 0, fmt.Sprintf("relative change that matters (default %g; %g with --reference)", reports.DefaultGateMinEffect, reports.ReferenceMinEffect))
	return cmd
}

func (f *gateFlags) gate(ctx context.Context, term *terminal, args []string) error {
	lab, err := labs.ByName(f.day)
	if err != nil {
		return err
	}
	if f.run.reference != "" {
		return f.gateReference(ctx, term, lab, args)
	}
	if f.update && (strings.TrimSpace(f.reason) == "" || len(f.run.faults) > 0) {
		return usagef("--update needs --reason, which says why the old baseline no longer holds, and no --fault")
	}
	path := f.baseline
	if path == "" {
		path = reports.BaselinePath(".", lab.Day)
	}
	if len(args) > 0 && !f.update {
		runs, err := f.runs(ctx, term, args)
		if err != nil {
			return f.failed(lab.Day, err)
		}
		if reports.HasReference(runs[0]) {
			return f.judgeReference(ctx, term, lab.Day, runs, false)
		}
	}
	var baseline *reports.Baseline
	if !f.update { // before a run is made for nothing
		if baseline, err = reports.LoadBaseline(path); err != nil {
			return f.failed(lab.Day, codeError{err, exitUsage})
		}
	}
	runs, err := f.runs(ctx, term, args)
	if err != nil {
		return f.failed(lab.Day, err)
	}
	if f.update {
		if err := reports.UpdateBaseline(path, runs, f.reason); err != nil {
			return codeError{err, exitUsage}
		}
		fmt.Fprintf(term.stderr, "the baseline is now %s: commit it\n", path)
		return nil
	}
	report, err := f.decide(ctx, term, func(runs []*reports.Result) (*reports.GateReport, error) {
		return reports.Decide(baseline, runs, time.Now(), f.options)
	}, runs, len(args) == 0)
	if err != nil {
		return f.failed(lab.Day, err)
	}
	return f.print(term, report)
}

// runs are those that the arguments name, or a new one.
func (f *gateFlags) runs(ctx context.Context, term *terminal, args []string) ([]*reports.Result, error) {
	if len(args) == 0 {
		result, err := f.newRun(ctx, term)
		return []*reports.Result{result}, err
	}
	var runs []*reports.Result
	for _, arg := range args {
		_, result, err := loadRun([]string{arg})
		if err != nil {
			return nil, err
		}
		runs = append(runs, result)
	}
	return runs, nil
}

func (f *gateFlags) newRun(ctx context.Context, term *terminal) (*reports.Result, error) {
	progress := *term
	progress.stdout = term.stderr // the gate's own output has standard output
	progress.json = false
	if f.scenario != "" {
		return run(ctx, &progress, f.run, []string{f.scenario})
	}
	return run(ctx, &progress, f.run, []string{f.day})
}

// referenceScenario is what two builds are compared by.
func referenceScenario(day int) string { return fmt.Sprintf("scenarios/day%02d/gate.yaml", day) }

// decider judges runs: against a baseline, or against the other build in them.
type decider func(runs []*reports.Result) (*reports.GateReport, error)

// gateReference compares this build with the one that --reference names.
func (f *gateFlags) gateReference(ctx context.Context, term *terminal, lab *scenarios.Lab, args []string) error {
	if f.update || f.baseline != "" || len(args) > 0 {
		return usagef("--reference makes its own runs and has no baseline file: leave out --update, --baseline and the runs")
	}
	f.scenario = referenceScenario(lab.Day)
	f.run.noProbes = true // they would cost both builds the same, and time
	runs, err := f.runs(ctx, term, nil)
	if err != nil {
		return f.failed(lab.Day, err)
	}
	return f.judgeReference(ctx, term, lab.Day, runs, true)
}

// judgeReference decides over runs of two builds.
func (f *gateFlags) judgeReference(ctx context.Context, term *terminal, day int, runs []*reports.Result, mayRun bool) error {
	report, err := f.decide(ctx, term, func(runs []*reports.Result) (*reports.GateReport, error) {
		return reports.DecideReference(runs, time.Now(), f.options)
	}, runs, mayRun)
	if err != nil {
		return f.failed(day, err)
	}
	return f.print(term, report)
}

// decide judges, and runs again while the gate wants confirmation and may.
func (f *gateFlags) decide(ctx context.Context, term *terminal, decide decider, runs []*reports.Result, mayRun bool) (*reports.GateReport, error) {
	for {
		report, err := decide(runs)
		var known coded
		if errors.As(err, &known) {
			return nil, err
		}
		if err != nil {
			return nil, codeError{err, exitUsage}
		}
		if report.Verdict != reports.GateRerun || !mayRun {
			return report, nil
		}
		fmt.Fprintln(term.stderr, "a regression is suspected: running again to confirm it")
		again, err := f.newRun(ctx, term)
		if err != nil {
			return nil, err
		}
		runs = append(runs, again)
	}
}

// failed leaves a JUnit file that says error, so that no CI takes its absence
// for success.
func (f *gateFlags) failed(day int, cause error) error {
	if f.junitPath == "" {
		return cause
	}
	text, err := reports.JUnitError(day, cause)
	if err == nil {
		err = writeOutput(f.junitPath, text)
	}
	return errors.Join(cause, err)
}

func (f *gateFlags) print(term *terminal, report *reports.GateReport) error {
	if err := f.writeFiles(report); err != nil {
		return err
	}
	var err error
	if term.json {
		err = term.printJSON(report)
	} else {
		err = report.Terminal(term.stdout, term.options())
	}
	if err != nil {
		return err
	}
	switch report.Verdict {
	case reports.GatePass:
		return nil
	case reports.GateFail:
		return verdictError{exitFail}
	default:
		return verdictError{exitInvalid}
	}
}

func (f *gateFlags) writeFiles(report *reports.GateReport) error {
	if f.markdownPath != "" {
		if err := writeOutput(f.markdownPath, report.Markdown()); err != nil {
			return err
		}
	}
	if err := appendStepSummary(report.Markdown()); err != nil {
		return err
	}
	if f.junitPath == "" {
		return nil
	}
	text, err := report.JUnit()
	if err != nil {
		return err
	}
	return writeOutput(f.junitPath, text)
}

// appendStepSummary shows the decision on the page of a GitHub workflow's run,
// where there is one.
func appendStepSummary(text []byte) error {
	path := os.Getenv("GITHUB_STEP_SUMMARY")
	if path == "" {
		return nil
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return codeError{fmt.Errorf("write the step's summary: %w", err), exitEnvironment}
	}
	_, err = file.Write(append(text, '\n'))
	if err = errors.Join(err, file.Close()); err != nil {
		return codeError{fmt.Errorf("write the step's summary: %w", err), exitEnvironment}
	}
	return nil
}
