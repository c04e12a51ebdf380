package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nexuscore-labs/nexus/labs"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/scenarios"
)

// resultFile is the result in a run's folder.
const resultFile = "result.json"

// reportFile is written for a run that was finished.
const reportFile = "report.html"

func newReport(term *terminal) *cobra.Command {
	var summaryOnly bool
	var publish string
	cmd := &cobra.Command{
		Use:   "report [run]",
		Short: "Write a run's report again and print its summary",
		Long:  "Write a run's report again from its result.json and print the summary. Without an argument:\nthe newest run below runs/.",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			folder, result, err := loadRun(args)
			if err != nil {
				return err
			}
			if !summaryOnly {
				if err := reports.WriteAll(folder, result); err != nil {
					return codeError{fmt.Errorf("write the report: %w", err), exitEnvironment}
				}
			}
			if publish != "" {
				if err := publishRun(folder, publish, result); err != nil {
					return codeError{err, exitEnvironment}
				}
			}
			return term.printResult(folder, result)
		},
	}
	cmd.Flags().StringVar(&publish, "publish", "", "also copy what is small (Markdown, SVG, the result without its trials) to this folder")
	cmd.Flags().BoolVar(&summaryOnly, "summary", false, "print the summary only, write nothing")
	return cmd
}

// publishRun copies the small parts of a run to a folder that can be committed.
func publishRun(folder, to string, result *reports.Result) error {
	if err := os.MkdirAll(filepath.Join(to, "plots"), 0o755); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	light, err := reports.JSONContract(result)
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	if err := os.WriteFile(filepath.Join(to, resultFile), light, 0o644); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	files := []string{"report.md"}
	plots, err := filepath.Glob(filepath.Join(folder, "plots", "*.svg"))
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	for _, plot := range plots {
		files = append(files, filepath.Join("plots", filepath.Base(plot)))
	}
	for _, name := range files {
		text, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			return fmt.Errorf("publish: %w", err)
		}
		if err := os.WriteFile(filepath.Join(to, name), text, 0o644); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
	}
	return nil
}

// printResult shows a result: JSON or the summary, and where the report is.
func (t *terminal) printResult(folder string, result *reports.Result) error {
	if t.json {
		text, err := reports.JSONContract(result)
		if err != nil {
			return err
		}
		_, err = t.stdout.Write(text)
		return err
	}
	if err := reports.Summary(t.stdout, result, t.options()); err != nil {
		return err
	}
	switch result.Verdict {
	case reports.VerdictInconclusive, reports.VerdictInvalid:
		fmt.Fprintln(t.stdout, "\nThis says nothing against the lab: run it again with nothing else running, or in full mode, which has more trials.")
	}
	fmt.Fprintf(t.stdout, "\nreport: %s\n", filepath.Join(folder, reportFile))
	return nil
}

// verdict turns a result into the command's outcome.
func (t *terminal) verdict(result *reports.Result) error {
	if code := scenarios.ExitCode(result, nil); code != exitPass {
		return verdictError{code}
	}
	return nil
}

// loadRun reads the result that the argument names: a run's folder, its
// result.json, or nothing for the newest run.
func loadRun(args []string) (folder string, result *reports.Result, err error) {
	path := ""
	if len(args) > 0 {
		path = args[0]
	} else if path, err = newestRun("runs", ""); err != nil {
		return "", nil, err
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, resultFile)
	}
	result, err = reports.Load(path)
	if err != nil {
		return "", nil, codeError{err, exitUsage}
	}
	return filepath.Dir(path), result, nil
}

// newestRun is the folder below dir whose result is the youngest, of the lab
// with the given prefix if there is one.
func newestRun(dir, prefix string) (string, error) {
	folders, err := newestRuns(dir, prefix)
	if err != nil {
		return "", err
	}
	return folders[0], nil
}

// newestRuns are all such folders, one at least, the youngest first.
func newestRuns(dir, prefix string) ([]string, error) {
	// An interrupted run has a result and no report.
	results, err := filepath.Glob(filepath.Join(dir, prefix+"*", reportFile))
	if err != nil {
		return nil, err
	}
	sort.Slice(results, func(i, j int) bool { return modified(results[i]) > modified(results[j]) })
	if len(results) == 0 {
		return nil, usagef("there is no finished run below %s; try: nexus run day07", dir)
	}
	var folders []string
	for _, result := range results {
		folders = append(folders, filepath.Dir(result))
	}
	return folders, nil
}

func modified(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.ModTime().UnixNano()
}

func newClaims(term *terminal) *cobra.Command {
	return &cobra.Command{
		Use:   "claims [day07]",
		Short: "The ledger: what the lessons claim, the verdicts of the newest run that can be trusted, and what tests each",
		Args:  cobra.MaximumNArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return labNames(), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			entries, err := ledgers(args)
			if err != nil {
				return err
			}
			if term.json {
				return term.printJSON(entries)
			}
			for _, entry := range entries {
				term.printClaim(entry)
			}
			return nil
		},
	}
}

// ledgerEntry is one claim with what the newest run says of it.
type ledgerEntry struct {
	Day int `json:"day"`
	scenarios.Claim
	Verdict  string `json:"verdict,omitempty"` // empty: no run of this lab yet
	Evidence string `json:"evidence,omitempty"`
	Command  string `json:"command,omitempty"`
	Run      string `json:"run,omitempty"`
}

func ledgers(args []string) ([]ledgerEntry, error) {
	chosen := labs.All()
	if len(args) > 0 {
		lab, err := labs.ByName(args[0])
		if err != nil {
			return nil, err
		}
		chosen = []*scenarios.Lab{lab}
	}
	var entries []ledgerEntry
	for _, lab := range chosen {
		claims, err := lab.Claims()
		if err != nil {
			return nil, err
		}
		run, judged := newestVerdicts(lab.Day)
		for _, claim := range claims {
			entry := ledgerEntry{Day: lab.Day, Claim: claim}
			if found, ok := judged[claim.ID]; ok {
				entry.Verdict, entry.Evidence, entry.Command, entry.Run = found.Verdict, found.Evidence, found.Command, run
			}
			entries = append(entries, entry)
		}
	}
	return entries, nil
}

// newestVerdicts are the claims of a lab's newest run that can be trusted; none if
// there is no such run.
func newestVerdicts(day int) (run string, judged map[string]reports.ClaimResult) {
	folders, err := newestRuns("runs", fmt.Sprintf("day%02d-", day))
	if err != nil {
		return "", nil
	}
	for _, folder := range folders {
		result, err := reports.Load(filepath.Join(folder, resultFile))
		if err != nil || result.Verdict == reports.VerdictInvalid || len(result.Claims) == 0 {
			continue
		}
		judged = map[string]reports.ClaimResult{}
		for _, claim := range result.Claims {
			judged[claim.ID] = claim
		}
		return folder, judged
	}
	return "", nil
}

func (t *terminal) printClaim(e ledgerEntry) {
	verdict := e.Verdict
	if verdict == "" {
		verdict = "not run yet"
	}
	fmt.Fprintf(t.stdout, "day%02d %s: %s\n  %s\n", e.Day, e.ID, strings.ReplaceAll(verdict, "_", " "), e.Statement)
	for _, line := range []struct{ name, text string }{{"rule", e.Rule}, {"evidence", e.Evidence}, {"run", e.Run}, {"test", e.Command}} {
		if line.text != "" {
			fmt.Fprintf(t.stdout, "  %s: %s\n", line.name, line.text)
		}
	}
}
