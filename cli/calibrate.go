package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/nexuscore-labs/nexus/loadgen/ceiling"
	"github.com/nexuscore-labs/nexus/loadgen/honesty"
	"github.com/nexuscore-labs/nexus/machine"
	"github.com/nexuscore-labs/nexus/reports"
)

// calibrateFlags are the flags of nexus calibrate.
type calibrateFlags struct {
	duration    time.Duration
	runs        int
	against     string
	connections []int
	pairs       int
}

// comparisons are what --against accepts, each in a file of its own.
var comparisons = map[string]func(context.Context, *terminal, calibrateFlags) error{
	"fio": calibrateAgainstFio,
	"wrk": calibrateAgainstWrk,
}

const (
	calibrateTimeMax = time.Minute
	calibrateRunsMax = 100
)

func newCalibrate(term *terminal) *cobra.Command {
	var flags calibrateFlags
	cmd := &cobra.Command{
		Use:   "calibrate",
		Short: "The most that the load generator can do here, per transport",
		Long: "Measure the generator's ceiling: verified requests per second of its CPU time against a server\n" +
			"that answers at once, over every transport and codec, one request at a time per connection and\n" +
			"16. The figures are kept for this machine and binary; nexus run holds its targets against them.\n\n" +
			"With --against wrk, compare with wrk on the same HTTP server instead: pairs in alternating order;\n" +
			"with --against fio, with fio on the same file.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := flags.check(); err != nil {
				return err
			}
			if flags.against != "" {
				return comparisons[flags.against](cmd.Context(), term, flags)
			}
			return calibrate(cmd.Context(), term, flags)
		},
	}
	cmd.Flags().DurationVar(&flags.duration, "duration", 500*time.Millisecond, "of each measurement")
	cmd.Flags().IntVar(&flags.runs, "runs", 2, "measurements of each point; the best counts")
	cmd.Flags().StringVar(&flags.against, "against", "", "compare with this program instead: "+strings.Join(comparisonNames(), ", "))
	cmd.Flags().IntSliceVar(&flags.connections, "connections", []int{64, 128, 256}, "with --against wrk: how many")
	cmd.Flags().IntVar(&flags.pairs, "pairs", 6, "with --against: measurements of each side")
	return cmd
}

func comparisonNames() []string {
	var names []string
	for name := range comparisons {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (f calibrateFlags) check() error {
	switch {
	case f.duration <= 0 || f.duration > calibrateTimeMax:
		return usagef("--duration %v: want above 0 and at most %v", f.duration, calibrateTimeMax)
	case f.runs < 1 || f.runs > calibrateRunsMax:
		return usagef("--runs %d: want 1 to %d", f.runs, calibrateRunsMax)
	case f.pairs < 2 || f.pairs > calibrateRunsMax:
		return usagef("--pairs %d: want 2 to %d", f.pairs, calibrateRunsMax)
	case f.against != "" && comparisons[f.against] == nil:
		return usagef("--against %q: want one of %v", f.against, comparisonNames())
	}
	for _, n := range f.connections {
		if n < 1 || n > 4096 {
			return usagef("--connections %d: want 1 to 4096", n)
		}
	}
	return nil
}

func calibrate(ctx context.Context, term *terminal, flags calibrateFlags) error {
	place, err := twoPlaces()
	if err != nil {
		return err
	}
	env, err := environment(ctx)
	if err != nil {
		return err
	}
	key, err := calibrationKey(&env)
	if err != nil {
		return codeError{err, exitEnvironment}
	}
	table := &ceiling.Table{Key: key, MeasuredAt: time.Now().UTC().Truncate(time.Second)}
	if table.Ceilings, table.Doubts, err = measureCeilings(ctx, term, place, flags); err != nil {
		return err
	}
	name, err := table.Save()
	if err != nil {
		return codeError{err, exitEnvironment}
	}
	if term.json {
		return term.printJSON(table)
	}
	if err := printCeilings(term.stdout, table); err != nil {
		return err
	}
	fmt.Fprintf(term.stdout, "\nkept in %s; nexus run warns from %.0f%% of the ceiling on\n", name, 100*ceiling.WarnShare)
	return nil
}

// calibrationKey is what the ceiling depends on: the machine and the binary.
func calibrationKey(env *reports.Environment) (map[string]string, error) {
	plan, err := machine.PlanCPUs()
	if err != nil {
		return nil, err
	}
	key := map[string]string{
		"kernel": env.Kernel, "arch": env.Arch, "cpu_model": env.CPUModel, "cpus": fmt.Sprint(env.CPUs), "governor": env.Governor,
		"virtual": env.Virtual, "generator_cpus": fmt.Sprint(plan.Generator), "go": env.GoVersion, "nexus": env.NexusVersion,
	}
	if machine.Version != "" {
		return key, nil
	}
	// A binary without a version is known by what it is.
	key["binary"], err = ownHash()
	return key, err
}

func ownHash() (string, error) {
	name, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find the own binary: %w", err)
	}
	file, err := os.Open(name)
	if err != nil {
		return "", fmt.Errorf("hash the own binary: %w", err)
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", fmt.Errorf("hash the own binary: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil)[:8]), nil
}

