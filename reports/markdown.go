package reports

import (
	"bytes"
	"fmt"
	"strings"
)

// markdown is report.md: what the HTML shows, with the plots by their paths.
func (v *view) markdown(plots []plotFile) []byte {
	var out bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	line("# %s\n", markdownText(v.heading()))
	line("*%s*\n", markdownText(v.kicker()))
	line("**Question.** %s\n", markdownText(v.Question))
	line("**Verdict: %s**\n", verdictText(v.Verdict))
	for _, reason := range v.Reasons {
		line("- %s", markdownText(reason))
	}
	if len(v.Reasons) > 0 {
		line("")
	}
	for _, warning := range v.AllWarnings() {
		line("- **Warning:** %s", markdownText(warning))
	}
	for _, sentence := range v.summary() {
		line("- %s", markdownText(sentence))
	}
	line("")
	for _, point := range v.headlines() {
		markdownTable(&out, v.headlineTable(point))
	}
	for _, p := range plots {
		line("![%s](%s)\n", markdownText(p.chart.Title), p.svgPath)
		line("*%s*\n", markdownText(p.chart.Caption))
	}
	for _, t := range v.tables() {
		markdownTable(&out, t)
	}
	line("## How it was measured\n")
	for _, by := range v.MeasuredBy {
		line("- %s", markdownText(by))
	}
	if len(v.MeasuredBy) == 0 {
		line("- no kernel probes were attached")
	}
	line("\nNot measured:\n")
	for _, not := range v.NotMeasured {
		line("- %s", markdownText(not))
	}
	if len(v.NotMeasured) == 0 {
		line("- nothing was left out")
	}
	line("\n## Repeat it\n\n```\n%s\n```\n", v.Command)
	line("Scenario `%s` (SHA-256 `%s`), seed %d.", v.Scenario, v.ScenarioHash, v.Seed)
	return out.Bytes()
}

func markdownTable(out *bytes.Buffer, t table) {
	if len(t.Rows) == 0 {
		return
	}
	fmt.Fprintf(out, "## %s\n\n", markdownText(t.Title))
	if t.Note != "" {
		fmt.Fprintf(out, "%s\n\n", markdownText(t.Note))
	}
	if t.Code != "" {
		fmt.Fprintf(out, "```\n%s\n```\n\n", t.Code)
	}
	for _, c := range t.Columns {
		fmt.Fprintf(out, "| %s ", markdownText(c.Name))
	}
	out.WriteString("|\n")
	for _, c := range t.Columns {
		if c.Numeric {
			out.WriteString("| ---: ")
		} else {
			out.WriteString("| --- ")
		}
	}
	out.WriteString("|\n")
	for _, row := range t.Rows {
		for _, c := range row {
			content := markdownText(c.Text)
			if c.Class == "code" && content != "" {
				content = "`" + c.Text + "`"
			}
			fmt.Fprintf(out, "| %s ", content)
		}
		out.WriteString("|\n")
	}
	out.WriteString("\n")
}

var markdownEscapes = strings.NewReplacer("|", "\\|", "\n", " ", "*", "\\*", "_", "\\_", "`", "\\`", "<", "&lt;", "[", "\\[", "]", "\\]")

func markdownText(text string) string { return markdownEscapes.Replace(text) }
