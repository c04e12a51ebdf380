package calibration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"

	"golang.org/x/perf/benchfmt"
	"golang.org/x/perf/benchmath"

	"github.com/nexuscore-labs/nexus/reports/stats"
)

// reference is what golden/reference.py says of the recorded data.
type reference struct {
	By      string `json:"by"`
	Samples []struct {
		Name       string  `json:"name"`
		Mean       float64 `json:"mean"`
		StdDev     float64 `json:"stddev"`
		Median     float64 `json:"median"`
		Lo         float64 `json:"lo"`
		Hi         float64 `json:"hi"`
		Confidence float64 `json:"confidence"`
		BootLo     float64 `json:"boot_lo"`
		BootHi     float64 `json:"boot_hi"`
		Ratio      float64 `json:"ratio"`
		U          float64 `json:"u"`
		P          float64 `json:"p"`
		PNormal    float64 `json:"p_normal"`
		PHolm      float64 `json:"p_holm"`
	} `json:"samples"`
	Series []struct {
		Name       string     `json:"name"`
		Lag1       float64    `json:"lag1"`
		Lag7       float64    `json:"lag7"`
		Effective  float64    `json:"effective"`
		Batch      [2]float64 `json:"batch"`
		SteadyFrom int        `json:"steady_from"`
	} `json:"series"`
}

// recorded are the trials of one recorded run (Day 7, quick) by benchmark and unit.
func recorded(side string) (map[string][]float64, error) {
	text, err := files.ReadFile("recorded/" + side + ".txt")
	if err != nil {
		return nil, err
	}
	out := map[string][]float64{}
	reader := benchfmt.NewReader(bytes.NewReader(text), side)
	for reader.Scan() {
		result, ok := reader.Result().(*benchfmt.Result)
		if !ok {
			continue
		}
		for _, v := range result.Values {
			value, unit := v.Value, v.Unit
			if v.OrigUnit != "" {
				value, unit = v.OrigValue, v.OrigUnit
			}
			key := "Benchmark" + string(result.Name) + " " + unit
			out[key] = append(out[key], value)
		}
	}
	if err := reader.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", side, err)
	}
	return out, nil
}

// paces are recorded series of trials, by contender and round.
func paces() (map[string][]float64, error) {
	text, err := files.ReadFile("recorded/pace.json")
	if err != nil {
		return nil, err
	}
	var trials []struct {
		Contender string    `json:"contender"`
		Round     int       `json:"round"`
		Answered  []float64 `json:"answered"`
	}
	if err := json.Unmarshal(text, &trials); err != nil {
		return nil, fmt.Errorf("read pace.json: %w", err)
	}
	out := map[string][]float64{}
	for _, t := range trials {
		out[fmt.Sprintf("%s round %d", t.Contender, t.Round)] = t.Answered
	}
	return out, nil
}

// kinds gathers answers by statistic, to keep the worst of each.
type kinds struct {
	order []string
	by    map[string][]Answer
}

func (k *kinds) add(a Answer) {
	if k.by == nil {
		k.by = map[string][]Answer{}
	}
	if k.by[a.Statistic] == nil {
		k.order = append(k.order, a.Statistic)
	}
	k.by[a.Statistic] = append(k.by[a.Statistic], a)
}

func (k *kinds) worst() []Answer {
	var out []Answer
	for _, name := range k.order {
		out = append(out, worst(k.by[name]))
	}
	return out
}

