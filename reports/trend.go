package reports

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	pretty "github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/nexuscore-labs/nexus/reports/changepoint"
	"github.com/nexuscore-labs/nexus/reports/chart"
	"github.com/nexuscore-labs/nexus/reports/quantity"
)

// trendValuesMax is how many of the newest runs a trend looks at.
const trendValuesMax = 400

// Trend is a history's series with the changes in them.
type Trend struct {
	Series  []TrendSeries `json:"series"`
	Broken  int           `json:"broken_lines"`  // of the file, as a crash leaves one
	LeftOut int           `json:"runs_left_out"` // of other machines, scenarios' versions or modes
}

// TrendSeries is one measure over time.
type TrendSeries struct {
	HistorySeries               // Value is the newest
	Lab           string        `json:"lab"`
	Scenario      string        `json:"scenario"`
	Mode          string        `json:"mode"`
	Times         []string      `json:"times"`
	Values        []float64     `json:"values"`
	Changes       []TrendChange `json:"changes"`
}

// TrendChange is one change of a series.
type TrendChange struct {
	changepoint.Change
	Time    string `json:"time"`    // of the first run after it
	Version string `json:"version"` // of that run
	Verdict string `json:"verdict"` // improved, regressed
}

// TrendOptions of NewTrend; the zero value has the defaults.
type TrendOptions struct {
	Alpha     float64 // of each series' changes; 0 is 0.01
	MinEffect float64 // smaller changes are not shown; 0 is DefaultMinEffect
	Seed      uint64
}

// NewTrend finds the changes in a history, for each lab, scenario and mode. Only
// runs like the newest one of their kind take part: the same scenario, and for
// absolute numbers the same machine.
func NewTrend(entries []*HistoryEntry, broken int, opts TrendOptions) (*Trend, error) {
	if len(entries) == 0 {
		return nil, errors.New("trend: the history holds no run")
	}
	if opts.MinEffect == 0 {
		opts.MinEffect = DefaultMinEffect
	}
	t := &Trend{Broken: broken}
	type kind struct{ lab, scenario, mode string }
	kinds := map[kind]bool{}
	for _, e := range slices.Backward(entries) {
		k := kind{e.Lab, e.Scenario, e.Mode}
		if kinds[k] {
			continue
		}
		kinds[k] = true
		var alike []*HistoryEntry
		for _, o := range entries {
			if (kind{o.Lab, o.Scenario, o.Mode}) != k {
				continue
			}
			if o.ScenarioHash == e.ScenarioHash {
				alike = append(alike, o)
			} else {
				t.LeftOut++
			}
		}
		for _, s := range e.Series {
			series, err := trendOf(alike, e, s, opts)
			if err != nil {
				return nil, err
			}
			t.Series = append(t.Series, series)
		}
	}
	return t, nil
}

func trendOf(entries []*HistoryEntry, newest *HistoryEntry, s HistorySeries, opts TrendOptions) (TrendSeries, error) {
	out := TrendSeries{HistorySeries: s, Lab: newest.Lab, Scenario: newest.Scenario, Mode: newest.Mode}
	var versions []string
	for _, e := range entries {
		if s.Against == "" && e.Machine != newest.Machine {
			continue
		}
		i := slices.IndexFunc(e.Series, func(o HistorySeries) bool {
			return o.Subject == s.Subject && o.Against == s.Against && o.Point == s.Point && o.Metric == s.Metric
		})
		if i < 0 {
			continue
		}
		out.Times = append(out.Times, e.StartedAt.Format("2006-01-02 15:04"))
		out.Values = append(out.Values, e.Series[i].Value)
		versions = append(versions, e.NexusVersion)
	}
	if skip := len(out.Values) - trendValuesMax; skip > 0 {
		out.Times, out.Values, versions = out.Times[skip:], out.Values[skip:], versions[skip:]
	}
	changes, err := changepoint.Find(out.Values, changepoint.Options{Alpha: opts.Alpha, Seed: opts.Seed})
	if err != nil {
		return out, fmt.Errorf("trend: %s of %s at %s: %w", s.Metric, s.Subject, s.Point, err)
	}
	for _, c := range changes {
		if math.Abs(c.After/c.Before-1) < opts.MinEffect {
			continue
		}
		change := TrendChange{Change: c, Time: out.Times[c.Index], Version: versions[c.Index], Verdict: Regressed}
		if (c.After > c.Before) == s.Higher {
			change.Verdict = Improved
		}
		out.Changes = append(out.Changes, change)
	}
	return out, nil
}

func (s *TrendSeries) label() string {
	e := BaselineEntry{Subject: s.Subject, Against: s.Against, Point: s.Point, Metric: s.Metric, Higher: s.Higher}
	c := GateCheck{BaselineEntry: e}
	return c.label()
}

