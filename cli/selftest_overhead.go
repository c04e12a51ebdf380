package cli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/nexuscore-labs/nexus/bpf"
	"github.com/nexuscore-labs/nexus/labs"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/scenarios"
	"github.com/nexuscore-labs/nexus/scenarios/toggle"
)

// injected is what the planted probe holds up each system call for. At Day 7's
// headline point a record takes about 0.04 system calls, so that a microsecond is
// some 2 or 3% of the log's CPU time.
var injected = []time.Duration{0, time.Microsecond, 3 * time.Microsecond, 9 * time.Microsecond}

// recovery is one planted cost and what was found of it.
type recovery struct {
	InjectedNs   int64            `json:"injected_ns"` // per system call
	KnownRatio   float64          `json:"known_ratio"` // 1 + what the planted probe spent by its own clock, over the CPU time without it
	Found        reports.Interval `json:"found"`       // by throwing the switch
	CPUNsPerOp   float64          `json:"cpu_ns_per_op"`
	KnownNsPerOp float64          `json:"known_ns_per_op"`
	Recovered    bool             `json:"recovered"`
}

func newSelftestOverhead(term *terminal) *cobra.Command {
	length := 8 * time.Second
	cmd := &cobra.Command{
		Use:   "overhead",
		Short: "Plant a probe of a known cost and look whether the overhead measurement finds it",
		Long: `Plant a probe of a known cost and look whether the overhead measurement finds it.

A BPF program holds up each system call of Day 7's log under its headline load, and adds up
by its own clock what it spent. The measurement that every report's probe overhead comes from
has to find the same. A find counts as failed when it misses by more than twice its interval.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return selftestOverhead(cmd.Context(), term, length)
		},
	}
	cmd.Flags().DurationVar(&length, "length", length, "measured time per planted cost")
	return cmd
}

func selftestOverhead(ctx context.Context, term *terminal, length time.Duration) error {
	if length < time.Second || length > 10*time.Minute {
		return usagef("--length %s: want 1s to 10m", length)
	}
	dismiss, err := startReaper()
	if err != nil {
		return codeError{err, exitEnvironment}
	}
	defer dismiss()
	var found []recovery
	missed := 0
	for _, perCall := range injected {
		if !term.quiet {
			fmt.Fprintf(term.stderr, "holding up each system call for %s\n", perCall)
		}
		r, err := recoverCost(ctx, perCall, length)
		if err != nil {
			return err
		}
		if !r.Recovered {
			missed++
		}
		found = append(found, r)
	}
	if err := term.printRecoveries(found); err != nil {
		return err
	}
	if missed > 0 {
		return codeError{fmt.Errorf("%d of %d planted costs were not found", missed, len(found)), exitFail}
	}
	return nil
}

// recoverCost runs one trial in which a probe that spins is switched on and off.
func recoverCost(ctx context.Context, perCall, length time.Duration) (recovery, error) {
	r := recovery{InjectedNs: perCall.Nanoseconds()}
	spin, err := bpf.OpenSpin(perCall)
	if err != nil {
		return r, codeError{err, exitEnvironment}
	}
	defer spin.Close()
	scenario, lab, err := costScenario(length)
	if err != nil {
		return r, err
	}
	dir, err := os.MkdirTemp("", "nexus-overhead")
	if err != nil {
		return r, codeError{err, exitEnvironment}
	}
	defer os.RemoveAll(dir)
	result, err := scenarios.Run(ctx, scenarios.Options{Lab: lab, Scenario: scenario, RunsDir: dir, Probes: spin})
	if err != nil {
		return r, err
	}
	for i := range result.Trials {
		if cost := result.Trials[i].ProbeCost; cost != nil && result.Trials[i].Status == "ok" && cost.Accounted != nil {
			return r.of(cost), nil
		}
	}
	for i := range result.Trials {
		if reason := result.Trials[i].Reason; reason != "" {
			err = errors.Join(err, errors.New(reason))
		}
	}
	return r, codeError{fmt.Errorf("no valid trial with a planted cost of %s: %w", perCall, err), exitInvalid}
}

func (r recovery) of(cost *reports.ProbeCost) recovery {
	var ratios []float64
	for _, p := range cost.Switched {
		ratios = append(ratios, p.CPU)
	}
	r.Found = toggle.Effect(ratios)
	r.KnownRatio, r.CPUNsPerOp = cost.Accounted.Ratio(), cost.Accounted.CPUNsPerOp
	r.KnownNsPerOp = (r.KnownRatio - 1) * r.CPUNsPerOp
	miss := math.Abs(r.Found.Center - r.KnownRatio)
	r.Recovered = r.Found.Valid() && miss <= r.Found.Hi-r.Found.Lo
	return r
}

// costScenario is Day 7's, with nothing left but its trial that costs the probes.
func costScenario(length time.Duration) (*scenarios.Scenario, *scenarios.Lab, error) {
	lab, err := labs.ByDay(7)
	if err != nil {
		return nil, nil, err
	}
	text, err := scenarios.BuiltIn(lab.Scenario)
	if err != nil {
		return nil, nil, err
	}
	s, err := scenarios.Parse(lab.Scenario, text, scenarios.ModeQuick, nil)
	if err != nil {
		return nil, nil, err
	}
	s.Checks, s.Thresholds = nil, nil
	for i := range s.Points {
		if s.Points[i].ID == s.Overhead.Point {
			s.Points = s.Points[i : i+1]
			break
		}
	}
	s.Points[0].Contenders, s.Points[0].Trials = []string{s.Overhead.Contender}, 1
	s.Overhead.Trials, s.Overhead.Duration = 1, length
	return s, lab, nil
}

func (t *terminal) printRecoveries(found []recovery) error {
	if t.json {
		return t.printJSON(found)
	}
	fmt.Fprintf(t.stdout, "%-22s %14s %18s %22s  %s\n", "held up per call", "planted", "planted, of CPU", "found (95% CI)", "")
	for _, r := range found {
		word := "found"
		if !r.Recovered {
			word = "MISSED"
		}
		percent := func(ratio float64) float64 { return 100 * (ratio - 1) }
		fmt.Fprintf(t.stdout, "%-22s %11.1f ns %17.2f%% %21s  %s\n", time.Duration(r.InjectedNs), r.KnownNsPerOp, percent(r.KnownRatio),
			fmt.Sprintf("%.2f%% (%.2f to %.2f)", percent(r.Found.Center), percent(r.Found.Lo), percent(r.Found.Hi)), word)
	}
	return nil
}
