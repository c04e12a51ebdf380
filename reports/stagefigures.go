package reports

import (
	"fmt"
	"image/color"
	"math"
	"strings"

	"github.com/nexuscore-labs/nexus/reports/chart"
	"github.com/nexuscore-labs/nexus/reports/quantity"
	"github.com/nexuscore-labs/nexus/reports/stats"
)

// stageColours are Okabe and Ito's, which colour-blind readers tell apart, and
// greys for the generator's own stages.
var stageColours = map[string]color.RGBA{
	"schedule lag":   {0xb0, 0xb0, 0xb0, 0xff},
	"generator":      {0x80, 0x80, 0x80, 0xff},
	"network in":     {0x56, 0xb4, 0xe9, 0xff},
	"run queue":      {0xe6, 0x9f, 0x00, 0xff},
	"on CPU":         {0x00, 0x9e, 0x73, 0xff},
	"blocked: disk":  {0xd5, 0x5e, 0x00, 0xff},
	"blocked: lock":  {0x8c, 0x3d, 0x00, 0xff},
	"blocked: sleep": {0xcc, 0x79, 0xa7, 0xff},
	"blocked: other": {0xd8, 0xc8, 0x2a, 0xff},
	"network out":    {0x00, 0x72, 0xb2, 0xff},
	StageUnexplained: {0xc0, 0x20, 0x40, 0xff},
}

// staged are the points that have a breakdown, in order.
func (v *view) staged() []string {
	var out []string
	for _, s := range v.sweep {
		for _, c := range v.Contenders {
			if p := v.results[place{c.Name, s.name}]; p != nil && p.Stages != nil {
				out = append(out, s.name)
				break
			}
		}
	}
	return out
}

func (b *StageBand) name() string {
	return fmt.Sprintf("p%g–p%g", b.FromPercentile, b.ToPercentile)
}

// stageBars show where the time went at a point: a bar per contender and band.
func (v *view) stageBars(point string) chart.Chart {
	c := chart.Chart{
		Name: stem("stages", point), Title: "Where the time went at " + point,
		Caption: "Share of the client's latency spent in each stage, by band of the latency distribution, from packets and threads in the kernel. Beside each bar: the mean latency of the band.",
		X:       chart.Axis{Label: "share of the latency →", Unit: quantity.Share, Zero: true},
	}
	for _, contender := range v.Contenders {
		p := v.results[place{contender.Name, point}]
		if p == nil || p.Stages == nil {
			continue
		}
		for i := range p.Stages.Bands {
			band := &p.Stages.Bands[i]
			if band.Joined == 0 {
				continue
			}
			row := chart.StackRow{Name: contender.Name + " " + band.name(), Style: v.styles[contender.Name], Note: quantity.Ns.Format(band.ClientMeanNs)}
			total := 0.0
			for _, s := range band.Stages {
				total += math.Max(0, s.MeanNs)
			}
			for _, s := range band.Stages {
				if len(c.Keys) < len(band.Stages) {
					c.Keys = append(c.Keys, chart.StackKey{Name: s.Name, Colour: stageColours[s.Name]})
				}
				row.Shares = append(row.Shares, math.Max(0, s.MeanNs)/total)
			}
			c.Stacks = append(c.Stacks, row)
		}
	}
	return c
}

