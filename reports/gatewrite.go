package reports

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	pretty "github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/nexuscore-labs/nexus/reports/quantity"
)

// gateTexts say a verdict of the gate with what it means.
var gateTexts = map[GateVerdict]string{
	GatePass:         "✓ PASS: no regression",
	GateFail:         "✗ FAIL: a regression, confirmed by running again",
	GateInconclusive: "? INCONCLUSIVE: the gate can't tell, and that is no pass",
	GateRerun:        "? SUSPECT: run again to confirm",
}

func (c *GateCheck) unit() quantity.Unit {
	if c.Against != "" {
		return quantity.Ratio
	}
	if m, known := measureNamed(c.Metric); known {
		return m.unit
	}
	return quantity.Count
}

func (g *GateReport) table() table {
	t := table{ID: "gate", Title: fmt.Sprintf("Day %d against its baseline", g.Day),
		Note: fmt.Sprintf("Baseline: %s. %d run(s). %s with Holm, α %s over the table, minimum effect %s.", g.Baseline, g.Runs, g.test(),
			quantity.Digits(g.Alpha), quantity.Share.Format(g.MinEffect)),
		Columns: []column{{"what", false}, {"baseline", true}, {"now", true}, {"now / baseline", true}, {"p", true}, {"verdict", false}, {"why", false}}}
	for i := range g.Checks {
		c := &g.Checks[i]
		t.Rows = append(t.Rows, []cell{plain(c.label()), plain(center(c.unit(), c.Before)), plain(center(c.unit(), c.After)),
			interval(quantity.Ratio, c.Ratio), number(quantity.Count, c.PAdjusted), status(c.Verdict), plain(c.Why)})
	}
	return t
}

func (c *GateCheck) label() string {
	m, _ := measureNamed(c.Metric)
	if c.Against == "" {
		return fmt.Sprintf("%s at %s: %s", m.arrow(), c.Point, c.Subject)
	}
	return fmt.Sprintf("%s at %s: %s / %s", m.arrow(), c.Point, c.Subject, c.Against)
}

func (g *GateReport) test() string {
	if g.Paired {
		return "Wilcoxon's signed ranks"
	}
	return "Mann–Whitney"
}

// absoluteNote says whether absolute numbers took part, and what is not judged.
func (g *GateReport) absoluteNote() string {
	return g.takingPart() + fmt.Sprintf(" Changes below %s are not judged: on a shared machine they can't be told from none.", quantity.Share.Format(g.MinEffect))
}

func (g *GateReport) takingPart() string {
	if g.Paired {
		return "Both builds served at the same time, pair by pair: only their ratios mean anything."
	}
	if g.Absolute {
		return "Ratios and absolute numbers were compared: the fingerprints are equal."
	}
	var fields []string
	for _, d := range g.Unlike {
		fields = append(fields, d.Field)
	}
	return "Only ratios were compared: absolute numbers don't travel, and the machines differ in " + strings.Join(fields, ", ") + "."
}

// Markdown is the decision for a pull request.
func (g *GateReport) Markdown() []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "**%s**\n\n", gateTexts[g.Verdict])
	markdownTable(&out, g.table())
	fmt.Fprintf(&out, "%s\n", markdownText(g.absoluteNote()))
	return out.Bytes()
}

// Terminal writes the decision for people.
func (g *GateReport) Terminal(w io.Writer, opts TerminalOptions) error {
	t := newTerminal(w, opts)
	t.line(t.paint(text.Bold, fmt.Sprintf("Day %d against its baseline (%s)", g.Day, g.Baseline)))
	var rows []pretty.Row
	for i := range g.Checks {
		c := &g.Checks[i]
		rows = append(rows, pretty.Row{c.label(), center(c.unit(), c.Before), center(c.unit(), c.After), percent(c.Ratio),
			t.paint(statusColour(c.Verdict), statusMarks[c.Verdict]+" "+c.Verdict)})
	}
	t.table(pretty.Row{"what", "baseline", "now", "change", "verdict"}, rows, map[int]bool{1: true, 2: true, 3: true})
	t.wrapped("", g.absoluteNote())
	t.line(t.paint(statusColour(string(g.Verdict)), gateTexts[g.Verdict]))
	return t.err
}

