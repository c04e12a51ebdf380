package cli

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/nexuscore-labs/nexus/reports"
)

func newCompare(term *terminal) *cobra.Command {
	var options reports.CompareOptions
	var htmlPath, markdownPath string
	cmd := &cobra.Command{
		Use:   "compare A B [C…]",
		Short: "What changed from one run to others, with intervals and verdict words",
		Long: "Compare the first run with each of the others. Runs of unlike machines, scenarios or\n" +
			"schema versions are refused, with the fields that differ; --force compares them all the same.",
		Args: cobra.MinimumNArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			comparisons, err := compareAll(args, options)
			if err != nil {
				return err
			}
			if term.json {
				if err := term.printJSON(comparisons); err != nil {
					return err
				}
			}
			for _, c := range comparisons {
				if term.json {
					break
				}
				if err := c.Terminal(term.stdout, term.options()); err != nil {
					return err
				}
			}
			return writeComparisons(comparisons, htmlPath, markdownPath)
		},
	}
	cmd.Flags().BoolVar(&options.Force, "force", false, "compare results of unlike machines or scenarios too")
	cmd.Flags().Float64Var(&options.MinEffect, "min-effect", reports.DefaultMinEffect, "relative change that matters")
	cmd.Flags().Float64Var(&options.Alpha, "alpha", reports.DefaultAlpha, "chance of any false alarm in the whole table")
	cmd.Flags().StringVar(&htmlPath, "html", "", "also write a page with overlaid curves to this file")
	cmd.Flags().StringVar(&markdownPath, "markdown", "", "also write the table as Markdown to this file")
	return cmd
}

// compareAll compares the first run with each of the others.
func compareAll(paths []string, options reports.CompareOptions) ([]*reports.Comparison, error) {
	var runs []*reports.Result
	for _, path := range paths {
		_, result, err := loadRun([]string{path})
		if err != nil {
			return nil, err
		}
		runs = append(runs, result)
	}
	var comparisons []*reports.Comparison
	for _, other := range runs[1:] {
		comparison, err := reports.Compare(runs[:1], []*reports.Result{other}, options)
		if err != nil {
			return nil, compareError(err)
		}
		comparisons = append(comparisons, comparison)
	}
	return comparisons, nil
}

// compareError gives a comparison that can't be made its exit code: runs that can't
// be trusted, or runs that were chosen wrongly.
func compareError(err error) error {
	var invalid *reports.InvalidRunError
	var unlike *reports.UnlikeError
	switch {
	case errors.As(err, &invalid):
		return codeError{err, exitInvalid}
	case errors.As(err, &unlike):
		return codeError{fmt.Errorf("%w\n  --force compares them nevertheless, as when the scenario is what was changed", err), exitUsage}
	}
	return codeError{err, exitUsage}
}

// writeComparisons writes all comparisons as one page and one text.
func writeComparisons(comparisons reports.Comparisons, htmlPath, markdownPath string) error {
	if markdownPath != "" {
		if err := writeOutput(markdownPath, comparisons.Markdown()); err != nil {
			return err
		}
	}
	if htmlPath == "" {
		return nil
	}
	page, err := comparisons.HTML()
	if err != nil {
		return err
	}
	return writeOutput(htmlPath, page)
}

// writeOutput writes a file that the user asked for.
func writeOutput(path string, text []byte) error {
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return codeError{fmt.Errorf("write the output: %w", err), exitEnvironment}
	}
	return nil
}
