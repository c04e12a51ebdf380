package proof

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/nexuscore-labs/nexus/bpf/attach"
	"github.com/nexuscore-labs/nexus/bpf/bpftest"
)

// Status is how a program stands on a kernel.
type Status string

const (
	Passed   Status = "passed"     // attached, and every test of it passed
	Refused  Status = "refused"    // the kernel does not accept this rung
	Failed   Status = "failed"     // attached, and a test of it failed
	Unneeded Status = "not needed" // another program of the same rung served: this one is for other kernels
	NotTried Status = "not tried"  // no test attached it: something hides it
)

// Row is one program on one kernel.
type Row struct {
	Package      string `json:"package"`
	Program      string `json:"program"`
	Section      string `json:"section"`
	Rung         string `json:"rung"`
	Status       Status `json:"status"`
	Reason       string `json:"reason,omitempty"`
	Instructions uint32 `json:"instructions,omitempty"` // that the verifier walked
	StackBytes   uint32 `json:"stack_bytes,omitempty"`
}

// Tests are the tests of one package on one kernel.
type Tests struct {
	Package  string   `json:"package"`
	Passed   int      `json:"passed"`
	Failures []string `json:"failures,omitempty"` // with what they said
	Skipped  []string `json:"skipped,omitempty"`  // with the reason
}

// outcome is what a test binary said with -test.v.
type outcome struct {
	status   map[string]Status // by test
	log      map[string][]string
	programs map[string][]attach.Program // by the test that attached them
	absent   []string                    // optional programs, each with the kernel's reason
	order    []string
}

var (
	markPattern   = regexp.MustCompile(`^=== (RUN|NAME|CONT|PAUSE)\s+(\S+)$`)
	attrPattern   = regexp.MustCompile(`^=== ATTR\s+(\S+) (\S+) (.*)$`)
	resultPattern = regexp.MustCompile(`^\s*--- (PASS|FAIL|SKIP): (\S+) \(`)
)

// logLinesMax bounds what is kept of one test.
const logLinesMax = 40

func readOutput(text string) (outcome, error) {
	o := outcome{status: map[string]Status{}, log: map[string][]string{}, programs: map[string][]attach.Program{}}
	current := ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if mark := markPattern.FindStringSubmatch(line); mark != nil {
			current = mark[2]
			continue
		}
		if attr := attrPattern.FindStringSubmatch(line); attr != nil {
			if attr[2] == bpftest.AbsentAttr {
				o.absent = append(o.absent, strings.TrimPrefix(attr[3], "attach "))
			}
			if attr[2] != bpftest.ProgramAttr {
				continue
			}
			var p attach.Program
			if err := json.Unmarshal([]byte(attr[3]), &p); err != nil {
				return o, fmt.Errorf("read what %s attached: %w", attr[1], err)
			}
			o.programs[attr[1]] = append(o.programs[attr[1]], p)
			continue
		}
		if result := resultPattern.FindStringSubmatch(line); result != nil {
			o.status[result[2]] = map[string]Status{"PASS": Passed, "FAIL": Failed, "SKIP": Refused}[result[1]]
			o.order = append(o.order, result[2])
			current = ""
			continue
		}
		if current != "" && len(o.log[current]) < logLinesMax {
			o.log[current] = append(o.log[current], strings.TrimSpace(line))
		}
	}
	if len(o.order) == 0 {
		return o, errors.New("no test has ended")
	}
	return o, nil
}

// Judge turns the output of a package's test binary and its exit code into rows.
func Judge(p Package, output string, code int) ([]Row, Tests, error) {
	o, err := readOutput(output)
	if err != nil {
		return nil, Tests{}, fmt.Errorf("the tests of bpf/%s (exit code %d): %w: %s", p.Name, code, err, tail(output))
	}
	tests := Tests{Package: p.Name}
	for _, name := range o.order {
		switch o.status[name] {
		case Passed:
			tests.Passed++
		case Failed:
			tests.Failures = append(tests.Failures, name+": "+strings.Join(o.log[name], " / "))
		default:
			tests.Skipped = append(tests.Skipped, name+": "+reasonOf(o.log[name]))
		}
	}
	if code != 0 && len(tests.Failures) == 0 {
		tests.Failures = append(tests.Failures, fmt.Sprintf("exit code %d: %s", code, tail(output)))
	}
	var rows []Row
	for _, program := range p.Programs {
		rows = append(rows, o.row(p, program))
	}
	findUnneeded(rows)
	return rows, tests, nil
}

// findUnneeded tells programs that have a stand-in from forgotten ones. A loader
// may hold one program for each of a tracepoint's names over time; that each is
// needed somewhere shows over all kernels, see Complaints.
func findUnneeded(rows []Row) {
	served := map[string]bool{}
	for _, row := range rows {
		served[row.Rung] = served[row.Rung] || row.Status == Passed
	}
	for i := range rows {
		if rows[i].Status == NotTried && served[rows[i].Rung] {
			rows[i].Status = Unneeded
		}
	}
}

func (o outcome) row(p Package, program Program) Row {
	row := Row{Package: p.Name, Program: program.Name, Section: program.Section, Rung: program.Rung(), Status: NotTried}
	for _, test := range o.order {
		for _, attached := range o.programs[test] {
			if attached.Name != program.Name {
				continue
			}
			row.Instructions = max(row.Instructions, attached.VerifiedInstructions)
			row.StackBytes = max(row.StackBytes, attached.StackBytes)
			switch {
			case o.status[test] == Failed:
				row.Status, row.Reason = Failed, test
			case o.status[test] == Passed && row.Status != Failed:
				row.Status = Passed
			}
		}
	}
	if row.Status != NotTried {
		return row
	}
	for _, absent := range o.absent {
		if reason, found := strings.CutPrefix(absent, program.Name+": "); found {
			row.Status, row.Reason = Refused, reason
			return row
		}
	}
	for _, test := range o.order {
		if o.status[test] == Refused && strings.HasSuffix(test, "/"+row.Rung) {
			row.Status, row.Reason = Refused, reasonOf(o.log[test])
			break
		}
	}
	return row
}

var sourcePattern = regexp.MustCompile(`^\S+\.go:\d+: `)

// reasonOf is the last line that a test said before it was skipped: the
// innermost cause.
func reasonOf(log []string) string {
	if len(log) == 0 {
		return ""
	}
	return sourcePattern.ReplaceAllString(log[len(log)-1], "")
}

// tail is the end of an output, on one line.
func tail(output string) string {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	return strings.Join(lines[max(0, len(lines)-6):], " / ")
}
