package proof

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// The table stands between these lines of the document.
const (
	tableBegin = "<!-- begin: make matrix writes this -->"
	tableEnd   = "<!-- end -->"
)

// WriteTable puts the record's tables into the document.
func WriteTable(path string, r Record) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("write the table of kernels: %w", err)
	}
	before, rest, begins := strings.Cut(string(text), tableBegin)
	_, after, ends := strings.Cut(rest, tableEnd)
	if !begins || !ends {
		return errors.New("write the table of kernels: " + path + " has no place for it")
	}
	text = []byte(before + tableBegin + "\n\n" + r.Markdown() + "\n" + tableEnd + after)
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return fmt.Errorf("write the table of kernels: %w", err)
	}
	return nil
}

// Markdown shows the record: programs by kernel, then kinds and labs by kernel.
func (r Record) Markdown() string {
	var b strings.Builder
	b.WriteString("| program | rung |" + r.heads() + "\n| --- | --- |" + strings.Repeat(" --- |", len(r.Kernels)) + "\n")
	for _, key := range r.programs() {
		fmt.Fprintf(&b, "| `%s` %s | %s |", key.Package, key.Program, key.Rung)
		for _, k := range r.Kernels {
			b.WriteString(" " + k.cell(key) + " |")
		}
		b.WriteString("\n")
	}
	b.WriteString("\n| kind of program |" + r.heads() + "\n| --- |" + strings.Repeat(" --- |", len(r.Kernels)) + "\n")
	for _, name := range r.kinds() {
		fmt.Fprintf(&b, "| %s |", name)
		for _, k := range r.Kernels {
			b.WriteString(" " + k.kindCell(name) + " |")
		}
		b.WriteString("\n")
	}
	b.WriteString(r.labTable())
	b.WriteString("\n| |" + r.heads() + "\n| --- |" + strings.Repeat(" --- |", len(r.Kernels)) + "\n| release |")
	for _, k := range r.Kernels {
		b.WriteString(" " + k.Release + " |")
	}
	b.WriteString("\n| tests passed / skipped |")
	for _, k := range r.Kernels {
		passed, skipped := 0, 0
		for _, t := range k.Tests {
			passed, skipped = passed+t.Passed, skipped+len(t.Skipped)
		}
		fmt.Fprintf(&b, " %d / %d |", passed, skipped)
	}
	b.WriteString("\n")
	return b.String()
}

func (r Record) heads() string {
	var heads []string
	for _, k := range r.Kernels {
		head := k.Name
		if k.Name == HostName {
			head = Series(k.Release) + " (host)"
		}
		heads = append(heads, " "+head+" |")
	}
	return strings.Join(heads, "")
}

func (r Record) programs() []Row {
	var all []Row
	for _, k := range r.Kernels {
		for _, row := range k.Rows {
			if !slices.ContainsFunc(all, row.is) {
				all = append(all, row)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b Row) int { return strings.Compare(a.Package, b.Package) })
	return all
}

func (row Row) is(other Row) bool {
	return row.Package == other.Package && row.Program == other.Program
}

func (r Record) kinds() []string {
	var all []string
	for _, k := range r.Kernels {
		for _, kind := range k.Kinds {
			if !slices.Contains(all, kind.Name) {
				all = append(all, kind.Name)
			}
		}
	}
	return all
}

func (k Kernel) cell(key Row) string {
	i := slices.IndexFunc(k.Rows, key.is)
	if i < 0 {
		return "not measured"
	}
	row := k.Rows[i]
	switch row.Status {
	case Passed:
		return fmt.Sprintf("✓ %d / %d", row.Instructions, row.StackBytes)
	case Refused:
		return "refused: " + cause(row.Reason)
	case Unneeded:
		return "not needed"
	}
	return "**" + string(row.Status) + "**"
}

func (k Kernel) kindCell(name string) string {
	i := slices.IndexFunc(k.Kinds, func(kind Kind) bool { return kind.Name == name })
	switch {
	case i < 0:
		return "not measured"
	case k.Kinds[i].OK:
		return "✓"
	}
	return "refused: " + cause(k.Kinds[i].Reason)
}

// cause is the innermost part of an error, short enough for a table.
func cause(reason string) string {
	parts := strings.Split(reason, ": ")
	return strings.ReplaceAll(parts[len(parts)-1], "|", "\\|")
}
