package machine

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/rivo/uniseg"
	"golang.org/x/term"
)

// RenderOptions says how findings are shown.
type RenderOptions struct {
	Color   bool // see WantColor
	Verbose bool // every finding on a line of its own, with its detail
	Width   int  // columns; 0: 80
}

// WantColor reports whether f is a terminal that wants colour: NO_COLOR
// (no-color.org) and TERM=dumb say no.
func WantColor(f *os.File) bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}

const (
	widthDefault = 80
	widthMin     = 40
	labelWidth   = 6 // "costs ", "fix   "
)

var marks = map[Status]string{OK: "✓", Warn: "!", Absent: "✗"}

// ANSI colours that read on dark and light grounds; the marks carry the
// meaning without them.
var colours = map[Status]string{OK: "32", Warn: "33", Absent: "31"}

// RenderFindings writes the findings by group: a line for what is fine, and for
// each gap what it costs and how to fix it. It returns the first write error.
func RenderFindings(w io.Writer, findings []Finding, options RenderOptions) error {
	if options.Width == 0 {
		options.Width = widthDefault
	}
	options.Width = max(options.Width, widthMin)
	r := renderer{options: options}
	for _, group := range groupFindings(findings) {
		r.group(group)
	}
	r.summary(findings)
	_, err := io.WriteString(w, r.b.String())
	return err
}

// groupFindings keeps the order in which the groups first appear.
func groupFindings(findings []Finding) [][]Finding {
	index := map[string]int{}
	var groups [][]Finding
	for _, f := range findings {
		i, seen := index[f.Group]
		if !seen {
			i = len(groups)
			index[f.Group] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], f)
	}
	return groups
}

type renderer struct {
	options RenderOptions
	b       strings.Builder
}

func (r *renderer) group(findings []Finding) {
	var fine []string
	var shown []Finding
	worst := OK
	for _, f := range findings {
		if f.Minor && !r.options.Verbose {
			continue
		}
		if !f.Minor {
			worst = worse(worst, f.Status)
		}
		if f.Status == OK && !r.options.Verbose {
			fine = append(fine, f.Title)
			continue
		}
		shown = append(shown, f)
	}
	if len(fine) == 0 && len(shown) == 0 {
		return
	}
	fmt.Fprintf(&r.b, "%s %s\n", r.paint(colours[worst], marks[worst]), r.paint("1", findings[0].Group))
	if len(fine) > 0 {
		r.wrapped("  ", "  ", strings.Join(fine, " · "))
	}
	for _, f := range shown {
		r.finding(f)
	}
	r.b.WriteByte('\n')
}

func (r *renderer) finding(f Finding) {
	r.b.WriteString("  " + r.paint(colours[f.Status], marks[f.Status]) + " ")
	r.wrapped("", "    ", f.Title)
	if f.Detail != "" {
		r.wrapped("    ", "    ", f.Detail)
	}
	if f.Costs != "" {
		r.labelled("costs", f.Costs)
	}
	if f.Fix != "" {
		// A command must survive copying: it is never broken over lines.
		r.b.WriteString("    " + r.paint("2", pad("fix")) + r.paint("1", f.Fix) + "\n")
	}
}

func (r *renderer) labelled(label, text string) {
	indent := strings.Repeat(" ", 4+labelWidth)
	lines := wrapText(text, r.options.Width-len(indent))
	for i, line := range lines {
		lead := indent
		if i == 0 {
			lead = "    " + r.paint("2", pad(label))
		}
		r.b.WriteString(lead + line + "\n")
	}
}

func (r *renderer) wrapped(first, rest, text string) {
	for i, line := range wrapText(text, r.options.Width-len(rest)) {
		lead := rest
		if i == 0 {
			lead = first
		}
		r.b.WriteString(lead + line + "\n")
	}
}

func (r *renderer) summary(findings []Finding) {
	s := Summarise(findings)
	switch {
	case s.Missing == 0 && s.Warn == 0:
		fmt.Fprintf(&r.b, "%s all %d checks are fine\n", r.paint(colours[OK], marks[OK]), s.OK)
	default:
		fmt.Fprintf(&r.b, "%d fine, %d with a limit, %d missing. A lab runs when its own needs are met: nexus list shows them.\n", s.OK, s.Warn, s.Missing)
	}
}

func (r *renderer) paint(code, text string) string {
	if !r.options.Color {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func pad(label string) string { return fmt.Sprintf("%-*s", labelWidth, label) }

func worse(a, b Status) Status {
	if a == Absent || b == Absent {
		return Absent
	}
	if a == Warn || b == Warn {
		return Warn
	}
	return OK
}

// wrapText breaks at spaces; a longer word keeps a line of its own.
func wrapText(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && uniseg.StringWidth(line)+1+uniseg.StringWidth(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// Summary counts findings; minor ones don't count.
type Summary struct {
	OK      int `json:"ok"`
	Warn    int `json:"warn"`
	Missing int `json:"missing"`
}

// Summarise counts the findings by status.
func Summarise(findings []Finding) Summary {
	var s Summary
	for _, f := range findings {
		switch {
		case f.Minor:
		case f.Status == OK:
			s.OK++
		case f.Status == Warn:
			s.Warn++
		default:
			s.Missing++
		}
	}
	return s
}

// FindingsSchemaVersion is the version of WriteFindingsJSON's object.
const FindingsSchemaVersion = 1

// WriteFindingsJSON writes one JSON object: schema_version, summary, findings.
func WriteFindingsJSON(w io.Writer, findings []Finding) error {
	if findings == nil {
		findings = []Finding{}
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(struct {
		SchemaVersion int       `json:"schema_version"`
		Summary       Summary   `json:"summary"`
		Findings      []Finding `json:"findings"`
	}{FindingsSchemaVersion, Summarise(findings), findings})
}
