package machine

import (
	"context"
	"fmt"
	"sort"
	"strings"
)

const groupLeftovers = "Leftovers"

func checkLeftovers(ctx context.Context, h host) []Finding {
	found, err := Leftovers(ctx, h.options.TempDirs...)
	if err != nil {
		return []Finding{{ID: "leftovers", Group: groupLeftovers, Title: "leftovers unknown", Status: Warn, Detail: err.Error(),
			Costs: "strays of a killed run may disturb the measurement", Fix: "sudo nexus clean --dry-run"}}
	}
	return leftoverFindings(found)
}

// leftoverLinesMax bounds how many leftovers a finding names.
const leftoverLinesMax = 8

func leftoverFindings(found []Leftover) []Finding {
	byLiveness := map[Liveness][]Leftover{}
	for _, l := range found {
		byLiveness[l.Live] = append(byLiveness[l.Live], l)
	}
	f := Finding{ID: "leftovers", Group: groupLeftovers, Title: "no leftovers of killed runs", Status: OK}
	if dead := byLiveness[Dead]; len(dead) > 0 {
		f.Status, f.Title = Warn, fmt.Sprintf("%d leftovers of killed runs", len(dead))
		f.Detail = nameLeftovers(dead)
		f.Costs, f.Fix = "strays take CPU time and disk from the next run", "nexus clean"
	}
	findings := []Finding{f}
	if live := byLiveness[Live]; len(live) > 0 {
		findings = append(findings, Finding{ID: "leftovers.live", Group: groupLeftovers, Status: Warn,
			Title: "a run is under way: pid " + runPIDs(live), Costs: "two runs at a time disturb each other's measurement",
			Fix: "wait for it to end"})
	}
	if unknown := byLiveness[Unknown]; len(unknown) > 0 {
		findings = append(findings, Finding{ID: "leftovers.unknown", Group: groupLeftovers, Status: Warn,
			Title:  fmt.Sprintf("%d things bear this project's name and can't be judged", len(unknown)),
			Detail: nameLeftovers(unknown), Costs: "nexus clean leaves them alone", Fix: "look at them, and remove them by hand if they are yours"})
	}
	return findings
}

func nameLeftovers(found []Leftover) string {
	var names []string
	for _, l := range found[:min(len(found), leftoverLinesMax)] {
		names = append(names, l.String())
	}
	if more := len(found) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, "; ")
}

func runPIDs(found []Leftover) string {
	seen := map[int]bool{}
	var pids []int
	for _, l := range found {
		if !seen[l.PID] {
			seen[l.PID] = true
			pids = append(pids, l.PID)
		}
	}
	sort.Ints(pids)
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(pids), " ", ", "), "[]")
}
