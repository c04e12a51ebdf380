package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	pretty "github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/nexuscore-labs/nexus/reports/stats/calibration"
)

const thoroughnessMax = 1000

func newSelftestStatistics(term *terminal) *cobra.Command {
	var seed uint64
	var thorough int
	cmd := &cobra.Command{
		Use:   "statistics",
		Short: "The statistics against known answers, and their real coverage, size and power",
		Long: "Each statistic against published data sets, against SciPy and against benchstat's library on recorded\n" +
			"runs; then, by simulation, how often intervals hold the truth, how often tests and warm-up detection\n" +
			"raise false alarms, and what they find. Deterministic by seed. Exit code 1 when anything is off.",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if thorough < 1 || thorough > thoroughnessMax {
				return usagef("--thorough must be 1 to %d", thoroughnessMax)
			}
			if !term.quiet {
				fmt.Fprintf(term.stderr, "simulating: some %d s on two CPUs\n", 10*thorough)
			}
			report, err := calibration.Run(seed, thorough)
			if err != nil {
				return err
			}
			if term.json {
				err = term.printJSON(report)
			} else {
				term.printCalibration(report)
			}
			if err == nil && !report.OK {
				err = verdictError{exitFail}
			}
			return err
		},
	}
	cmd.Flags().Uint64Var(&seed, "seed", 1, "of the simulations")
	cmd.Flags().IntVar(&thorough, "thorough", 1, "repeat each simulation this many times as often")
	return cmd
}

func (t *terminal) printCalibration(r *calibration.Report) {
	t.printAnswers(r.Answers)
	for _, group := range []struct{ name, title string }{
		{"coverage", "Coverage: how often a 95% interval holds the truth"},
		{"size", "False alarms of the test where there is no difference, at 5%"},
		{"power", "How often a difference is found"},
		{"warm-up", "Warm-up detection: how often a trial is doubted"},
	} {
		t.printShares(group.name, group.title, r.Shares)
	}
	met, all := r.Comparisons()
	word := "all as claimed"
	if !r.OK {
		word = "NOT as claimed: see the rows marked ✗"
	}
	fmt.Fprintf(t.stdout, "%d of %d known answers met; %d simulated shares; seed %d; %v: %s\n",
		met, all, len(r.Shares), r.Seed, time.Duration(r.ElapsedNs).Round(100*time.Millisecond), word)
}

// plainTable is a table without a frame.
func plainTable(w io.Writer, title string) pretty.Writer {
	table := pretty.NewWriter()
	table.SetOutputMirror(w)
	table.SetStyle(pretty.StyleLight)
	table.Style().Options = pretty.Options{SeparateHeader: true}
	table.Style().Format.Header = text.FormatDefault
	table.Style().Box.PaddingLeft = ""
	table.Style().Box.PaddingRight = "  "
	fmt.Fprintf(w, "%s\n\n", title)
	return table
}

func (t *terminal) printAnswers(answers []calibration.Answer) {
	table := plainTable(t.stdout, "Known answers; of several comparisons the one furthest off is shown")
	table.AppendHeader(pretty.Row{"statistic", "reference by", "n", "reference", "ours", "off by", "allowed", ""})
	for _, a := range answers {
		table.AppendRow(pretty.Row{a.Statistic, a.Source, a.Comparisons, short(a.Reference), short(a.Ours), magnitude(a.Difference), magnitude(a.Tolerance), mark(a.OK)})
	}
	table.Render()
	fmt.Fprintln(t.stdout)
}

func short(v float64) string { return fmt.Sprintf("%.9g", v) }

func magnitude(v float64) string {
	if v == 0 {
		return "0"
	}
	return fmt.Sprintf("%.0e", v)
}

func mark(ok bool) string {
	if ok {
		return "✓"
	}
	return "✗"
}

// printShares has a row per case and a column per sample size.
func (t *terminal) printShares(group, title string, shares []calibration.Share) {
	var sizes []int
	var rows []string
	cells := map[string]map[int]string{}
	claims := map[string]string{}
	for _, s := range shares {
		if s.Group != group {
			continue
		}
		row := s.What + "\x00" + s.Case
		if cells[row] == nil {
			cells[row], claims[row] = map[int]string{}, s.Claim
			rows = append(rows, row)
		}
		cells[row][s.Values] = shareCell(s)
		sizes = insertSize(sizes, s.Values)
	}
	table := plainTable(t.stdout, title)
	header := pretty.Row{"", "case"}
	for _, n := range sizes {
		header = append(header, sizeName(n))
	}
	table.AppendHeader(append(header, "claim"))
	last := ""
	for _, row := range rows {
		what, name, _ := strings.Cut(row, "\x00")
		line := pretty.Row{what, name}
		if what == last {
			line[0] = ""
		}
		last = what
		for _, n := range sizes {
			line = append(line, cells[row][n])
		}
		table.AppendRow(append(line, claims[row]))
	}
	table.Render()
	fmt.Fprintln(t.stdout)
}

func shareCell(s calibration.Share) string {
	cell := fmt.Sprintf("%.1f%%", 100*s.Share)
	if !s.OK {
		cell += " ✗"
	}
	return cell
}

// sizeName is a column's heading; 0 stands for a number that the statistic chose.
func sizeName(n int) string {
	if n == 0 {
		return "its n"
	}
	return fmt.Sprintf("n=%d", n)
}

func insertSize(sizes []int, n int) []int {
	for i, have := range sizes {
		if have == n {
			return sizes
		}
		if have > n {
			return append(sizes[:i], append([]int{n}, sizes[i:]...)...)
		}
	}
	return append(sizes, n)
}