// junitSuite follows the schema of Ant's JUnit task (windyroad/JUnit-Schema),
// whose required attributes and order of elements every reader of such files takes.
type junitSuite struct {
	XMLName    xml.Name    `xml:"testsuite"`
	Name       string      `xml:"name,attr"`
	Timestamp  string      `xml:"timestamp,attr"` // no zone, by the schema
	Hostname   string      `xml:"hostname,attr"`
	Tests      int         `xml:"tests,attr"`
	Failures   int         `xml:"failures,attr"`
	Errors     int         `xml:"errors,attr"`
	Skipped    int         `xml:"skipped,attr"`
	Time       string      `xml:"time,attr"`
	Properties struct{}    `xml:"properties"`
	Cases      []junitCase `xml:"testcase"`
	Out        string      `xml:"system-out"`
	Err        string      `xml:"system-err"`
}

type junitCase struct {
	Name    string        `xml:"name,attr"`
	Class   string        `xml:"classname,attr"`
	Time    string        `xml:"time,attr"` // 0: the runs took the time, and serve all cases
	Failure *junitMessage `xml:"failure,omitempty"`
	Error   *junitMessage `xml:"error,omitempty"`
	Skipped *junitMessage `xml:"skipped,omitempty"`
}

type junitMessage struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr,omitempty"`
}

// JUnit is the decision as JUnit XML: one test per check and one for the whole,
// so that a verdict other than pass is red also where no single check is.
func (g *GateReport) JUnit() ([]byte, error) {
	suite := junitSuite{Name: fmt.Sprintf("nexus gate day%02d", g.Day), Timestamp: junitTime(g.at), Hostname: g.hostname}
	for i := range g.Checks {
		c := &g.Checks[i]
		test := junitCase{Name: c.id(), Class: suite.Name}
		message := fmt.Sprintf("%s: %s, %s to %s", c.Verdict, percent(c.Ratio), center(c.unit(), c.Before), center(c.unit(), c.After))
		switch c.Verdict {
		case Regressed:
			test.Failure = &junitMessage{message, c.Verdict}
			suite.Failures++
		case CantTell:
			test.Skipped = &junitMessage{Message: message + "; " + c.Why}
			suite.Skipped++
		}
		suite.Cases = append(suite.Cases, test)
	}
	whole := junitCase{Name: "verdict", Class: suite.Name}
	if g.Verdict != GatePass {
		whole.Failure = &junitMessage{gateTexts[g.Verdict], string(g.Verdict)}
		suite.Failures++
	}
	suite.Cases = append(suite.Cases, whole)
	return suite.encode()
}

// JUnitError is a gate that could not decide, as JUnit XML: an error, never green.
func JUnitError(day int, err error) ([]byte, error) {
	name := fmt.Sprintf("nexus gate day%02d", day)
	hostname, _ := os.Hostname() // encode names another when this fails
	suite := junitSuite{Name: name, Timestamp: junitTime(time.Now()), Hostname: hostname, Errors: 1, Cases: []junitCase{{Name: "verdict", Class: name, Error: &junitMessage{err.Error(), "error"}}}}
	return suite.encode()
}

func junitTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05") }

func (s *junitSuite) encode() ([]byte, error) {
	s.Tests = len(s.Cases)
	s.Time = "0"
	if s.Hostname == "" {
		s.Hostname = "localhost"
	}
	for i := range s.Cases {
		s.Cases[i].Time = "0"
	}
	encoded, err := xml.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode JUnit XML: %w", err)
	}
	return append(append([]byte(xml.Header), encoded...), '\n'), nil
}
