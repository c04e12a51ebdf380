package scenarios

import (
	"fmt"
	"slices"
	"sort"
	"strings"
)

// place is where something stands in a scenario file or an override.
type place struct {
	file string
	line int // from 1
	col  int // from 1
}

func (p place) String() string { return fmt.Sprintf("%s:%d:%d", p.file, p.line, p.col) }

// Complaint is one thing that is wrong with a scenario.
type Complaint struct {
	File    string
	Line    int // from 1
	Column  int // from 1
	Message string
	Nearest string // what was probably meant; may be empty
}

func (c Complaint) Error() string {
	text := fmt.Sprintf("%s:%d:%d: %s", c.File, c.Line, c.Column, c.Message)
	if c.Nearest != "" {
		text += fmt.Sprintf(" (did you mean %q?)", c.Nearest)
	}
	return text
}

// Complaints are all that is wrong with one scenario, in the order of the file.
type Complaints []Complaint

func (c Complaints) Error() string {
	lines := make([]string, len(c))
	for i := range c {
		lines[i] = c[i].Error()
	}
	return strings.Join(lines, "\n")
}

// ExitCode returns ExitUsage.
func (c Complaints) ExitCode() int { return ExitUsage }

// complaintsMax bounds one report: past it the file is something else.
const complaintsMax = 50

// book collects complaints.
type book struct{ list Complaints }

func (b *book) add(at place, nearest string, format string, args ...any) {
	if len(b.list) >= complaintsMax {
		return
	}
	c := Complaint{
		File: at.file, Line: at.line, Column: at.col,
		Message: fmt.Sprintf(format, args...), Nearest: nearest,
	}
	if !slices.Contains(b.list, c) { // one mistake may be met on two ways
		b.list = append(b.list, c)
	}
}

// err returns what was collected, sorted by place, or nil.
func (b *book) err() error {
	if len(b.list) == 0 {
		return nil
	}
	sort.SliceStable(b.list, func(i, j int) bool {
		x, y := b.list[i], b.list[j]
		if x.File != y.File {
			return x.File < y.File
		}
		if x.Line != y.Line {
			return x.Line < y.Line
		}
		return x.Column < y.Column
	})
	return b.list
}

// nearest returns the valid name closest to a wrong one, or "" when none is
// close enough to be what was meant.
func nearest(wrong string, valid []string) string {
	best, bestDistance := "", max(2, len(wrong)/3)+1
	for _, name := range valid {
		if len(wrong) >= 4 && strings.HasPrefix(name, wrong[:len(wrong)-1]) {
			return name // the right beginning: throughput for throughput_per_s
		}
		if d := distance(wrong, name); d < bestDistance && d < len(name) {
			best, bestDistance = name, d
		}
	}
	return best
}

// distance is the optimal string alignment distance: insertions, deletions,
// replacements and swaps of neighbours. Long inputs are cut, as no valid name
// is that long.
func distance(a, b string) int {
	const lenMax = 64
	a, b = strings.ToLower(a[:min(len(a), lenMax)]), strings.ToLower(b[:min(len(b), lenMax)])
	var before, row []int
	next := make([]int, len(b)+1)
	for j := range next {
		next[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, row, next = row, next, make([]int, len(b)+1)
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(row[j]+1, next[j-1]+1, row[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
	}
	return next[len(b)]
}

// oneOf says what would have been valid, when there are few enough to list.
func oneOf(valid []string) string {
	if len(valid) == 0 {
		return "none is defined"
	}
	return "valid: " + strings.Join(valid, ", ")
}
