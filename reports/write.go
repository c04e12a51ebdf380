package reports

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nexuscore-labs/nexus/reports/chart"
)

// plotFile is one chart with where its two files are.
type plotFile struct {
	chart            chart.Chart
	svgPath, pngPath string // relative to the run folder
}

// WriteAll writes everything that is made from r into dir, which must exist, and
// sets r.Artifacts: report.html, report.md, bench.txt, plots/*.svg, plots/*.png
// and, last, so that its presence means that all others are there, result.json.
// A result that contradicts itself is refused before anything is written.
func WriteAll(dir string, r *Result) error {
	if err := r.Validate(); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	v, err := newView(r)
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	r.Artifacts = map[string]string{"html": "report.html", "markdown": "report.md", "bench": "bench.txt", "json": "result.json"}
	plots, err := v.writePlots(dir)
	if err != nil {
		return err
	}
	page, err := v.htmlText()
	if err != nil {
		return err
	}
	err = errors.Join(
		writeFile(filepath.Join(dir, "report.html"), page),
		writeFile(filepath.Join(dir, "report.md"), v.markdown(plots)),
		writeFile(filepath.Join(dir, "bench.txt"), benchText(r)),
	)
	if err != nil {
		return err
	}
	return Save(filepath.Join(dir, "result.json"), r)
}

func (v *view) writePlots(dir string) ([]plotFile, error) {
	if err := os.MkdirAll(filepath.Join(dir, "plots"), 0o755); err != nil {
		return nil, fmt.Errorf("write plots: %w", err)
	}
	var plots []plotFile
	for _, c := range v.figures() {
		svg, png, err := c.Files()
		if err != nil {
			return nil, err
		}
		p := plotFile{c, "plots/" + c.Name + ".svg", "plots/" + c.Name + ".png"}
		err = errors.Join(writeFile(filepath.Join(dir, p.svgPath), svg), writeFile(filepath.Join(dir, p.pngPath), png))
		if err != nil {
			return nil, err
		}
		v.Artifacts["plot:"+c.Name] = p.svgPath
		v.Artifacts["plot-png:"+c.Name] = p.pngPath
		plots = append(plots, p)
	}
	return plots, nil
}
