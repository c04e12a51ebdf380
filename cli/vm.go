package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/nexuscore-labs/nexus/labs"
	"github.com/nexuscore-labs/nexus/scenarios"
	"github.com/nexuscore-labs/nexus/vagrant"
	"github.com/nexuscore-labs/nexus/vagrant/guest"
	"github.com/nexuscore-labs/nexus/vagrant/qemu"
)

// vmFlags are what every command that boots a machine takes.
type vmFlags struct {
	kernel    string
	memoryMiB int
	cpus      int
	timeout   time.Duration
	accel     string
}

const (
	vmMemoryMiBMin = 256
	vmMemoryMiBMax = 256 << 10
	vmDiskMiB      = 4 << 10 // sparse
)

func (f *vmFlags) register(cmd *cobra.Command, memoryMiB int, timeout time.Duration) {
	cmd.Flags().StringVar(&f.kernel, "kernel", "6.12", "a kernel of the matrix; nexus vm list shows them")
	cmd.Flags().IntVar(&f.memoryMiB, "memory", memoryMiB, "memory of the machine, MiB")
	cmd.Flags().IntVar(&f.cpus, "cpus", 1, "processors of the machine; an emulated kernel with several may panic when it patches its own code")
	cmd.Flags().DurationVar(&f.timeout, "timeout", timeout, "how long the machine may work once it is up")
	cmd.Flags().StringVar(&f.accel, "accel", "", "kvm or tcg; default: KVM where a probe runs a guest with it, else emulation (tcg)")
}

func (f *vmFlags) validate() error {
	switch {
	case f.memoryMiB < vmMemoryMiBMin || f.memoryMiB > vmMemoryMiBMax:
		return usagef("--memory %d is not between %d and %d MiB", f.memoryMiB, vmMemoryMiBMin, vmMemoryMiBMax)
	case f.cpus < 1 || f.cpus > 64:
		return usagef("--cpus %d is not between 1 and 64", f.cpus)
	case f.timeout <= 0 || f.timeout > 24*time.Hour:
		return usagef("--timeout %v is not between 0 and a day", f.timeout)
	case f.accel != "" && f.accel != "kvm" && f.accel != "tcg":
		return usagef("--accel %q: use kvm or tcg", f.accel)
	}
	return nil
}

// machine is the part of a machine's options that the flags decide. It fetches
// the kernel.
func (f *vmFlags) machine(ctx context.Context, term *terminal) (qemu.Options, error) {
	if err := f.validate(); err != nil {
		return qemu.Options{}, err
	}
	entry, err := vagrant.ByName(f.kernel)
	if err != nil {
		return qemu.Options{}, err
	}
	kernel, err := qemu.Fetch(ctx, entry, term.say)
	if err != nil {
		return qemu.Options{}, err
	}
	self, err := os.Executable()
	if err != nil {
		return qemu.Options{}, codeError{fmt.Errorf("find the own binary: %w", err), exitEnvironment}
	}
	return qemu.Options{Kernel: kernel, Binary: self, MemoryMiB: f.memoryMiB, CPUs: f.cpus, DiskMiB: vmDiskMiB,
		Timeout: f.timeout, Accel: f.accel, Hello: term.machineIsUp}, nil
}

// say writes a line of progress.
func (t *terminal) say(line string) {
	if !t.quiet {
		fmt.Fprintln(t.stderr, "vm: "+line)
	}
}

func (t *terminal) machineIsUp(r qemu.Report) {
	how := "emulated (" + r.Accel + "): its speed says nothing about this machine's"
	if !r.Emulated() {
		how = "under " + r.Accel
	}
	t.say(fmt.Sprintf("kernel %s is up after %.1f s, %s", r.Release, float64(r.BootMs)/1000, how))
}

func newVM(term *terminal) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "vm",
		Short: "Another kernel, in a light virtual machine",
		Long: "Boot a kernel of the matrix in QEMU, with this binary as its first process. It needs no image\n" +
			"and no network but the package archive of this system, which has the kernels.",
	}
	cmd.AddCommand(newVMList(term), newVMRun(term), newVMShell(term), newVMTest(term), newVMPowerCut(term))
	return cmd
}

// listedKernel is one kernel as nexus vm list shows it.
type listedKernel struct {
	vagrant.Kernel
	Cached string `json:"cached,omitempty"` // the release that lies in the cache
	Ways   string `json:"ways"`
}

