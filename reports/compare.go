package reports

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/nexuscore-labs/nexus/reports/quantity"
	"github.com/nexuscore-labs/nexus/reports/stats"
)

// Verdict words of one change.
const (
	Improved  = "improved"
	Regressed = "regressed"
	NoChange  = "no change"
	CantTell  = "can't tell"
)

// CompareOptions of Compare; the zero value has the defaults.
type CompareOptions struct {
	Force     bool    // compare unlike results too; the differences are then in the Comparison
	MinEffect float64 // relative change that matters; 0 is DefaultMinEffect
	Alpha     float64 // chance of any false alarm in the whole table; 0 is DefaultAlpha
	Seed      uint64  // of the bootstrap
}

// Defaults of CompareOptions and GateOptions.
const (
	DefaultMinEffect = 0.03
	DefaultAlpha     = 0.05
)

// Comparison is what changed from runs A to runs B.
type Comparison struct {
	A           string       `json:"a"` // which runs, for people
	B           string       `json:"b"`
	Forced      []Difference `json:"forced"` // fields that differ, when told to compare nevertheless
	MinEffect   float64      `json:"min_effect"`
	Alpha       float64      `json:"alpha"`
	Changes     []Change     `json:"changes"`
	NotMeasured []string     `json:"not_measured"` // what only one side has

	before, after []*Result
}

// Change is one measure of one contender at one point, before (A) and after (B).
type Change struct {
	Contender string    `json:"contender"`
	Role      string    `json:"role"`
	Point     string    `json:"point"`
	Metric    string    `json:"metric"`
	Unit      string    `json:"unit"`
	Higher    bool      `json:"higher_is_better"`
	Before    *Interval `json:"before"`
	After     *Interval `json:"after"`
	Ratio     *Interval `json:"ratio"`      // after / before
	P         *float64  `json:"p"`          // Mann–Whitney
	PAdjusted *float64  `json:"p_adjusted"` // after Holm over the table
	Headline  bool      `json:"headline"`   // see Comparison.judge
	Verdict   string    `json:"verdict"`
	Why       string    `json:"why,omitempty"` // of can't tell
	// TrialsNeeded is how many trials a side would settle a change of the minimum
	// effect in four comparisons of five; of can't tell, 0 when unknown.
	TrialsNeeded int `json:"trials_needed,omitempty"`

	before, after []float64
}

// Compare says what changed from runs a to runs b. Results that differ in
// schema, scenario or fingerprint are refused with an *UnlikeError unless
// forced; invalid or wrong ones always.
func Compare(a, b []*Result, opts CompareOptions) (*Comparison, error) {
	if len(a) == 0 || len(b) == 0 {
		return nil, errors.New("compare: one side has no results")
	}
	all := slices.Concat(a, b)
	c := &Comparison{A: runNames(a), B: runNames(b), MinEffect: opts.MinEffect, Alpha: opts.Alpha, before: a, after: b}
	if c.MinEffect == 0 {
		c.MinEffect = DefaultMinEffect
	}
	if c.Alpha == 0 {
		c.Alpha = DefaultAlpha
	}
	for _, r := range all {
		if err := untrusted(r); err != nil {
			return nil, fmt.Errorf("compare: run of %s: %w", r.StartedAt.UTC().Format("2006-01-02 15:04:05"), err)
		}
		found := slices.Concat(scenarioDifferences(all[0], r), environmentDifferences(&all[0].Environment, &r.Environment))
		for _, d := range found {
			if !slices.Contains(c.Forced, d) {
				c.Forced = append(c.Forced, d)
			}
		}
	}
	if len(c.Forced) > 0 && !opts.Force {
		return nil, &UnlikeError{c.Forced}
	}
	if err := c.collect(opts.Seed); err != nil {
		return nil, fmt.Errorf("compare: %w", err)
	}
	if len(c.Changes) == 0 {
		return nil, errors.New("compare: the results have no contender, point and measure in common")
	}
	c.judge()
	return c, nil
}

func runNames(runs []*Result) string {
	name := runs[0].StartedAt.UTC().Format("2006-01-02 15:04:05")
	if version := runs[0].Environment.NexusVersion; version != "" {
		name = version + " of " + name
	}
	if len(runs) > 1 {
		name += fmt.Sprintf(" and %d more", len(runs)-1)
	}
	return name
}

