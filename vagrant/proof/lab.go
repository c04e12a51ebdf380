package proof

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// labTimeout bounds one lab's small form.
const labTimeout = 4 * time.Minute

// Lab is the small form of a lab, as the caller knows it.
type Lab struct {
	Day      int
	Scenario string // path of the scenario file, built into the binary
}

// LabRun is how the small form of a lab ended on one kernel: no speed is judged.
type LabRun struct {
	Day     int    `json:"day"`
	Code    int    `json:"code"` // exit code of nexus run
	Verdict string `json:"verdict"`
	Checked uint64 `json:"checked"` // answers and records that the oracle looked at
	Wrong   uint64 `json:"wrong"`
	Lost    uint64 `json:"lost"`
	Phantom uint64 `json:"phantom"`
	Reason  string `json:"reason,omitempty"` // of another verdict than pass
}

// exitEnvironment is nexus run's code for a kernel that lacks what the lab needs.
const exitEnvironment = 3

// passed reports whether the lab ran, and every gate of its small form passed.
func (l LabRun) passed() bool { return l.Code == 0 && l.Verdict == "pass" && l.Checked > 0 }

// refused reports whether this kernel can't run the lab.
func (l LabRun) refused() bool { return l.Code == exitEnvironment }

// arguments run a lab with what it leaves below runs.
func (l Lab) arguments(self, runs string) []string {
	return []string{self, "run", l.Scenario, "--mode", "quick", "--json", "--out", runs}
}

// judgeLab reads what a lab printed. Whatever is no whole result is a failure.
func judgeLab(lab Lab, stdout, stderr string, code int) LabRun {
	run := LabRun{Day: lab.Day, Code: code}
	var result struct {
		Verdict string   `json:"verdict"`
		Reasons []string `json:"reasons"`
		Oracle  struct {
			Checked uint64 `json:"checked"`
			Wrong   uint64 `json:"wrong"`
			Lost    uint64 `json:"lost"`
			Phantom uint64 `json:"phantom"`
		} `json:"oracle"`
	}
	if err := json.Unmarshal([]byte(stdout), &result); err != nil {
		run.Verdict, run.Reason = "none", lastLine(stderr)
		return run
	}
	run.Verdict = result.Verdict
	run.Checked, run.Wrong, run.Lost, run.Phantom = result.Oracle.Checked, result.Oracle.Wrong, result.Oracle.Lost, result.Oracle.Phantom
	if !run.passed() {
		run.Reason = strings.Join(result.Reasons, "; ")
	}
	return run
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

func (l LabRun) cell() string {
	switch {
	case l.passed():
		return fmt.Sprintf("✓ %d checked", l.Checked)
	case l.refused():
		return "refused: " + cause(l.Reason)
	}
	return fmt.Sprintf("**%s**, exit code %d", l.Verdict, l.Code)
}

// labFailures are the labs that ran and did not pass.
func (k Kernel) labFailures() []string {
	var failures []string
	for _, l := range k.Labs {
		if !l.passed() && !l.refused() {
			failures = append(failures, fmt.Sprintf("%s: day %d, small form: %s, exit code %d: %s", k.Name, l.Day, l.Verdict, l.Code, l.Reason))
		}
	}
	return failures
}

// lab returns a day's run, nil if there is none.
func (k Kernel) lab(day int) *LabRun {
	for i := range k.Labs {
		if k.Labs[i].Day == day {
			return &k.Labs[i]
		}
	}
	return nil
}

// labRegressions are the labs that passed before and are refused now.
func labRegressions(before, now Kernel) []string {
	var complaints []string
	for _, was := range before.Labs {
		if is := now.lab(was.Day); was.passed() && is != nil && is.refused() {
			complaints = append(complaints, fmt.Sprintf("%s: day %d ran before and is refused now: %s", now.Name, was.Day, is.Reason))
		}
	}
	return complaints
}

// labTable shows the labs by kernel.
func (r Record) labTable() string {
	var days []int
	for day := range daysMax {
		for _, k := range r.Kernels {
			if k.lab(day) != nil {
				days = append(days, day)
				break
			}
		}
	}
	if len(days) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\n| lab, small form |" + r.heads() + "\n| --- |" + strings.Repeat(" --- |", len(r.Kernels)) + "\n")
	for _, day := range days {
		fmt.Fprintf(&b, "| day %d |", day)
		for _, k := range r.Kernels {
			cell := "not measured"
			if l := k.lab(day); l != nil {
				cell = l.cell()
			}
			b.WriteString(" " + cell + " |")
		}
		b.WriteString("\n")
	}
	return b.String()
}

// daysMax bounds the days of labs.
const daysMax = 100
