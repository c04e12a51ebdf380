package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nexuscore-labs/nexus/bpf"
	"github.com/nexuscore-labs/nexus/bpf/stageprobe"
	"github.com/nexuscore-labs/nexus/labs"
	"github.com/nexuscore-labs/nexus/machine"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/scenarios"
)

// runFlags are the flags of nexus run.
type runFlags struct {
	mode      string
	sets      []string
	runsDir   string
	resume    string
	noProbes  bool
	reference string
	faults    map[string]string
	watch     bool
}

func newRun(term *terminal) *cobra.Command {
	var flags runFlags
	cmd := &cobra.Command{
		Use:   "run day07 | scenario.yaml",
		Short: "Run a lab and judge it",
		Long: "Run a lab: every contender in a process of its own, in paired trials; then the oracle,\n" +
			"the checks and the verdict. An interrupted run keeps its finished trials and continues\n" +
			"with --resume. Progress goes to standard error.",
		Example: "  nexus run day07\n  nexus run day07 --mode full\n  nexus run scenarios/day07/writers.yaml --set workload.tenants=1000",
		Args:    cobra.MaximumNArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return labNames(), cobra.ShellCompDirectiveDefault
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			result, err := run(cmd.Context(), term, flags, args)
			if err != nil {
				return err
			}
			return term.verdict(result)
		},
	}
	cmd.Flags().StringVar(&flags.mode, "mode", scenarios.ModeQuick, "quick (about a minute) or full (about ten)")
	cmd.Flags().StringArrayVar(&flags.sets, "set", nil, "override a value of the scenario, path=value; may be repeated")
	cmd.Flags().StringVar(&flags.runsDir, "out", "runs", "folder that gets the run's own folder")
	cmd.Flags().StringVar(&flags.resume, "resume", "", "continue the interrupted run in this folder")
	flags.addBuilds(cmd)
	cmd.Flags().BoolVar(&flags.watch, "watch", false, "show the run as nexus watch does")
	cmd.Flags().BoolVar(&flags.noProbes, "no-probes", false, "run without kernel probes")
	return cmd
}

// faultOf reads name=value as --fault does.
func faultOf(text string) (map[string]string, error) {
	name, value, found := strings.Cut(text, "=")
	if !found || name == "" {
		return nil, usagef("a fault has the form name=value, not %q", text)
	}
	return map[string]string{name: value}, nil
}

// addBuilds adds the flags that put another build beside this one.
func (f *runFlags) addBuilds(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.reference, "reference", "", "binary of another build of nexus, to measure in the same rounds")
	cmd.Flags().StringToStringVar(&f.faults, "fault", nil, "plant a regression in this build's subject, to see that it is found: append_delay=200ns")
}

// run does one whole run, writes its report and returns its result.
func run(ctx context.Context, term *terminal, flags runFlags, args []string) (*reports.Result, error) {
	scenario, err := scenarioOf(flags, args)
	if err != nil {
		return nil, err
	}
	lab, err := labs.ByDay(scenario.Day)
	if err != nil {
		return nil, err
	}
	found, err := environment(ctx)
	if err != nil {
		return nil, err
	}
	options := scenarios.Options{
		Lab:         lab,
		Scenario:    scenario,
		RunsDir:     flags.runsDir,
		Resume:      flags.resume,
		Command:     commandLine(scenario),
		Reference:   flags.reference,
		Faults:      flags.faults,
		Environment: found,
		Ceilings:    useCalibration(term, &found),
	}
	options.Environment = found
	if !flags.noProbes {
		suite := openProbes(&options)
		if suite != nil {
			defer suite.Close()
		}
		if probe := openStages(&options); probe != nil {
			defer probe.Close()
		}
	} else {
		options.NotMeasured = append(options.NotMeasured, "kernel probes: switched off with --no-probes")
	}
	dismiss, err := startReaper()
	if err != nil {
		return nil, codeError{err, exitEnvironment}
	}
	defer dismiss()
	view, err := flags.view(term, scenario)
	if err != nil {
		return nil, err
	}
	folder := ""
	options.Progress = func(e scenarios.Event) {
		if e.Folder != "" {
			folder = e.Folder
		}
		view.event(e)
	}
	result, err := scenarios.Run(ctx, options)
	view.close()
	if err != nil {
		return nil, err
	}
	if result.Environment.Emulated() {
		result.Warnings = append(result.Warnings, reports.EmulatedWarning)
	}
	if err := reports.WriteAll(folder, result); err != nil {
		return nil, codeError{fmt.Errorf("write the report: %w", err), exitEnvironment}
	}
	remember(term, filepath.Dir(folder), result)
	return result, term.printResult(folder, result)
}

