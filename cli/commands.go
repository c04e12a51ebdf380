package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/nexuscore-labs/nexus/bpf"
	"github.com/nexuscore-labs/nexus/labs"
	"github.com/nexuscore-labs/nexus/labs/day07"
	"github.com/nexuscore-labs/nexus/labs/day10"
	"github.com/nexuscore-labs/nexus/machine"
	"github.com/nexuscore-labs/nexus/scenarios"
	"github.com/nexuscore-labs/nexus/systems/projection/tenancy"
	"github.com/nexuscore-labs/nexus/systems/seglog/crashtest"
	"github.com/nexuscore-labs/nexus/systems/surreal"
)

// labNames completes lab arguments.
func labNames() []string {
	var names []string
	for _, lab := range labs.All() {
		names = append(names, fmt.Sprintf("day%02d\t%s", lab.Day, lab.Title))
	}
	return names
}

// listedLab is one lab as nexus list shows it.
type listedLab struct {
	Day        int               `json:"day"`
	Title      string            `json:"title"`
	Question   string            `json:"question"`
	Scenario   string            `json:"scenario"`
	Needs      []string          `json:"needs"` // findings of nexus doctor
	Contenders []listedContender `json:"contenders"`
}

type listedContender struct {
	Name       string `json:"name"`
	Role       string `json:"role"`
	Doc        string `json:"doc"`
	Durability string `json:"durability"`
	Version    string `json:"version"`
}

func newList(term *terminal) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "The labs and their contenders",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			var listed []listedLab
			for _, lab := range labs.All() {
				entry := listedLab{Day: lab.Day, Title: lab.Title, Question: lab.Question, Scenario: lab.Scenario, Needs: lab.Needs}
				for _, c := range lab.Contenders {
					entry.Contenders = append(entry.Contenders, listedContender{c.Name, c.Role, c.Doc, c.Durability, c.Version()})
				}
				listed = append(listed, entry)
			}
			if term.json {
				return term.printJSON(listed)
			}
			return term.printLabs(listed)
		},
	}
}

func (t *terminal) printLabs(listed []listedLab) error {
	for _, lab := range listed {
		fmt.Fprintf(t.stdout, "day%02d  %s\n       %s\n", lab.Day, lab.Title, lab.Question)
		if len(lab.Needs) > 0 {
			fmt.Fprintf(t.stdout, "       needs: %s\n", strings.Join(lab.Needs, ", "))
		}
		table := tabwriter.NewWriter(t.stdout, 0, 0, 2, ' ', 0)
		for _, c := range lab.Contenders {
			fmt.Fprintf(table, "       %s\t%s\t%s\n", c.Name, c.Role, c.Doc)
		}
		if err := table.Flush(); err != nil {
			return fmt.Errorf("write the list: %w", err)
		}
	}
	return nil
}

func newDoctor(term *terminal) *cobra.Command {
	var dir string
	var all bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "What this machine can run and measure, what each gap costs, and what fixes it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			findings, err := machine.Doctor(cmd.Context(), machine.DoctorOptions{Dir: dir, Probers: []machine.Prober{probeBPF, probeCeilings}})
			if err != nil {
				return codeError{fmt.Errorf("look at this machine: %w", err), exitEnvironment}
			}
			proposeKernel(findings)
			if term.json {
				return machine.WriteFindingsJSON(term.stdout, findings)
			}
			return machine.RenderFindings(term.stdout, findings, machine.RenderOptions{Color: colour(term.stdout), Width: width(term.stdout), Verbose: all})
		},
	}
	cmd.Flags().StringVar(&dir, "dir", ".", "the folder that runs write to")
	cmd.Flags().BoolVar(&all, "all", false, "show every operation and type, not only groups")
	return cmd
}

// missingCosts says what the absence of a BPF program kind costs. Kinds that
// are not here are used by no lab yet.
var missingCosts = map[string]string{
	"tp_btf":         "probes fall to raw tracepoints",
	"raw_tracepoint": "probes fall to classic tracepoints",
	"fentry":         "probes use tp_btf instead, at about the same cost",
	"fexit":          "probes use tp_btf instead, at about the same cost",
	"kprobe":         "the last rung of the probes' ladder is gone; the ones above serve",
	"perf_event":     "no perf counters",
}

// probeBPF tries every BPF program type and attach kind.
func probeBPF(context.Context) []machine.Finding {
	var findings []machine.Finding
	for _, s := range bpf.ProbeSupport() {
		f := machine.Finding{ID: "bpf." + strings.ReplaceAll(s.Name, " ", "_"), Group: "BPF", Title: s.Name, Status: machine.OK}
		if s.Err != nil {
			f.Status = machine.Absent
			f.Detail = s.Err.Error()
			f.Costs = missingCosts[s.Name]
			if f.Costs == "" {
				f.Costs = "nothing that today's labs use"
			}
			f.Fix = "run as root"
			if os.Geteuid() == 0 {
				f.Fix = kernelFor(f.Title)
			}
		}
		findings = append(findings, f)
	}
	return findings
}