func newVMList(term *terminal) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "The kernels of the matrix, and how each can be had",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			kernels, err := vagrant.Kernels()
			if err != nil {
				return err
			}
			var listed []listedKernel
			for _, k := range kernels {
				entry := listedKernel{Kernel: k, Ways: "vagrant up " + k.Machine}
				if cached, found := qemu.Cached(k); found {
					entry.Cached = cached.Release
				}
				if k.Package != "" {
					entry.Ways = "nexus vm, " + entry.Ways
				}
				listed = append(listed, entry)
			}
			if term.json {
				return term.printJSON(listed)
			}
			table := tabwriter.NewWriter(term.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(table, "KERNEL\tBY\tIN THE CACHE\tENABLES")
			for _, k := range listed {
				cached := k.Cached
				if cached == "" {
					cached = "-"
				}
				fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", k.Name, k.Ways, cached, k.Enables)
			}
			return table.Flush()
		},
	}
}

// vmRun is what nexus vm run --json prints.
type vmRun struct {
	qemu.Report
	Runs string `json:"runs,omitempty"` // folder that got what the machine sent back
}

func newVMRun(term *terminal) *cobra.Command {
	var flags vmFlags
	var day int
	var mode, out string
	var sets []string
	var form string
	cmd := &cobra.Command{
		Use:   "run [-- command args]",
		Short: "Run a lab, or any command of the machine, on another kernel",
		Long: "Boot the kernel, run the lab (--day) or the command, and bring back its output, its exit code\n" +
			"and, of a lab, its run folder. The speed of a virtual machine is not this machine's: the report\n" +
			"says so, and compare and gate refuse it.",
		Example: "  nexus vm run --kernel 6.12 --day 7\n  nexus vm run --kernel 6.1 -- nexus doctor",
		RunE: func(cmd *cobra.Command, args []string) error {
			if form != formAuto && form != formSmall && form != formWhole {
				return usagef("unknown form %q: use auto, small or whole", form)
			}
			if _, err := vmCommand(day, mode, form == formSmall, sets, args); err != nil {
				return err
			}
			options, err := flags.machine(cmd.Context(), term)
			if err != nil {
				return err
			}
			small := form == formSmall || form == formAuto && term.smallFits(cmd.Context(), options, day, sets)
			command, err := vmCommand(day, mode, small, sets, args)
			if err != nil {
				return err
			}
			command.TimeoutMs = flags.timeout.Milliseconds()
			options.Request.Commands = []guest.Command{command}
			options.Stdout, options.Stderr = term.stdout, term.stderr
			if term.json {
				options.Stdout = term.stderr
			}
			if day != 0 {
				options.Request.Collect, options.Collect = vmRuns, out
			}
			return term.vmRun(cmd.Context(), options)
		},
	}
	flags.register(cmd, 2048, 20*time.Minute)
	cmd.Flags().Var(dayValue{&day}, "day", "run this day's lab")
	cmd.Flags().StringVar(&mode, "mode", scenarios.ModeQuick, "quick or full")
	cmd.Flags().StringVar(&form, "form", formAuto, "of the lab: whole, or small for emulated machines (every answer is checked, no speed judged); auto: what fits")
	cmd.Flags().StringArrayVar(&sets, "set", nil, "override a value of the scenario, path=value; may be repeated")
	cmd.Flags().StringVar(&out, "out", "runs", "folder that gets the run's own folder")
	return cmd
}

// Forms of a lab in a virtual machine.
const (
	formAuto  = "auto"
	formSmall = "small"
	formWhole = "whole"
)

// smallFits reports whether a lab runs in its small form because the machine
// will be emulated, and says so. Overrides belong to the whole form.
func (t *terminal) smallFits(ctx context.Context, options qemu.Options, day int, sets []string) bool {
	if day == 0 || len(sets) > 0 {
		return false
	}
	if _, err := scenarios.BuiltIn(smallScenario(day)); err != nil {
		return false
	}
	accel, why := qemu.Accel(ctx, options)
	if accel != qemu.AccelTCG {
		return false
	}
	if why == "" {
		why = "--accel " + accel
	}
	t.say("the machine will be emulated (" + why + "): the lab's small form runs; --form whole runs all of it")
	return true
}

func smallScenario(day int) string { return fmt.Sprintf("scenarios/day%02d/emulated.yaml", day) }

// vmRuns is where a lab's run folder appears in the machine.
const vmRuns = guest.DataDir + "/runs"