func scipyAnswers() ([]Answer, error) {
	text, err := files.ReadFile("golden/reference.json")
	if err != nil {
		return nil, err
	}
	var ref reference
	if err := json.Unmarshal(text, &ref); err != nil {
		return nil, fmt.Errorf("read reference.json: %w", err)
	}
	a, err := recorded("a")
	if err != nil {
		return nil, err
	}
	b, err := recorded("b")
	if err != nil {
		return nil, err
	}
	const exact = 1e-12
	var found kinds
	p := make([]float64, len(ref.Samples))
	for i, s := range ref.Samples {
		before, after := a[s.Name], b[s.Name]
		ci, boot := stats.MedianCI(before, 0), stats.BootstrapMedianCI(before, 1)
		u, exactP := stats.MannWhitney(before, after)
		p[i] = exactP
		source := ref.By + ", recorded runs"
		found.add(answer("mean", source, s.Mean, stats.Mean(before), exact))
		found.add(answer("standard deviation", source, s.StdDev, stats.StdDev(before), 1e-9))
		found.add(answer("median", source, s.Median, stats.Median(before), exact))
		found.add(answer("median's interval, low", source, s.Lo, ci.Lo, exact))
		found.add(answer("median's interval, high", source, s.Hi, ci.Hi, exact))
		found.add(answer("interval's confidence", source, s.Confidence, ci.Confidence, exact))
		found.add(answer("ratio of medians", source, s.Ratio, stats.MedianRatioCI(after, before, 1).Center, exact))
		found.add(answer("Mann–Whitney U", source, s.U, u, 0))
		found.add(answer("Mann–Whitney p", source, s.P, exactP, 1e-9))
		// Both draw at random: their bounds may lie one order statistic apart.
		spread := 0.25 * (s.BootHi - s.BootLo) / s.Median
		found.add(answer("bootstrap interval, low", source, s.BootLo, boot.Lo, math.Max(spread, exact)))
		found.add(answer("bootstrap interval, high", source, s.BootHi, boot.Hi, math.Max(spread, exact)))
	}
	for i, adjusted := range stats.Holm(p) {
		found.add(answer("Holm's adjusted p", ref.By+", recorded runs", ref.Samples[i].PHolm, adjusted, 1e-9))
	}
	return append(found.worst(), seriesAnswers(&ref)...), nil
}

func seriesAnswers(ref *reference) []Answer {
	recordedPaces, err := paces()
	if err != nil {
		return []Answer{{Statistic: err.Error(), Source: "pace.json"}}
	}
	var found kinds
	for _, s := range ref.Series {
		series := recordedPaces[s.Name]
		for _, set := range nist {
			if set.name == s.Name {
				series, _ = set.series() // read before, for NIST's own answers
			}
		}
		source := ref.By + ", recorded trials and NIST"
		ci := stats.BatchMeansCI(series)
		found.add(answer("autocorrelation, lag 1", source, s.Lag1, stats.Autocorrelation(series, 1), 1e-9))
		found.add(answer("autocorrelation, lag 7", source, s.Lag7, stats.Autocorrelation(series, 7), 1e-9))
		found.add(answer("effective samples", source, s.Effective, stats.EffectiveSamples(series), 1e-9))
		found.add(answer("batch means, low", source, s.Batch[0], ci.Lo, 1e-9))
		found.add(answer("batch means, high", source, s.Batch[1], ci.Hi, 1e-9))
		settling, ok := stats.Settle(series, 0)
		if !ok {
			settling.From = -1
		}
		found.add(answer("end of the warm-up (MSER-5)", source, float64(s.SteadyFrom), float64(settling.From), 0))
	}
	return found.worst()
}

// benchstatAnswers holds the recorded runs against benchmath, the library that
// benchstat prints from. Its exact p doubles one tail, which is the permutation
// one only without ties, so samples with ties are left out.
func benchstatAnswers() ([]Answer, error) {
	a, err := recorded("a")
	if err != nil {
		return nil, err
	}
	b, err := recorded("b")
	if err != nil {
		return nil, err
	}
	var found kinds
	thresholds := benchmath.DefaultThresholds
	for name, before := range a {
		after := b[name]
		if len(after) == 0 || tied(before, after) {
			continue
		}
		x, y := benchmath.NewSample(append([]float64(nil), before...), &thresholds), benchmath.NewSample(append([]float64(nil), after...), &thresholds)
		_, p := stats.MannWhitney(before, after)
		const source = "benchstat's benchmath, recorded runs"
		found.add(answer("median", source, benchmath.AssumeNothing.Summary(x, stats.Confidence).Center, stats.Median(before), 1e-12))
		found.add(answer("Mann–Whitney p", source, benchmath.AssumeNothing.Compare(x, y).P, p, 1e-9))
		if len(before) >= 6 { // with fewer it answers ±∞
			summary, ours := benchmath.AssumeNothing.Summary(x, stats.Confidence), stats.OrderStatCI(before)
			if math.Abs(summary.Confidence-ours.Confidence) < 1e-9 { // it may drop one value at one end only
				found.add(answer("order statistics, low", source, summary.Lo, ours.Lo, 0))
				found.add(answer("order statistics, high", source, summary.Hi, ours.Hi, 0))
			}
		}
	}
	return found.worst(), nil
}

func tied(samples ...[]float64) bool {
	seen := map[float64]bool{}
	for _, sample := range samples {
		for _, v := range sample {
			if seen[v] {
				return true
			}
			seen[v] = true
		}
	}
	return false
}
