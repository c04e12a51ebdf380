package reports

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"sync"
	"time"

	"github.com/nexuscore-labs/nexus/reports/chart"
)

//go:embed templates
var templateFiles embed.FS

// page is what the HTML template gets.
type page struct {
	*Result
	Heading, Kicker, VerdictText string
	Facts                        []fact
	Headlines, Tables            []table
	Groups                       []figureGroup
}

// fact is one gate as a headline figure.
type fact struct {
	Doc, Value, Detail, Limit string
	Status                    cell
}

func (v *view) htmlText() ([]byte, error) {
	p := page{
		Result: v.Result, Heading: v.heading(), Kicker: v.kicker(), VerdictText: verdictText(v.Verdict),
		Facts: v.facts(), Tables: v.tables(), Groups: v.figureGroups(),
	}
	for _, point := range v.headlines() {
		p.Headlines = append(p.Headlines, v.headlineTable(point))
	}
	return renderHTML("report", p)
}

// pages are the parsed templates; html/template makes concurrent use safe.
var pages = sync.OnceValues(func() (*template.Template, error) {
	css, err := templateFiles.ReadFile("templates/style.css")
	if err != nil {
		return nil, err
	}
	return template.New("").Funcs(template.FuncMap{
		"css": func() template.CSS { return template.CSS(string(css) + chart.CSS) },
		"svg": func(c chart.Chart, wide bool) template.HTML {
			if wide {
				return template.HTML(c.SVG(chart.Wide)) // SVG escapes all text itself
			}
			return template.HTML(c.SVG(chart.Narrow))
		},
	}).ParseFS(templateFiles, "templates/*.tmpl")
})

func renderHTML(name string, data any) ([]byte, error) {
	parsed, err := pages()
	if err != nil {
		return nil, fmt.Errorf("parse templates: %w", err)
	}
	var out bytes.Buffer
	if err := parsed.ExecuteTemplate(&out, name, data); err != nil {
		return nil, fmt.Errorf("render %s: %w", name, err)
	}
	return out.Bytes(), nil
}

func (v *view) heading() string { return fmt.Sprintf("Day %d: %s", v.Day, v.Title) }

func (v *view) kicker() string {
	return fmt.Sprintf("%s · %s mode · %s · took %s", v.Lab, v.Mode, v.StartedAt.UTC().Format("2006-01-02 15:04 MST"),
		time.Duration(v.ElapsedNs).Round(100*time.Millisecond))
}

// verdictText says a verdict with what it means.
func verdictText(v Verdict) string {
	meaning := map[Verdict]string{
		VerdictPass: "✓ PASS", VerdictFail: "✗ FAIL",
		VerdictInconclusive: "? INCONCLUSIVE: a gate is not settled",
		VerdictInvalid:      "! INVALID: this measurement must not be trusted",
	}
	return meaning[v]
}

func (v *view) facts() []fact {
	var facts []fact
	for _, g := range v.Gates {
		f := fact{Doc: g.Doc, Value: g.Quantity().FormatPtr(g.Value), Detail: g.where(), Limit: "limit " + g.LimitText(), Status: status(g.Status)}
		if g.CI != nil {
			f.Detail = bounds(g.Quantity(), g.CI) + " " + f.Detail
		}
		facts = append(facts, f)
	}
	return facts
}
