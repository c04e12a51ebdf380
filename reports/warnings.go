package reports

import (
	"fmt"
	"strings"

	"github.com/nexuscore-labs/nexus/reports/quantity"
)

// warningsMax bounds what AllWarnings lists: past it a reader learns nothing.
const warningsMax = 20

// AllWarnings are the run's own warnings and those of its trials, each text
// once with where and how often it came up. A warning doubts a number without
// voiding it; what voids a trial is its Reason.
func (r *Result) AllWarnings() []string {
	type group struct {
		text   string
		trials int
		where  []string
	}
	var groups []*group
	byText := map[string]*group{}
	for i := range r.Trials {
		t := &r.Trials[i]
		for _, warning := range t.Warnings {
			g := byText[warning]
			if g == nil {
				g = &group{text: warning}
				byText[warning], groups = g, append(groups, g)
			}
			g.trials++
			place := t.Contender + " at " + t.Point
			if len(g.where) == 0 || g.where[len(g.where)-1] != place {
				g.where = append(g.where, place)
			}
		}
	}
	all := append([]string{}, r.Warnings...)
	for _, g := range groups {
		all = append(all, fmt.Sprintf("%s (%s)", g.text, trialPlaces(g.trials, g.where)))
	}
	if more := len(all) - warningsMax; more > 0 {
		all = append(all[:warningsMax], quantity.Counted(more, "more warning")+", each in its trial in result.json")
	}
	return all
}

// trialPlaces names up to two places of so many trials.
func trialPlaces(trials int, where []string) string {
	const named = 2
	var distinct []string
	seen := map[string]bool{}
	for _, place := range where {
		if !seen[place] {
			seen[place] = true
			distinct = append(distinct, place)
		}
	}
	text := strings.Join(distinct[:min(named, len(distinct))], ", ")
	if more := len(distinct) - named; more > 0 {
		text += " and " + quantity.Counted(more, "more place")
	}
	if trials == 1 {
		return text
	}
	return fmt.Sprintf("%d trials: %s", trials, text)
}