// stageTable has the numbers behind stageBars.
func (v *view) stageTable(point string) table {
	t := table{
		ID: stem("stage-times", point), Title: "Stages of a request at " + point,
		Note: "Mean time per request in each stage, by band of the latency distribution. “Off” is how far the sum of the explained stages is from what the client saw, over the requests of all trials together; a threshold on it takes each trial by itself, where errors of either sign cannot cancel out. “On CPU” holds work for requests that came before; a wait for another thread of the contender is charged with what that thread did. Stages in which nobody spent any time are left out.",
	}
	taken := v.stagesTaken(point)
	for _, contender := range v.Contenders {
		p := v.results[place{contender.Name, point}]
		if p == nil || p.Stages == nil {
			continue
		}
		for i := range p.Stages.Bands {
			band := &p.Stages.Bands[i]
			if len(t.Columns) == 0 {
				t.Columns = []column{{"contender", false}, {"band", false}, {"requests", true}, {"joined", true}, {"client saw", true}}
				for _, s := range band.Stages {
					if taken[s.Name] {
						t.Columns = append(t.Columns, column{s.Name, true})
					}
				}
				t.Columns = append(t.Columns, column{"off", true})
			}
			requests := float64(band.Requests)
			row := []cell{{contender.Name, contender.Role}, plain(band.name()), number(quantity.Count, &requests), {Text: quantity.NotMeasured, Class: "absent"}, number(quantity.Ns, &band.ClientMeanNs)}
			if band.Requests > 0 {
				share := float64(band.Joined) / requests
				row[3] = number(quantity.Share, &share)
			}
			for k := range band.Stages {
				if !taken[band.Stages[k].Name] {
					continue
				}
				ns := &band.Stages[k].MeanNs
				if band.Joined == 0 {
					ns = nil
				}
				row = append(row, number(quantity.Ns, ns))
			}
			t.Rows = append(t.Rows, append(row, number(quantity.Share, band.ErrorShare)))
		}
	}
	return t
}

// stagesTaken are the stages that took any contender any time at a point.
func (v *view) stagesTaken(point string) map[string]bool {
	taken := map[string]bool{}
	for _, contender := range v.Contenders {
		p := v.results[place{contender.Name, point}]
		if p == nil || p.Stages == nil {
			continue
		}
		for i := range p.Stages.Bands {
			for _, s := range p.Stages.Bands[i].Stages {
				taken[s.Name] = taken[s.Name] || s.MeanNs != 0
			}
		}
	}
	return taken
}

// stageLines say in a line per contender where the time of its requests went.
func (v *view) stageLines() []string {
	var out []string
	for _, point := range v.staged() {
		for _, contender := range v.Contenders {
			p := v.results[place{contender.Name, point}]
			if p == nil || p.Stages == nil || p.Stages.Joined == 0 {
				continue
			}
			out = append(out, fmt.Sprintf("%s at %s: %s; %s", contender.Name, point, p.Stages.shares(), v.offBy(place{contender.Name, point})))
		}
	}
	return out
}

// shares are the stages of all joined requests that took a percent or more.
func (s *StageBreakdown) shares() string {
	var names []string
	sums := map[string]float64{}
	total := 0.0
	for i := range s.Bands {
		for _, stage := range s.Bands[i].Stages {
			if _, seen := sums[stage.Name]; !seen {
				names = append(names, stage.Name)
			}
			ns := stage.MeanNs * float64(s.Bands[i].Joined)
			sums[stage.Name] += ns
			total += ns
		}
	}
	var parts []string
	for _, name := range names {
		if share := sums[name] / total; share >= 0.01 {
			parts = append(parts, fmt.Sprintf("%s %.0f%%", name, 100*share))
		}
	}
	return strings.Join(parts, ", ")
}

// offBy says how well the stages add up, by the number that a threshold on
// stages_error_share judges: the median over trials of each trial's worst band.
// In the requests of all trials together, errors of either sign would cancel out.
func (v *view) offBy(at place) string {
	var worst []float64
	seen := 0
	for _, t := range v.trials[at] {
		if t.Stages == nil {
			continue
		}
		seen++
		if share := t.Stages.ErrorShareMax(); !math.IsNaN(share) {
			worst = append(worst, share)
		}
	}
	text := "the stages add up to what the client saw within %s in every band"
	if whole := v.results[at]; seen == 0 && whole != nil && whole.Stages != nil && !math.IsNaN(whole.Stages.ErrorShareMax()) {
		return fmt.Sprintf(text, quantity.Share.Format(whole.Stages.ErrorShareMax())) + " (all trials together)"
	}
	if len(worst) == 0 {
		return "in each trial a band is without any request that could be followed"
	}
	text = fmt.Sprintf(text, quantity.Share.Format(stats.Median(worst)))
	if len(worst) > 1 {
		text += fmt.Sprintf(" (median of %d trials)", len(worst))
	}
	return text
}