// measureCeilings measures every point and notes what disturbed it.
func measureCeilings(ctx context.Context, term *terminal, place honesty.Place, flags calibrateFlags) (ceilings []ceiling.Ceiling, doubts []string, err error) {
	defer roomForSpinners()()
	watched := []int{place.GeneratorCPU, place.ServerCPU}
	sampler := machine.NewSampler(machine.SamplerOptions{CPUs: watched})
	if err := sampler.Start(); err != nil {
		return nil, nil, codeError{err, exitEnvironment}
	}
	line := newStatusLine(term)
	points := ceiling.Points()
	for i, p := range points {
		line.show("%d of %d: %s", i+1, len(points), p)
		c, measureErr := ceiling.Measure(ctx, p, ceiling.CPUs{Generator: place.GeneratorCPU, Server: place.ServerCPU}, flags.duration, flags.runs)
		if err = measureErr; err != nil {
			break
		}
		ceilings = append(ceilings, c)
	}
	line.end()
	readings, sampleErr := sampler.Stop()
	if err = errors.Join(err, sampleErr); err != nil {
		return nil, nil, drivingError(err)
	}
	wallNs := float64(readings.ElapsedNs) * float64(len(watched))
	m := generatorMachine{
		StealShare: float64(readings.StealOwnNs) / wallNs, OtherLoadShare: float64(readings.OtherLoadNs) / wallNs, Invalid: readings.Invalid,
	}
	return ceilings, m.disturbances(), nil
}

func printCeilings(w io.Writer, t *ceiling.Table) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "transport\tdepth\tper CPU second\tper second, one core\tlimited by\t")
	for _, c := range t.Ceilings {
		fmt.Fprintf(table, "%s %s\t%d\t%.0f\t%.0f\t%s\t\n", c.Network, c.Codec, c.Depth, c.PerCPUSecond, c.PerSecond, c.Limiter())
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	for _, doubt := range t.Doubts {
		fmt.Fprintf(w, "lower than it could be: %s\n", doubt)
	}
	return nil
}

// useCalibration finds this machine's calibration and puts it into the
// fingerprint; nil when there is none that can be used.
func useCalibration(term *terminal, env *reports.Environment) *ceiling.Table {
	key, err := calibrationKey(env)
	var table *ceiling.Table
	if err == nil {
		table, err = ceiling.Load(key)
	}
	if err != nil {
		fmt.Fprintf(term.stderr, "nexus: %v\n", err)
		return nil
	}
	if table != nil {
		env.GeneratorCeilings = table.PerCPUSecond()
	}
	return table
}

// probeCeilings tells nexus doctor of the calibration.
func probeCeilings(ctx context.Context) []machine.Finding {
	f := machine.Finding{ID: "generator.ceiling", Group: "Generator", Title: "not calibrated", Status: machine.Warn,
		Costs: "a target near the generator's ceiling is not noticed before it is reached", Fix: "nexus calibrate"}
	env, err := environment(ctx)
	var key map[string]string
	if err == nil {
		key, err = calibrationKey(&env)
	}
	var table *ceiling.Table
	if err == nil {
		table, err = ceiling.Load(key)
	}
	if err != nil {
		f.Detail = err.Error()
		return []machine.Finding{f}
	}
	if table == nil {
		return []machine.Finding{f}
	}
	f = machine.Finding{ID: f.ID, Group: f.Group, Status: machine.OK, Title: "calibrated " + table.MeasuredAt.Format("2006-01-02 15:04") + " UTC",
		Detail: "requests per CPU second, each in detail with --all"}
	found := []machine.Finding{f}
	for _, c := range table.Ceilings {
		found = append(found, machine.Finding{
			ID: "generator.ceiling." + strings.ReplaceAll(c.Point.String(), " ", "_"), Group: f.Group, Status: machine.OK, Minor: true,
			Title: fmt.Sprintf("%s: %.0f requests per CPU second", c.Point, c.PerCPUSecond),
		})
	}
	return found
}
