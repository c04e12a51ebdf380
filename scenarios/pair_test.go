package scenarios

import (
	"os"
	"strings"
	"testing"

	"github.com/nexuscore-labs/nexus/reports"
)

// Both builds of a pair must have their trial in every round, at the same time.
func TestRunOfTwoBuilds(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	result, err := runTest(t, Options{Scenario: testScenario("honest"), Reference: self})
	if err != nil {
		t.Fatal(err)
	}
	var began [2]map[int]reports.Trial
	began[0], began[1] = map[int]reports.Trial{}, map[int]reports.Trial{}
	for _, trial := range result.Trials {
		if trial.Status == trialFailed {
			t.Errorf("%s at %s failed: %s", trial.Contender, trial.Point, trial.Reason)
		}
		side := 0
		if strings.HasSuffix(trial.Point, ReferenceSuffix) {
			side = 1
		}
		began[side][trial.Round] = trial
	}
	if len(began[0]) != 5 || len(began[1]) != 5 {
		t.Fatalf("%d and %d rounds, want 5 of each build", len(began[0]), len(began[1]))
	}
	for round, trial := range began[0] {
		if other := began[1][round]; trial.Order == other.Order || trial.Order/2 != other.Order/2 {
			t.Errorf("round %d: the trials of a pair have the places %d and %d", round, trial.Order, other.Order)
		}
	}
}

func TestReferenceMustBeAProgram(t *testing.T) {
	for _, options := range []Options{
		{Scenario: testScenario("honest"), Reference: "no/such/file"},
		{Scenario: testScenario("honest"), Reference: t.TempDir()},
	} {
		if _, err := runTest(t, options); ExitCode(nil, err) != ExitUsage {
			t.Errorf("%q: %v", options.Reference, err)
		}
	}
}
