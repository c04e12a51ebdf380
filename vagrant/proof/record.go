package proof

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// Kind is one kind of BPF program on one kernel, as nexus doctor tries them.
type Kind struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Reason string `json:"reason,omitempty"`
}

// Kernel is everything that one kernel showed.
type Kernel struct {
	Name    string   `json:"name"` // in the matrix, or HostName
	Release string   `json:"release"`
	Accel   string   `json:"accel,omitempty"` // kvm, tcg; empty: the host itself
	BootMs  int64    `json:"boot_ms,omitempty"`
	TookMs  int64    `json:"took_ms"`
	Rows    []Row    `json:"rows"`
	Kinds   []Kind   `json:"kinds"`
	Tests   []Tests  `json:"tests"`
	Labs    []LabRun `json:"labs"`
}

// HostName stands for the kernel that runs already.
const HostName = "host"

// Series is the release without its patch level and flavour: 6.12.
func Series(release string) string {
	parts := strings.SplitN(release, ".", 3)
	if len(parts) < 2 {
		return release
	}
	minor, _, _ := strings.Cut(parts[1], "-")
	return parts[0] + "." + minor
}

// Record is what is kept of all kernels, vagrant/proven.json.
type Record struct {
	Kernels []Kernel `json:"kernels"`
}

// ReadRecord reads a record; a file that is not there is an empty one.
func ReadRecord(path string) (Record, error) {
	var r Record
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, fmt.Errorf("read what was proven: %w", err)
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("read what was proven: %s: %w", path, err)
	}
	return r, nil
}

// Write writes the record without times, which differ from run to run.
func (r Record) Write(path string) error {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("encode what was proven: %w", err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write what was proven: %w", err)
	}
	return nil
}

// Kernel returns a kernel by name, nil if it is not there.
func (r Record) Kernel(name string) *Kernel {
	for i := range r.Kernels {
		if r.Kernels[i].Name == name {
			return &r.Kernels[i]
		}
	}
	return nil
}

// With returns the record with newer kernels in the place of older ones.
func (r Record) With(newer []Kernel) Record {
	merged := Record{Kernels: slices.Clone(r.Kernels)}
	for _, k := range newer {
		if old := merged.Kernel(k.Name); old != nil {
			*old = k
			continue
		}
		merged.Kernels = append(merged.Kernels, k)
	}
	return merged
}

// Limits of growth between two records. Compilers and verifiers of other
// releases move the counts a little; a loop that got unrolled moves them a lot.
const (
	instructionsGrowthMax = 0.25
	instructionsSlack     = 64
	stackGrowthBytesMax   = 64
)

// Complaints compares what was found with what was proven: what passed must
// still pass, the verifier's work and the stack must not grow past the limits,
// and no program may be untried, failing, or accepted nowhere.
func Complaints(old Record, found []Kernel) []string {
	complaints := Failures(found)
	for _, k := range found {
		before := old.Kernel(k.Name)
		if before == nil || k.Name == HostName && Series(before.Release) != Series(k.Release) {
			continue // another machine's host is no promise
		}
		complaints = append(complaints, regressions(*before, k)...)
		complaints = append(complaints, labRegressions(*before, k)...)
	}
	return append(complaints, acceptedNowhere(old.With(found).Kernels, found)...)
}

// Failures are the complaints that nobody can accept: tests and labs that failed,
// and programs that failed or that nothing tried.
func Failures(found []Kernel) []string {
	var failures []string
	for _, k := range found {
		failures = append(failures, k.labFailures()...)
		for _, tests := range k.Tests {
			for _, failure := range tests.Failures {
				failures = append(failures, fmt.Sprintf("%s: bpf/%s: %s", k.Name, tests.Package, failure))
			}
		}
		for _, row := range k.Rows {
			if row.Status == Failed || row.Status == NotTried {
				failures = append(failures, fmt.Sprintf("%s: bpf/%s %s: %s %s", k.Name, row.Package, row.Program, row.Status, row.Reason))
			}
		}
	}
	return failures
}

func regressions(before, now Kernel) []string {
	var complaints []string
	say := func(row Row, format string, args ...any) {
		complaints = append(complaints, fmt.Sprintf("%s: bpf/%s %s: ", now.Name, row.Package, row.Program)+fmt.Sprintf(format, args...))
	}
	for _, was := range before.Rows {
		i := slices.IndexFunc(now.Rows, func(r Row) bool { return r.Package == was.Package && r.Program == was.Program })
		if i < 0 || was.Status != Passed {
			continue // a program that is gone from the tree is missed by nobody
		}
		is := now.Rows[i]
		if is.Status != Passed {
			say(is, "passed before and is %s now: %s", is.Status, is.Reason)
			continue
		}
		if limit := float64(was.Instructions)*(1+instructionsGrowthMax) + instructionsSlack; float64(is.Instructions) > limit {
			say(is, "the verifier walks %d instructions, %d before; the limit is %.0f", is.Instructions, was.Instructions, limit)
		}
		if is.StackBytes > was.StackBytes+stackGrowthBytesMax {
			say(is, "it needs %d bytes of stack, %d before; the limit is %d more", is.StackBytes, was.StackBytes, stackGrowthBytesMax)
		}
	}
	for _, was := range before.Kinds {
		i := slices.IndexFunc(now.Kinds, func(k Kind) bool { return k.Name == was.Name })
		if was.OK && (i < 0 || !now.Kinds[i].OK) {
			complaints = append(complaints, fmt.Sprintf("%s: programs of the kind %q were accepted before and are not now", now.Name, was.Name))
		}
	}
	return complaints
}

// acceptedNowhere names programs of found that no kernel accepts, those included
// that were looked at earlier. A host alone may refuse a lot, so it asks for a
// machine among them.
func acceptedNowhere(all, found []Kernel) []string {
	accepted, machines := map[string]bool{}, false
	key := func(row Row) string { return "bpf/" + row.Package + " " + row.Program }
	for _, k := range all {
		machines = machines || k.Name != HostName
		for _, row := range k.Rows {
			accepted[key(row)] = accepted[key(row)] || row.Status == Passed
		}
	}
	var complaints []string
	for _, k := range found {
		for _, row := range k.Rows {
			complaint := key(row) + ": no kernel accepts it"
			if machines && !accepted[key(row)] && !slices.Contains(complaints, complaint) {
				complaints = append(complaints, complaint)
			}
		}
	}
	return complaints
}

// Unrecorded names programs, labs and kernels of found that the record lacks: its
// table is behind the tree.
func Unrecorded(old Record, found []Kernel) []string {
	var missing []string
	for _, k := range found {
		before := old.Kernel(k.Name)
		if before == nil {
			missing = append(missing, "kernel "+k.Name)
			continue
		}
		for _, l := range k.Labs {
			if before.lab(l.Day) == nil {
				missing = append(missing, fmt.Sprintf("%s: the lab of day %d", k.Name, l.Day))
			}
		}
		for _, row := range k.Rows {
			if !slices.ContainsFunc(before.Rows, func(r Row) bool { return r.Package == row.Package && r.Program == row.Program }) {
				missing = append(missing, fmt.Sprintf("%s: bpf/%s %s", k.Name, row.Package, row.Program))
			}
		}
	}
	return missing
}