func (s *TrendSeries) unit() quantity.Unit {
	c := GateCheck{BaselineEntry: BaselineEntry{Against: s.Against, Metric: s.Metric}}
	return c.unit()
}

// spark draws the newest values from the smallest to the largest, one rune each.
func (s *TrendSeries) spark(columns int) string {
	values := s.Values[max(0, len(s.Values)-columns):]
	low, high := slices.Min(values), slices.Max(values)
	steps := []rune(sparkSteps)
	line := make([]rune, len(values))
	for i, v := range values {
		share := 0.5
		if high > low {
			share = (v - low) / (high - low)
		}
		line[i] = steps[min(len(steps)-1, int(share*float64(len(steps))))]
	}
	return string(line)
}

func (c *TrendChange) text() string {
	return fmt.Sprintf("%s %s on %s", statusMarks[c.Verdict], changeText(c.After/c.Before), c.Time[:len("2006-01-02")])
}

func changeText(ratio float64) string { return fmt.Sprintf("%+.1f%%", 100*(ratio-1)) }

// Terminal writes the trend for people.
func (t *Trend) Terminal(w io.Writer, opts TerminalOptions) error {
	out := newTerminal(w, opts)
	out.line(out.paint(text.Bold, "How the runs changed over time"))
	var rows []pretty.Row
	for i := range t.Series {
		s := &t.Series[i]
		last := ""
		if n := len(s.Changes); n > 0 {
			last = out.paint(statusColour(s.Changes[n-1].Verdict), s.Changes[n-1].text())
		}
		rows = append(rows, pretty.Row{s.label(), len(s.Values), s.spark(30), s.unit().Format(s.Value), last})
	}
	out.table(pretty.Row{"what", "runs", "trend", "newest", "newest change"}, rows, map[int]bool{1: true, 3: true})
	out.wrapped("", t.note())
	return out.err
}

func (t *Trend) note() string {
	note := "Changes by E-divisive means with permutation significance; at least three runs on each side."
	if t.LeftOut > 0 {
		note += fmt.Sprintf(" Left out: %d runs of another version of their scenario.", t.LeftOut)
	}
	if t.Broken > 0 {
		note += fmt.Sprintf(" Passed over: %d broken lines.", t.Broken)
	}
	return note
}

// HTML is the trend as one page with a chart for each series.
func (t *Trend) HTML() ([]byte, error) {
	page := struct {
		Heading, Note string
		Figures       []chart.Chart
		Changes       table
	}{Heading: "NexusCore labs: the runs over time", Note: t.note(), Changes: table{ID: "changes", Title: "Changes",
		Columns: []column{{"what", false}, {"when", false}, {"version", false}, {"before", true}, {"after", true}, {"p", true}, {"verdict", false}}}}
	for i := range t.Series {
		s := &t.Series[i]
		page.Figures = append(page.Figures, s.chart(i))
		for _, c := range s.Changes {
			page.Changes.Rows = append(page.Changes.Rows, []cell{plain(s.label()), plain(c.Time), plain(c.Version), plain(s.unit().Format(c.Before)), plain(s.unit().Format(c.After)),
				plain(quantity.Digits(c.P)), status(c.Verdict)})
		}
	}
	return renderHTML("trend", page)
}

func (s *TrendSeries) chart(i int) chart.Chart {
	c := chart.Chart{Name: fmt.Sprintf("trend-%d", i), Title: s.label(), Caption: fmt.Sprintf("%s, %s: medians of %d runs; the thin line is the mean between changes.", s.Scenario, s.Mode, len(s.Values)),
		X: chart.Axis{Label: "run", Unit: quantity.Count}, Y: chart.Axis{Label: s.Metric, Unit: s.unit()}}
	line := chart.Line{Name: s.Subject, Style: chart.Style{Role: RoleSubject}, Dots: true}
	level := chart.Line{Name: "mean", Style: chart.Style{Role: RoleBaseline}}
	next, mean := 0, meanOf(s.Values)
	for x, v := range s.Values {
		if next < len(s.Changes) {
			mean = s.Changes[next].Before
		}
		if next < len(s.Changes) && x == s.Changes[next].Index {
			mean = s.Changes[next].After
			next++
		} else if next > 0 && next == len(s.Changes) {
			mean = s.Changes[next-1].After
		}
		line.X, line.Y = append(line.X, float64(x+1)), append(line.Y, v)
		level.X, level.Y = append(level.X, float64(x+1)), append(level.Y, mean)
	}
	c.Lines = []chart.Line{line, level}
	for _, change := range s.Changes {
		c.Marks = append(c.Marks, chart.Mark{At: float64(change.Index + 1), Name: changeText(change.After / change.Before)})
	}
	return c
}

func meanOf(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}
