package cli

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/nexuscore-labs/nexus/reports"
)

// historyName is the history's file in the folder of the runs.
const historyName = "history.jsonl"

func newTrend(term *terminal) *cobra.Command {
	var history, page string
	var imported bool
	var options reports.TrendOptions
	cmd := &cobra.Command{
		Use:   "trend",
		Short: "How the runs changed over time, with the points where they did",
		Long: "Every valid run appends its medians to runs/history.jsonl. This shows each as a line, and where\n" +
			"its mean changed (E-divisive means, by permutation). It reports and judges nothing: exit code 0.",
		Example: "  nexus trend\n  nexus trend --import runs/*\n  nexus trend --html trend.html",
		RunE: func(_ *cobra.Command, args []string) error {
			if imported {
				if err := importRuns(term, history, args); err != nil {
					return err
				}
			} else if len(args) > 0 {
				return usagef("trend takes runs only with --import")
			}
			entries, broken, err := reports.LoadHistory(history)
			if err != nil {
				return codeError{err, exitUsage}
			}
			trend, err := reports.NewTrend(entries, broken, options)
			if err != nil {
				return codeError{err, exitUsage}
			}
			if page != "" {
				text, err := trend.HTML()
				if err != nil {
					return err
				}
				if err := writeOutput(page, text); err != nil {
					return err
				}
			}
			if term.json {
				return term.printJSON(trend)
			}
			return trend.Terminal(term.stdout, term.options())
		},
	}
	cmd.Flags().StringVar(&history, "history", filepath.Join("runs", historyName), "the history's file")
	cmd.Flags().StringVar(&page, "html", "", "write a page with charts to this file")
	cmd.Flags().BoolVar(&imported, "import", false, "first add the runs that the arguments name")
	cmd.Flags().Float64Var(&options.Alpha, "alpha", 0.01, "largest p-value of a change")
	cmd.Flags().Float64Var(&options.MinEffect, "min-effect", reports.DefaultMinEffect, "smallest relative change to show")
	return cmd
}

// importRuns adds finished runs to the history; those that cannot be in one are
// named and left out.
func importRuns(term *terminal, history string, args []string) error {
	if len(args) == 0 {
		return usagef("--import needs the folders of runs: runs/*")
	}
	var entries []*reports.HistoryEntry
	for _, arg := range args {
		if filepath.Base(arg) == historyName {
			continue // runs/* names it too
		}
		_, result, err := loadRun([]string{arg})
		var entry *reports.HistoryEntry
		if err == nil {
			entry, err = reports.NewHistoryEntry(result)
		}
		if err != nil {
			fmt.Fprintf(term.stderr, "left out: %s: %v\n", arg, err)
			continue
		}
		entries = append(entries, entry)
	}
	added, err := reports.AppendHistory(history, entries...)
	if err != nil {
		return codeError{err, exitEnvironment}
	}
	fmt.Fprintf(term.stderr, "%d runs added to %s\n", added, history)
	return nil
}

// remember appends a run to the history beside it. A run that can't be in one
// is no error; a history that can't be written is said, and the run stands.
func remember(term *terminal, runsDir string, result *reports.Result) {
	entry, err := reports.NewHistoryEntry(result)
	if err != nil {
		return
	}
	if _, err := reports.AppendHistory(filepath.Join(runsDir, historyName), entry); err != nil {
		fmt.Fprintf(term.stderr, "nexus: the run is not in the history: %v\n", err)
	}
}
