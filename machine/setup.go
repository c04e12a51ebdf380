package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"
)

// SetupOptions says what Setup is to provide.
type SetupOptions struct {
	Needs    []string  // capability ids of the lab that is to run
	Purposes []Purpose // what else the user wants to do; running needs none
	DryRun   bool      // say what would be done, do nothing
	Out      io.Writer // what it does, in words, before it does it; nil: silent
	In       io.Reader // for sudo's password; nil: none can be asked for
	Doctor   DoctorOptions
}

// Step is one command that Setup runs.
type Step struct {
	Why     string   `json:"why"`
	Command []string `json:"command"`
	Done    bool     `json:"done"`
}

// SetupReport is what Setup did, or would do in a dry run.
type SetupReport struct {
	Present []string `json:"present"` // capability ids that were there already
	Steps   []Step   `json:"steps"`
}

// SetupError says what could not be provided; it is exit code 3 of the design.
type SetupError struct {
	Packages []string // names on this system, or likely names
	Command  string   // what to run by hand; empty where no one command does it
	Err      error
}

// Error names the packages and the command to run by hand.
func (e *SetupError) Error() string {
	s := "can't install " + strings.Join(e.Packages, ", ")
	if len(e.Packages) == 0 {
		s = "can't set this machine up"
	}
	s += ": " + e.Err.Error()
	if e.Command != "" {
		s += "\n  by hand: " + e.Command
	}
	return s
}

// Unwrap returns the cause.
func (e *SetupError) Unwrap() error { return e.Err }

// ExitCode is 3.
func (e *SetupError) ExitCode() int { return 3 }

// system is what Setup acts on.
type system struct {
	root  fs.FS
	path  string // where programs are looked for
	euid  int
	now   func() time.Time
	needs func(ctx context.Context, ids []string) ([]Missing, error)
	run   func(ctx context.Context, argv []string) (output string, err error)
}

// Setup provides what is missing and no more. It says each command before it
// runs it, changes nothing when all is there, and can be repeated after any
// interruption. Errors are *MissingError (this machine can't) and *SetupError
// (the packages could not be had); both mean exit code 3.
func Setup(ctx context.Context, options SetupOptions) (SetupReport, error) {
	if options.Out == nil {
		options.Out = io.Discard
	}
	s := system{
		root: hostRoot(),
		path: os.Getenv("PATH"),
		euid: os.Geteuid(),
		now:  time.Now,
		needs: func(ctx context.Context, ids []string) ([]Missing, error) {
			return Needs(ctx, ids, options.Doctor)
		},
		run: func(ctx context.Context, argv []string) (string, error) {
			return runCommand(ctx, argv, options.In, options.Out)
		},
	}
	return s.setup(ctx, options)
}

func met(needs int) string {
	if needs == 1 {
		return "the one need is met"
	}
	return fmt.Sprintf("all %d needs are met", needs)
}

func (s system) setup(ctx context.Context, options SetupOptions) (SetupReport, error) {
	out := options.Out
	if out == nil {
		out = io.Discard
	}
	wanted, mounts, report, err := s.survey(ctx, options)
	if err != nil {
		return report, err
	}
	if len(wanted) == 0 && len(mounts) == 0 {
		fmt.Fprintln(out, "setup: nothing to install, "+met(len(report.Present)))
		return report, nil
	}
	for _, t := range wanted {
		fmt.Fprintf(out, "setup: missing %s (%s)\n", t.Name, t.Costs)
	}
	plan, err := s.plan(wanted, mounts)
	if err != nil {
		return report, err
	}
	report.Steps = plan
	for _, step := range plan {
		fmt.Fprintf(out, "setup: will run  %s   (%s)\n", strings.Join(step.Command, " "), step.Why)
	}
	if options.DryRun {
		fmt.Fprintln(out, "setup: dry run, nothing was changed")
		return report, nil
	}
	if err := s.execute(ctx, &report, wanted, out); err != nil {
		return report, err
	}
	return report, s.verify(wanted)
}

// survey finds out what is missing of what is asked for.
func (s system) survey(ctx context.Context, options SetupOptions) (wanted []Tool, mounts []Missing, report SetupReport, err error) {
	report = SetupReport{Present: []string{}, Steps: []Step{}}
	missing, err := s.needs(ctx, options.Needs)
	if err != nil {
		return nil, nil, report, fmt.Errorf("look at what is missing: %w", err)
	}
	lacking := map[string]bool{}
	var hopeless []Missing
	for _, m := range missing {
		lacking[m.ID] = true
		t, isTool := toolByID(m.ID)
		switch {
		case isTool:
			wanted = append(wanted, t)
		case mountCommands[m.ID] != nil:
			mounts = append(mounts, m)
		default:
			hopeless = append(hopeless, m)
		}
	}
	if len(hopeless) > 0 {
		return nil, nil, report, &MissingError{Missing: hopeless}
	}
	for _, id := range options.Needs {
		if !lacking[id] {
			report.Present = append(report.Present, id)
		}
	}
	located := locateTools(s.root, s.path)
	for _, t := range tools {
		if !slices.Contains(options.Purposes, t.Purpose) || lacking[t.ID] || slices.Contains(options.Needs, t.ID) {
			continue
		}
		if located[t.ID] != "" {
			report.Present = append(report.Present, t.ID)
			continue
		}
		wanted = append(wanted, t)
	}
	return wanted, mounts, report, nil
}

