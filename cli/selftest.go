package cli

import (
	"github.com/spf13/cobra"
)

// newSelftest is the parent of the tests that the instrument makes of itself on
// this machine's real clock. Each is a command in a file of its own.
func newSelftest(term *terminal) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "selftest",
		Short: "Test the instrument itself on this machine: what it says against what is known",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(selftests(term)...)
	return cmd
}

// selftests lists the children; adding one is adding a line.
func selftests(term *terminal) []*cobra.Command {
	return []*cobra.Command{
		newSelftestStages(term), newStageServer(), newStageHog(),
		newSelftestGenerator(term), newSelftestGates(term), newSelftestStatistics(term),
		newSelftestOverhead(term),
	}
}