// purposes are what nexus setup --for accepts, and what each stands for.
var purposes = map[string][]machine.Purpose{
	"run":       nil,
	"generate":  {machine.ForGenerate},
	"reports":   {machine.ForReports},
	"calibrate": {machine.ForCalibrate},
	"vm":        {machine.ForVM},
	"vagrant":   {machine.ForVagrant},
	"cdc":       {machine.ForCDC},
	"ci":        {machine.ForRun, machine.ForGenerate, machine.ForCalibrate, machine.ForVM, machine.ForCDC},
}

func newSetup(term *terminal) *cobra.Command {
	var day int
	var purpose string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Install what a day needs from the system's packages",
		Long: "Install what is missing through the system's package manager, and nothing else. It says\n" +
			"what it does before it does it, and does nothing the second time.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			wanted, known := purposes[purpose]
			if !known {
				return usagef("unknown purpose %q: use run, generate, reports, calibrate, vm, vagrant, cdc or ci", purpose)
			}
			options := machine.SetupOptions{
				Purposes: wanted, DryRun: dryRun, Out: term.stderr, In: os.Stdin,
				Doctor: machine.DoctorOptions{Probers: []machine.Prober{probeBPF}},
			}
			if day != 0 {
				lab, err := labs.ByDay(day)
				if err != nil {
					return err
				}
				options.Needs = slices.Concat(lab.Needs, lab.Tools)
			}
			report, err := machine.Setup(cmd.Context(), options)
			// What needs npm needs it for SurrealDB's engine.
			if err == nil && !dryRun && (slices.Contains(wanted, machine.ForCDC) || slices.Contains(options.Needs, "tool.npm")) {
				err = surreal.Install(cmd.Context(), term.stderr)
			}
			if term.json {
				err = errors.Join(err, term.printJSON(report))
			}
			return err
		},
	}
	cmd.Flags().Var(dayValue{&day}, "day", "what this day needs to run")
	cmd.Flags().StringVar(&purpose, "for", "run", "run (a day), generate (BPF and Wasm from source), reports (a browser to look at them), calibrate (wrk and fio, to compare the generator with), vm (QEMU), vagrant, cdc (day 20's store), ci (all that CI uses)")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would be installed")
	return cmd
}

func newClean(term *terminal) *cobra.Command {
	var options machine.CleanOptions
	cmd := &cobra.Command{
		Use:   "clean",
		Short: "Remove what killed runs left behind, and only that",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !term.json {
				options.Out = term.stdout
			}
			report, err := machine.Clean(cmd.Context(), options)
			if term.json {
				return errors.Join(err, term.printJSON(report))
			}
			if err == nil && len(report.Removed)+len(report.Kept) == 0 && !term.quiet {
				fmt.Fprintln(term.stdout, nothingLeft(report.Live))
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&options.DryRun, "dry-run", false, "only show what would go")
	return cmd
}

// nothingLeft says that there is nothing to remove, with what must stay.
func nothingLeft(live int) string {
	switch live {
	case 0:
		return "nothing left behind"
	case 1:
		return "nothing left behind (1 thing belongs to a live run)"
	}
	return fmt.Sprintf("nothing left behind (%d things belong to live runs)", live)
}

func newSchema(term *terminal) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "JSON Schema of scenario files, for editors",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			text, err := scenarios.Schema()
			if err != nil {
				return err
			}
			_, err = term.stdout.Write(text)
			return err
		},
	}
}

// newCrashChild is the process that a kill trial of Day 7 kills.
func newCrashChild() *cobra.Command {
	return &cobra.Command{
		Use:                day07.CrashChildCommand,
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			if code := crashtest.ChildMain(args); code != exitPass {
				return verdictError{code}
			}
			return nil
		},
	}
}

// newTenantChild is one tenant's process, for the comparison of Day 10.
func newTenantChild() *cobra.Command {
	return &cobra.Command{
		Use:    day10.TenantChildCommand,
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if code := tenancy.ChildMain(); code != exitPass {
				return verdictError{code}
			}
			return nil
		},
	}
}

func newServe() *cobra.Command {
	return &cobra.Command{
		Use:                "serve",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			day, err := scenarios.ServeDay(args)
			if err != nil {
				return err
			}
			lab, err := labs.ByDay(day)
			if err != nil {
				return err
			}
			return scenarios.ServeChild(cmd.Context(), lab, args)
		},
	}
}