// collect makes a Change of everything that both sides measured.
func (c *Comparison) collect(seed uint64) error {
	v, err := pooledView(c.before)
	if err != nil {
		return err
	}
	headlines := v.headlines()
	for _, contender := range c.before[0].Contenders {
		for _, at := range placesOf(c.before, contender.Name) {
			if why := unlikeLoad(c.before, c.after, at); why != "" {
				c.NotMeasured = append(c.NotMeasured, fmt.Sprintf("%s at %s: %s", at.contender, at.point, why))
				continue
			}
			for _, m := range measures {
				before, after := sample(c.before, at, m), sample(c.after, at, m)
				if len(before) == 0 && len(after) == 0 {
					continue
				}
				if len(before) == 0 || len(after) == 0 {
					c.NotMeasured = append(c.NotMeasured, fmt.Sprintf("%s of %s at %s: only one side has it", m.name, at.contender, at.point))
					continue
				}
				change := Change{Contender: contender.Name, Role: contender.Role, Point: at.point, Metric: m.name, Unit: string(m.unit), Higher: m.higher,
					Headline: contender.Role == RoleSubject && slices.Contains(headlines, at.point) && m.tells(v.sweep[v.pointIndex(at.point)].closed),
					before:   before, after: after,
					Before: stats.MedianCI(before, seed).Ptr(), After: stats.MedianCI(after, seed).Ptr(), Ratio: stats.MedianRatioCI(after, before, seed).Ptr()}
				if _, p := stats.MannWhitney(after, before); !math.IsNaN(p) {
					change.P = &p
				}
				c.Changes = append(c.Changes, change)
			}
		}
	}
	return nil
}

// costingSuffix marks the points of trials that measured what the probes cost.
const costingSuffix = "/probes=toggled"

// offeredOffMax is how far apart two offered rates may be that count as the same.
const offeredOffMax = 0.02

// unlikeLoad says that the two sides were offered other rates: whatever differs may
// be the rate's doing. A rate may be measured anew in each run.
func unlikeLoad(before, after []*Result, at place) string {
	low, high := math.Inf(1), 0.0
	for _, r := range slices.Concat(before, after) {
		for i := range r.Trials {
			if t := &r.Trials[i]; t.Contender == at.contender && t.Point == at.point && t.OfferedPerS > 0 {
				low, high = min(low, t.OfferedPerS), max(high, t.OfferedPerS)
			}
		}
	}
	if high <= low*(1+offeredOffMax) || math.IsInf(low, 1) {
		return ""
	}
	perS := quantity.Of("per_s")
	return fmt.Sprintf("offered %s to %s, so nothing of it can be compared: give both runs one rate, --set points.NAME.rate=%s", perS.Format(low), perS.Format(high), perS.Format(low))
}

func placesOf(runs []*Result, contender string) []place {
	var places []place
	for _, r := range runs {
		for _, t := range r.Trials {
			if strings.HasSuffix(t.Point, costingSuffix) {
				continue // the probes were switched on and off all the time
			}
			if at := (place{t.Contender, t.Point}); t.Contender == contender && !slices.Contains(places, at) {
				places = append(places, at)
			}
		}
	}
	slices.SortStableFunc(places, func(a, b place) int {
		return pointOrder(runs[0], a.point) - pointOrder(runs[0], b.point)
	})
	return places
}

func pointOrder(r *Result, point string) int {
	return slices.IndexFunc(r.Points, func(p PointResult) bool { return p.Point == point })
}

// judge corrects the p-values and gives each change its word. There are two
// families: the headline (the subject at the points that the gates judge, in the
// measures that mean something there) and all else. Otherwise the many rows that
// nobody asked about would leave the few that matter no chance to show anything.
func (c *Comparison) judge() {
	for _, headline := range []bool{true, false} {
		var family []*Change
		var p []float64
		for i := range c.Changes {
			change := &c.Changes[i]
			if change.Headline != headline {
				continue
			}
			family = append(family, change)
			p = append(p, math.NaN())
			if change.P != nil {
				p[len(p)-1] = *change.P
			}
		}
		for i, adjusted := range stats.Holm(p) {
			family[i].judge(adjusted, len(family), c.Alpha, c.MinEffect)
		}
	}
}