// scenarioOf finds and reads the scenario that the arguments name.
func scenarioOf(flags runFlags, args []string) (*scenarios.Scenario, error) {
	if flags.mode != scenarios.ModeQuick && flags.mode != scenarios.ModeFull {
		return nil, usagef("unknown mode %q: use quick or full", flags.mode)
	}
	if flags.resume != "" {
		if len(args) > 0 || len(flags.sets) > 0 {
			return nil, usagef("--resume goes on with the interrupted run's own scenario; leave out %s", strings.Join(append(args, flags.sets...), " "))
		}
		return scenarios.LoadResumed(flags.resume)
	}
	if len(args) == 0 {
		return nil, usagef("which lab? try: nexus run day07 (nexus list shows all)")
	}
	if isFile(args[0]) {
		if _, err := os.Stat(args[0]); errors.Is(err, os.ErrNotExist) {
			// Outside of the project's folder its own files are built in.
			if text, err := scenarios.BuiltIn(args[0]); err == nil {
				return scenarios.Parse(args[0], text, flags.mode, flags.sets)
			}
		}
		return scenarios.Load(args[0], flags.mode, flags.sets)
	}
	lab, err := labs.ByName(args[0])
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(lab.Scenario); err == nil {
		return scenarios.Load(lab.Scenario, flags.mode, flags.sets)
	}
	// Outside of the project's folder the scenario that was built in serves.
	text, err := scenarios.BuiltIn(lab.Scenario)
	if err != nil {
		return nil, err
	}
	return scenarios.Parse(lab.Scenario, text, flags.mode, flags.sets)
}

// isFile tells a scenario file from a lab's name.
func isFile(name string) bool {
	return strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml")
}

// environment is the machine's fingerprint; its disk is the one that holds the
// contenders' data.
func environment(ctx context.Context) (reports.Environment, error) {
	dir, err := machine.TempBase()
	if err != nil {
		return reports.Environment{}, codeError{err, exitEnvironment}
	}
	found, err := machine.Fingerprint(ctx, dir)
	if err != nil {
		return reports.Environment{}, codeError{fmt.Errorf("look at this machine: %w", err), exitEnvironment}
	}
	return reports.Environment(found), nil
}

// openProbes attaches the kernel probes; what can't be attached is noted in
// the options as not measured, and never ends the run.
func openProbes(options *scenarios.Options) *bpf.Suite {
	suite, err := bpf.Open(bpf.Options{})
	if err != nil {
		options.NotMeasured = append(options.NotMeasured, "kernel probes: "+err.Error())
		return nil
	}
	options.Probes = suite
	options.NotMeasured = append(options.NotMeasured, suite.Missing()...)
	return suite
}

// openStages loads the probe that points with stages need.
func openStages(options *scenarios.Options) *stageprobe.Probe {
	if !options.Scenario.AsksForStages() {
		return nil
	}
	probe, err := stageprobe.Open(stageprobe.Options{})
	if err != nil {
		options.NotMeasured = append(options.NotMeasured, "stages of a request: "+err.Error())
		return nil
	}
	options.Stages = probe
	return probe
}

// commandLine repeats a run.
func commandLine(s *scenarios.Scenario) string {
	words := []string{"nexus", "run", s.Path, "--mode", s.Mode}
	for _, set := range s.Sets {
		words = append(words, "--set", shellQuote(set))
	}
	return strings.Join(words, " ")
}

func shellQuote(word string) string {
	if !strings.ContainsAny(word, " \t'\"\\$`&|;<>()*?[]{}~!#") {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// view is how the run is shown on standard error.
func (f *runFlags) view(term *terminal, scenario *scenarios.Scenario) (progressView, error) {
	if f.watch && !term.quiet && isScreen(term.stderr) {
		return newWatchView(term.stderr)
	}
	return newProgress(term, scenario), nil
}
