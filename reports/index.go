package reports

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/nexuscore-labs/nexus/reports/chart"
)

// IndexEntry is one result on the index page.
type IndexEntry struct {
	Result *Result
	Link   string // to its report.html, relative to the index
}

type indexDay struct {
	Heading, Kicker, Question, VerdictText, Link string
	Verdict                                      Verdict
	Gates                                        table
	Figures                                      []chart.Chart // the first, if there is one
}

// WriteIndex writes dir/index.html: all results side by side, by day.
func WriteIndex(dir string, entries []IndexEntry) error {
	if len(entries) == 0 {
		return errors.New("write index: no results")
	}
	entries = slices.Clone(entries)
	slices.SortStableFunc(entries, func(a, b IndexEntry) int { return cmp.Compare(a.Result.Day, b.Result.Day) })
	var days []indexDay
	for _, e := range entries {
		v, err := newView(e.Result)
		if err != nil {
			return fmt.Errorf("write index: day %d: %w", e.Result.Day, err)
		}
		day := indexDay{Heading: v.heading(), Kicker: v.kicker(), Question: v.Question, VerdictText: verdictText(v.Verdict), Link: e.Link, Verdict: v.Verdict,
			Gates: thresholdTable("", "", "", v.Gates)}
		if figures := v.figures(); len(figures) > 0 {
			day.Figures = figures[:1]
		}
		days = append(days, day)
	}
	text, err := renderHTML("index", struct {
		Heading string
		Days    []indexDay
	}{"NexusCore labs", days})
	if err != nil {
		return fmt.Errorf("write index: %w", err)
	}
	return writeFile(filepath.Join(dir, "index.html"), text)
}