func vmCommand(day int, mode string, small bool, sets, args []string) (guest.Command, error) {
	switch {
	case day != 0 && len(args) > 0:
		return guest.Command{}, usagef("either --day or a command, not both")
	case day == 0 && len(args) == 0:
		return guest.Command{}, usagef("which lab? try: nexus vm run --kernel 6.12 --day 7")
	case day == 0 && (small || len(sets) > 0):
		return guest.Command{}, usagef("--set and --form belong to --day")
	case day == 0:
		if args[0] == "nexus" {
			args = append([]string{guest.BinaryPath}, args[1:]...)
		}
		return guest.Command{Name: args[0], Args: args, Dir: guest.DataDir}, nil
	}
	if mode != scenarios.ModeQuick && mode != scenarios.ModeFull {
		return guest.Command{}, usagef("unknown mode %q: use quick or full", mode)
	}
	lab, err := labs.ByDay(day)
	if err != nil {
		return guest.Command{}, err
	}
	name := fmt.Sprintf("day%02d", lab.Day)
	scenario := name
	if small {
		scenario = smallScenario(lab.Day)
		if _, err := scenarios.BuiltIn(scenario); err != nil {
			return guest.Command{}, usagef("day %d has no small form", lab.Day)
		}
	}
	words := []string{guest.BinaryPath, "run", scenario, "--mode", mode, "--out", vmRuns}
	for _, set := range sets {
		words = append(words, "--set", set)
	}
	return guest.Command{Name: name, Args: words, Dir: guest.DataDir}, nil
}

func (t *terminal) vmRun(ctx context.Context, options qemu.Options) error {
	dismiss, err := startReaper()
	if err != nil {
		return codeError{err, exitEnvironment}
	}
	defer dismiss()
	report, err := qemu.Run(ctx, options)
	if err != nil {
		return vmError(ctx, err)
	}
	if t.json {
		if err := t.printJSON(vmRun{report, options.Collect}); err != nil {
			return err
		}
	}
	if options.Collect != "" {
		if folder, err := newestRun(options.Collect, ""); err == nil {
			t.say("the paths above are the machine's own; here the report is " + filepath.Join(folder, reportFile))
		}
	}
	return exitOf(report)
}

// vmError gives an interruption its usual end.
func vmError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return codeError{fmt.Errorf("interrupted: %w", err), exitInterrupted}
	}
	var known coded
	if errors.As(err, &known) {
		return err
	}
	return codeError{err, exitEnvironment}
}

// exitInterrupted is what a shell reports of a command that SIGINT ended.
const exitInterrupted = 130

// exitOf passes the last command's end on.
func exitOf(report qemu.Report) error {
	if len(report.Exits) == 0 {
		return codeError{errors.New("the machine ran no command"), exitContender}
	}
	last := report.Exits[len(report.Exits)-1]
	switch {
	case last.TimedOut:
		return codeError{fmt.Errorf("the command did not end within the time that --timeout gives it"), exitContender}
	case last.Signal != "":
		return codeError{fmt.Errorf("the command was ended by a signal: %s", last.Signal), exitContender}
	case last.Code != 0:
		return verdictError{last.Code}
	}
	return nil
}

func newVMShell(term *terminal) *cobra.Command {
	var flags vmFlags
	cmd := &cobra.Command{
		Use:   "shell",
		Short: "A shell on another kernel, to look around; exit or Ctrl-A X ends it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			options, err := flags.machine(cmd.Context(), term)
			if err != nil {
				return err
			}
			options.Request.Shell = true
			if _, err := qemu.Run(cmd.Context(), options); err != nil {
				return vmError(cmd.Context(), err)
			}
			return nil
		},
	}
	flags.register(cmd, 2048, 12*time.Hour)
	return cmd
}

// newVMInit and newVMGuest are this binary inside of the machine.
func newVMInit() *cobra.Command {
	return &cobra.Command{Use: guest.InitCommand, Hidden: true, Args: cobra.ArbitraryArgs,
		RunE: func(*cobra.Command, []string) error { return codeError{guest.Init(), exitUsage} }}
}

func newVMGuest() *cobra.Command {
	return &cobra.Command{Use: guest.RunCommand, Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := guest.Run(cmd.Context()); err != nil {
				return codeError{err, exitContender}
			}
			return nil
		}}
}

// matrixKernels are the names of the kernels that make matrix proves.
func matrixKernels() ([]string, error) {
	kernels, err := vagrant.Kernels()
	if err != nil {
		return nil, err
	}
	kernels = slices.DeleteFunc(kernels, func(k vagrant.Kernel) bool { return !k.Matrix })
	var names []string
	for _, k := range kernels {
		names = append(names, k.Name)
	}
	return names, nil
}
