package cli

import (
	"context"
	"fmt"
	"os"

	"github.com/nexuscore-labs/nexus/reports"
)

// roundsScenario is what the rounds of a recording are runs of.
const roundsScenario = "scenarios/day07/rounds.yaml"

// recordGates makes runs of this binary against a copy of itself, and of the log
// and its baseline, in turn, and keeps what the gate would look at.
func recordGates(ctx context.Context, term *terminal, path string, runs int) error {
	const runsMax = 100
	if runs < 2 || runs > runsMax {
		return usagef("--record-runs %d is not between 2 and %d", runs, runsMax)
	}
	self, err := os.Executable()
	if err != nil {
		return codeError{fmt.Errorf("find the own binary: %w", err), exitEnvironment}
	}
	dir, err := os.MkdirTemp("", "nexus-selftest-")
	if err != nil {
		return codeError{fmt.Errorf("make a folder for the runs: %w", err), exitEnvironment}
	}
	defer os.RemoveAll(dir)
	pairs := gateFlags{scenario: referenceScenario(7), run: runFlags{mode: "quick", runsDir: dir, noProbes: true, reference: self}}
	rounds := gateFlags{scenario: roundsScenario, run: runFlags{mode: "quick", runsDir: dir, noProbes: true}}
	var recordings *reports.GateRecordings
	for range runs {
		result, err := pairs.newRun(ctx, term)
		if err != nil {
			return err
		}
		if recordings == nil {
			recordings = reports.NewGateRecordings(result.Environment)
		}
		if err := recordings.AddPairs(result, "seglog", "saturation"); err != nil {
			return codeError{err, exitInvalid}
		}
		if result, err = rounds.newRun(ctx, term); err != nil {
			return err
		}
		if err := recordings.AddRounds(result, "seglog", "fsync-append", "saturation"); err != nil {
			return codeError{err, exitInvalid}
		}
	}
	text, err := recordings.Encode()
	if err != nil {
		return codeError{err, exitEnvironment}
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return codeError{fmt.Errorf("write the recordings: %w", err), exitEnvironment}
	}
	return nil
}