func (c *Change) judge(adjusted float64, family int, alpha, minEffect float64) {
	if !math.IsNaN(adjusted) {
		c.PAdjusted = &adjusted
	}
	c.Verdict, c.Why = word(c.Ratio, adjusted, c.Higher, alpha, minEffect)
	if c.Verdict != CantTell {
		return
	}
	if least := stats.LeastP(len(c.before), len(c.after)) * float64(family); least >= alpha {
		c.Why = fmt.Sprintf("%d and %d trials can't show any change among %d rows", len(c.before), len(c.after), family)
	}
	c.TrialsNeeded = stats.TrialsToResolve(c.before, c.after, minEffect, alpha, family)
	if c.TrialsNeeded > max(len(c.before), len(c.after)) {
		c.Why += fmt.Sprintf("; %s a side would find %s", trialsText(c.TrialsNeeded), quantity.Share.Format(minEffect))
	}
}

// trialsMost is where a number of trials is no advice any more.
const trialsMost = 500

func trialsText(n int) string {
	if n > trialsMost {
		return fmt.Sprintf("more than %d trials", trialsMost)
	}
	return fmt.Sprintf("some %d trials", n)
}

// trialsToTell is short, for tables.
func (c *Change) trialsToTell() string {
	switch {
	case c.TrialsNeeded == 0:
		return ""
	case c.TrialsNeeded > trialsMost:
		return fmt.Sprintf("> %d", trialsMost)
	}
	return fmt.Sprint(c.TrialsNeeded)
}

// wordsNote explains the verdicts to readers.
func (c *Comparison) wordsNote() string {
	effect := quantity.Share.Format(c.MinEffect)
	return fmt.Sprintf("Verdicts: improved or regressed: the Mann–Whitney test rejects after Holm's correction, the interval of the ratio excludes 1, "+
		"and the change is %s or more. No change: the whole interval lies within %s. Can't tell: neither; it needs so many trials a side to find a change of %s in four of five comparisons.",
		effect, effect, effect)
}

// settled says what would settle the headline rows that can't tell, "" when
// there are none or nobody knows.
func (c *Comparison) settled() string {
	rows, most := 0, 0
	for _, change := range c.Changes {
		if change.Headline && change.Verdict == CantTell {
			rows, most = rows+1, max(most, change.TrialsNeeded)
		}
	}
	if rows == 0 || most == 0 {
		return ""
	}
	return fmt.Sprintf("%d headline rows can't tell: %s a side would settle all of them; compare with a larger --min-effect, or run in full mode", rows, trialsText(most))
}

// word is the verdict on a ratio after/before with its p-value. A change needs
// all three: significance, an interval that excludes 1, and the minimum effect.
// "No change" needs evidence too: the whole interval within the minimum effect.
func word(ratio *Interval, p float64, higher bool, alpha, minEffect float64) (verdict, why string) {
	if ratio == nil || !ratio.Valid() || math.IsNaN(p) {
		return CantTell, "too few trials"
	}
	if p < alpha && !ratio.Contains(1) && math.Abs(ratio.Center-1) >= minEffect {
		if (ratio.Center > 1) == higher {
			return Improved, ""
		}
		return Regressed, ""
	}
	if ratio.Lo >= 1-minEffect && ratio.Hi <= 1+minEffect {
		return NoChange, ""
	}
	if p >= alpha {
		return CantTell, fmt.Sprintf("p = %s after correction", quantity.Digits(p))
	}
	return CantTell, "the interval reaches into the minimum effect"
}

// Count is how many changes have the verdict.
func (c *Comparison) Count(verdict string) int {
	n := 0
	for _, change := range c.Changes {
		if change.Verdict == verdict {
			n++
		}
	}
	return n
}

// summary is the outcome in one sentence.
func (c *Comparison) summary() string {
	return fmt.Sprintf("%d improved, %d regressed, %d no change, %d can't tell (Mann–Whitney with Holm, α %s over the headline rows and over the others, minimum effect %s)",
		c.Count(Improved), c.Count(Regressed), c.Count(NoChange), c.Count(CantTell), quantity.Digits(c.Alpha), quantity.Share.Format(c.MinEffect))
}