// mountCommands provide the file systems that a lab may name in its needs.
var mountCommands = map[string][]string{
	"tracefs": {"mount", "-t", "tracefs", "nodev", "/sys/kernel/tracing"},
	"bpffs":   {"mount", "-t", "bpf", "bpffs", "/sys/fs/bpf"},
}

// plan turns what is missing into commands, with sudo where it is needed and
// there.
func (s system) plan(wanted []Tool, mounts []Missing) ([]Step, error) {
	var steps []Step
	if len(wanted) > 0 {
		install, err := s.planInstall(wanted)
		if err != nil {
			return nil, err
		}
		steps = install
	}
	for _, m := range mounts {
		steps = append(steps, Step{Why: "the lab needs " + m.ID, Command: mountCommands[m.ID]})
	}
	if s.euid == 0 {
		return steps, nil
	}
	var byHand []string
	for i := range steps {
		byHand = append(byHand, strings.Join(steps[i].Command, " "))
		steps[i].Command = withSudo(steps[i].Command)
	}
	if s.find("sudo") == "" {
		return nil, &SetupError{Packages: debianPackages(wanted), Command: "as root: " + strings.Join(byHand, " && "),
			Err: errors.New("this needs root, and sudo is not on PATH")}
	}
	return steps, nil
}

func (s system) planInstall(wanted []Tool) ([]Step, error) {
	release := readOSRelease(s.root)
	packages := debianPackages(wanted)
	if packageFamily(release) != familyDebian || s.find("apt-get") == "" {
		var names []string
		for _, t := range wanted {
			names = append(names, t.Other)
		}
		return nil, &SetupError{Packages: names, Err: fmt.Errorf("setup installs on Debian-like systems only, and this is %s: install them with its package manager (names are likely ones)",
			distroName(release))}
	}
	var steps []Step
	if dpkgInterrupted(s.root) {
		steps = append(steps, Step{Why: "an earlier installation was interrupted", Command: []string{"dpkg", "--configure", "-a"}})
	}
	if aptListsOld(s.root, s.now()) {
		steps = append(steps, Step{Why: "the package lists are missing or older than a day", Command: aptUpdate()})
	}
	return append(steps, Step{Why: "what is missing", Command: aptInstall(packages)}), nil
}

func distroName(release map[string]string) string {
	for _, key := range []string{"PRETTY_NAME", "NAME", "ID"} {
		if release[key] != "" {
			return release[key]
		}
	}
	return "an unnamed system"
}

func debianPackages(wanted []Tool) []string {
	var packages []string
	for _, t := range wanted {
		for _, p := range t.Debian {
			if !slices.Contains(packages, p) {
				packages = append(packages, p)
			}
		}
	}
	return packages
}

// find looks a program up on the system's path.
func (s system) find(name string) string {
	return locate(s.root, Tool{Commands: []string{name}}, s.path)
}

// execute runs the steps. When the install fails over stale lists that were
// not fetched in this call, it fetches them and tries once more.
func (s system) execute(ctx context.Context, report *SetupReport, wanted []Tool, out io.Writer) error {
	updated := false
	for i := range report.Steps {
		step := &report.Steps[i]
		updated = updated || slices.Contains(step.Command, "update")
		err := s.step(ctx, step.Command, out)
		if errors.Is(err, errNoPackage) && !updated && slices.Contains(step.Command, "install") {
			updated = true
			fmt.Fprintln(out, "setup: the lists don't know them all; fetching new ones")
			if err = s.step(ctx, asCommand(step.Command, aptUpdate()), out); err == nil {
				err = s.step(ctx, step.Command, out)
			}
		}
		if err != nil {
			return &SetupError{Packages: debianPackages(wanted), Command: strings.Join(step.Command, " "), Err: err}
		}
		step.Done = true
	}
	return nil
}

// withSudo passes the environment on by env(1): sudo drops it by default.
func withSudo(argv []string) []string {
	return append(append([]string{"sudo", "env"}, commandEnv...), argv...)
}

// asCommand gives argv the sudo that like has.
func asCommand(like, argv []string) []string {
	if like[0] == "sudo" {
		return withSudo(argv)
	}
	return argv
}

func (s system) step(ctx context.Context, argv []string, out io.Writer) error {
	fmt.Fprintf(out, "setup: $ %s\n", strings.Join(argv, " "))
	output, err := s.run(ctx, argv)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted; run setup again to go on: %w", ctx.Err())
	}
	return aptFailure(output, fmt.Errorf("%s: %w", argv[0], err))
}

// verify looks again: a command that ends well may still not have brought it.
func (s system) verify(wanted []Tool) error {
	for _, t := range wanted {
		if locate(s.root, t, s.path) == "" {
			return &SetupError{Packages: t.Debian, Err: fmt.Errorf("they are installed, and %s is still not found on PATH", strings.Join(append(t.Commands, t.Files...), " or "))}
		}
	}
	return nil
}
