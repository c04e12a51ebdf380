// Package cli is the nexus command line: commands, flags, terminal output and
// exit codes. What the commands do lives in the packages that it calls.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/nexuscore-labs/nexus/loadgen"
	"github.com/nexuscore-labs/nexus/reports"
)

// Exit codes, the same for every command.
const (
	exitPass        = 0 // all gates passed
	exitFail        = 1 // a gate failed, or a regression was confirmed
	exitUsage       = 2 // the command line or the scenario is wrong
	exitEnvironment = 3 // this machine can't do it; the message says what provides it
	exitContender   = 4 // a contender crashed, hung or answered wrongly
	exitInvalid     = 5 // the measurement can't be trusted
)

// coded is an error that knows its exit code, wherever it was made.
type coded interface{ ExitCode() int }

// codeError gives an error an exit code.
type codeError struct {
	error
	code int
}

func (e codeError) ExitCode() int { return e.code }
func (e codeError) Unwrap() error { return e.error }

// drivingError is the error of a measurement against a server of the project's
// own: its wrong answers are no lack of this machine's.
func drivingError(err error) error {
	if errors.Is(err, loadgen.ErrNotRight) {
		return codeError{err, exitContender}
	}
	return codeError{err, exitEnvironment}
}

// verdictError ends a command whose output already said everything.
type verdictError struct{ code int }

func (e verdictError) Error() string { return fmt.Sprintf("verdict: exit code %d", e.code) }
func (e verdictError) ExitCode() int { return e.code }

// usagef is an error of the command line.
func usagef(format string, args ...any) error {
	return codeError{fmt.Errorf(format, args...), exitUsage}
}

// terminal is where a command's output goes.
type terminal struct {
	stdout, stderr io.Writer
	json           bool // one JSON object on stdout, nothing else
	quiet          bool
}

// Main runs one command line and returns the process's exit code.
func Main(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	term := &terminal{stdout: stdout, stderr: stderr}
	root := newRoot(term)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitPass
	}
	var silent verdictError
	if !errors.As(err, &silent) {
		fmt.Fprintf(stderr, "nexus: %v\n", err)
	}
	return exitCode(err)
}

// exitCode is the code that an error carries; without one the error is the
// command line's (cobra's own errors are of that kind).
func exitCode(err error) int {
	var c coded
	if errors.As(err, &c) {
		return c.ExitCode()
	}
	return exitUsage
}

func newRoot(term *terminal) *cobra.Command {
	root := &cobra.Command{
		Use:   "nexus",
		Short: "Systems lessons as experiments: run, measured in the kernel, judged",
		Long: "nexus builds the designs of the NexusCore lessons as real subsystems, runs them beside\n" +
			"the naive design and well-known peers, and says whether the lesson's claims held here.\n\n" +
			"Exit codes: 0 pass, 1 a gate failed, 2 usage, 3 this machine can't, 4 a contender failed,\n" +
			"5 the measurement is invalid, 130 interrupted.",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().BoolVar(&term.json, "json", false, "print one JSON object on standard output")
	root.PersistentFlags().BoolVarP(&term.quiet, "quiet", "q", false, "no progress")
	root.AddCommand(
		newList(term), newDoctor(term), newSetup(term), newRun(term), newWatch(term), newReport(term),
		newCompare(term), newGate(term), newTrend(term), newVectors(term), newClaims(term), newClean(term), newSchema(term), newSelftest(term), newCalibrate(term),
		newRoute(term), newVM(term), newVMInit(), newVMGuest(), newServe(), newCrashChild(), newTenantChild(), newReap(),
	)
	return root
}

// printJSON writes v as one indented JSON object.
func (t *terminal) printJSON(v any) error {
	encoder := json.NewEncoder(t.stdout)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(v); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}

// width is the terminal's width in columns, 0 when w is not a terminal.
func width(w io.Writer) int {
	file, ok := w.(*os.File)
	if !ok {
		return 0
	}
	columns, _, err := term.GetSize(int(file.Fd()))
	if err != nil {
		return 0
	}
	return columns
}

// plainWidth is for output that is no terminal: a log or a file, where the
// tables should not be cut.
const plainWidth = 132

// options are how reports write to this terminal.
func (t *terminal) options() reports.TerminalOptions {
	columns := width(t.stdout)
	if columns == 0 {
		columns = plainWidth
	}
	return reports.TerminalOptions{Colour: colour(t.stdout), Width: columns}
}

// colour reports whether w takes colour: a terminal, and NO_COLOR unset.
func colour(w io.Writer) bool {
	return width(w) > 0 && os.Getenv("NO_COLOR") == ""
}
