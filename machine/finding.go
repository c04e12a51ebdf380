package machine

import (
	"context"
	"fmt"
	"strings"
)

// Status is how a finding stands.
type Status string

const (
	// OK is there and good.
	OK Status = "ok"
	// Warn is there, with a limit that shows in results.
	Warn Status = "warn"
	// Absent is not there: what needs it cannot run or cannot be measured.
	Absent Status = "missing"
)

// Finding is one thing that Doctor looked at.
type Finding struct {
	ID     string `json:"id"`     // stable, dotted: bpf.tp_btf, tool.clang
	Group  string `json:"group"`  // heading: Kernel, BPF, io_uring, CPU, Storage, Tools, Servers, Leftovers
	Title  string `json:"title"`  // a few words, with the value: "clang 19.1.7"
	Status Status `json:"status"` // ok, warn, missing
	Detail string `json:"detail,omitempty"`
	Costs  string `json:"costs,omitempty"` // what the gap costs: which lab, contender or probe
	Fix    string `json:"fix,omitempty"`   // the exact command, or what to change
	Minor  bool   `json:"minor,omitempty"` // part of a longer list: shown only when asked for, not counted
}

// Prober looks at a part of the machine that this package does not know, such
// as what BPF programs load. It must honour ctx and leave nothing behind.
type Prober func(ctx context.Context) []Finding

// Missing is a capability that a lab needs and this machine has not got.
type Missing struct {
	ID    string `json:"id"`
	Why   string `json:"why"`
	Costs string `json:"costs,omitempty"`
	Fix   string `json:"fix,omitempty"`
}

// String says what is missing, why and what provides it, on one line.
func (m Missing) String() string {
	s := m.ID + ": " + m.Why
	if m.Fix != "" {
		s += " (fix: " + m.Fix + ")"
	}
	return s
}

// MissingError says that this environment cannot run what was asked for: exit
// code 3 of the design.
type MissingError struct{ Missing []Missing }

// Error lists each capability with its reason and its fix.
func (e *MissingError) Error() string {
	var b strings.Builder
	b.WriteString("this environment can't run it:")
	for _, m := range e.Missing {
		fmt.Fprintf(&b, "\n  %s: %s", m.ID, m.Why)
		if m.Fix != "" {
			fmt.Fprintf(&b, "\n    fix: %s", m.Fix)
		}
	}
	return b.String()
}

// ExitCode is 3.
func (e *MissingError) ExitCode() int { return 3 }

// missingFrom picks the needs that the findings do not satisfy. A finding that
// warns satisfies: the thing is there.
func missingFrom(findings []Finding, ids []string) []Missing {
	byID := make(map[string]Finding, len(findings))
	for _, f := range findings {
		byID[f.ID] = f
	}
	var missing []Missing
	for _, id := range ids {
		f, known := byID[id]
		switch {
		case !known:
			missing = append(missing, Missing{ID: id, Why: "no probe knows this capability" + didYouMean(id, findings)})
		case f.Status == Absent:
			why := f.Title
			if f.Detail != "" {
				why += ": " + f.Detail
			}
			missing = append(missing, Missing{ID: id, Why: why, Costs: f.Costs, Fix: f.Fix})
		}
	}
	return missing
}

// didYouMean names the known id that is nearest to a misspelt one.
func didYouMean(id string, findings []Finding) string {
	best, distanceMin := "", len(id)/2+1
	for _, f := range findings {
		if d := editDistance(id, f.ID); d < distanceMin {
			best, distanceMin = f.ID, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// editDistance is Levenshtein's, O(len(a)·len(b)) time and O(len(b)) memory.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			substitute := diagonal
			if a[i-1] != b[j-1] {
				substitute++
			}
			diagonal = row[j]
			row[j] = min(substitute, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
