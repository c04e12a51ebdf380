package reports

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/nexuscore-labs/nexus/reports/stats"
)

// GateOptions of Decide; the zero value has the defaults.
type GateOptions struct {
	MinEffect float64 // relative change that matters; 0 is DefaultMinEffect
	Alpha     float64 // chance of any false alarm; 0 is DefaultAlpha
	// SuspectAlpha is the chance, without correction, of asking for one more run.
	// Above Alpha it makes the gate find more and cry no more often; 0 is Alpha.
	SuspectAlpha float64
	RunsMin      int           // runs that must agree before red; 0 is 2
	RunsMax      int           // after so many the gate stops asking for more; 0 is 3
	AgeMax       time.Duration // of the baseline; 0 is a year
	Seed         uint64        // of the bootstrap
}

const (
	gateRunsMin = 2
	gateRunsMax = 3
	gateAgeMax  = 365 * 24 * time.Hour
)

func (o GateOptions) withDefaults() GateOptions {
	if o.MinEffect == 0 {
		o.MinEffect = DefaultGateMinEffect
	}
	if o.Alpha == 0 {
		o.Alpha = DefaultAlpha
	}
	if o.SuspectAlpha == 0 {
		o.SuspectAlpha = o.Alpha
	}
	if o.RunsMin == 0 {
		o.RunsMin = gateRunsMin
	}
	if o.RunsMax == 0 {
		o.RunsMax = max(gateRunsMax, o.RunsMin)
	}
	if o.AgeMax == 0 {
		o.AgeMax = gateAgeMax
	}
	return o
}

// DefaultGateMinEffect is the smallest change against a committed baseline that
// counts: below it the moods of one machine look like changes.
const DefaultGateMinEffect = 0.40

// Defaults where two builds run in the same rounds: docs/MEASURING.md has the
// table that they come from.
const (
	ReferencePairs        = 40 // of one run in quick mode: scenarios/day07/gate.yaml
	ReferenceAlpha        = 0.01
	ReferenceSuspectAlpha = 0.2
	ReferenceMinEffect    = 0.02
)

func (o GateOptions) withReferenceDefaults() GateOptions {
	if o.MinEffect == 0 {
		o.MinEffect = ReferenceMinEffect
	}
	if o.Alpha == 0 {
		o.Alpha = ReferenceAlpha
	}
	if o.SuspectAlpha == 0 {
		o.SuspectAlpha = ReferenceSuspectAlpha
	}
	return o.withDefaults()
}

// GateVerdict is what the gate says.
type GateVerdict string

// Verdicts of the gate. Only GatePass is green.
const (
	GatePass         GateVerdict = "pass"
	GateFail         GateVerdict = "fail"         // a regression, confirmed by a further run
	GateInconclusive GateVerdict = "inconclusive" // suspected and not confirmed, or too few trials to see anything
	GateRerun        GateVerdict = "rerun"        // suspected: run again and decide over all runs
)

// GateReport is the gate's decision with everything it looked at.
type GateReport struct {
	Verdict   GateVerdict  `json:"verdict"`
	Day       int          `json:"day"`
	Lab       string       `json:"lab"`
	Runs      int          `json:"runs"`
	Baseline  string       `json:"baseline"`         // when and why it was made
	Absolute  bool         `json:"absolute"`         // whether absolute numbers were compared
	Unlike    []Difference `json:"unlike"`           // why they were not
	Paired    bool         `json:"paired,omitempty"` // two builds in the same rounds, and no baseline file
	MinEffect float64      `json:"min_effect"`
	Alpha     float64      `json:"alpha"`
	Checks    []GateCheck  `json:"checks"`

	suspectAlpha float64
	at           time.Time // of the newest run
	hostname     string
}

// GateCheck is the gate's view of one series of the baseline.
type GateCheck struct {
	BaselineEntry
	Before    *Interval `json:"before"`
	After     *Interval `json:"after"`
	Ratio     *Interval `json:"ratio"` // after / before
	P         *float64  `json:"p"`
	PAdjusted *float64  `json:"p_adjusted"`
	Verdict   string    `json:"verdict"` // improved, regressed, no change, can't tell
	Suspect   bool      `json:"suspect"` // regressed before the correction
	Why       string    `json:"why,omitempty"`

	doubt  bool    // worth one more run
	leastP float64 // the smallest p that so many values can give
	blind  string  // why no change can be shown, "" when one can
}

// StaleError says why a baseline no longer fits what was run.
type StaleError struct{ Why string }

// Error says what to do about it too.
func (e *StaleError) Error() string {
	return "the baseline is stale: " + e.Why + "; look at the change and rewrite it with `nexus gate --update --reason ...`"
}

// Decide compares runs with the baseline. It is pure: equal arguments give the
// equal decision, so the caller can run again on GateRerun and decide anew over
// all runs. now is only for the baseline's age. Whatever is missing, invalid,
// wrong or stale is an error, and an error is never green.
func Decide(b *Baseline, runs []*Result, now time.Time, opts GateOptions) (*GateReport, error) {
	opts = opts.withDefaults()
	if err := b.validate(); err != nil {
		return nil, err
	}
	if err := alike(runs); err != nil {
		return nil, fmt.Errorf("gate: %w", err)
	}
	if err := b.stale(runs[0], now, opts.AgeMax); err != nil {
		return nil, err
	}
	g := &GateReport{Day: b.Day, Lab: b.Lab, Runs: len(runs), MinEffect: opts.MinEffect, Alpha: opts.Alpha, suspectAlpha: opts.SuspectAlpha,
		Baseline: fmt.Sprintf("%s, %s", b.CreatedAt.Format("2006-01-02"), b.Reason),
		Unlike:   environmentDifferences(&b.Environment, &runs[0].Environment)}
	g.Absolute = len(g.Unlike) == 0
	for i := range b.Series {
		if b.Series[i].Against == "" && !g.Absolute {
			continue
		}
		check, err := newCheck(&b.Series[i], runs, opts)
		if err != nil {
			return nil, err
		}
		g.Checks = append(g.Checks, check)
	}
	if len(g.Checks) == 0 {
		return nil, &StaleError{"it holds only absolute numbers, of another machine"}
	}
	g.at, g.hostname = runs[len(runs)-1].StartedAt, runs[0].Environment.Hostname
	g.judge()
	g.Verdict = g.verdict(opts)
	return g, nil
}

func (b *Baseline) stale(r *Result, now time.Time, ageMax time.Duration) error {
	found := differences("", map[string]string{"day": fmt.Sprint(b.Day), "lab": b.Lab, "scenario": b.Scenario, "scenario_sha256": b.ScenarioHash, "mode": b.Mode},
		map[string]string{"day": fmt.Sprint(r.Day), "lab": r.Lab, "scenario": r.Scenario, "scenario_sha256": r.ScenarioHash, "mode": r.Mode})
	if len(found) > 0 {
		var parts []string
		for _, d := range found {
			parts = append(parts, fmt.Sprintf("%s was %q and is %q", d.Field, d.A, d.B))
		}
		return &StaleError{strings.Join(parts, ", ")}
	}
	if age := now.Sub(b.CreatedAt); age > ageMax {
		return &StaleError{fmt.Sprintf("it is %d days old", int(age.Hours()/24))}
	}
	return nil
}

func newCheck(e *BaselineEntry, runs []*Result, opts GateOptions) (GateCheck, error) {
	seed := opts.Seed
	m, _ := measureNamed(e.Metric) // the baseline is validated
	var after []float64
	if e.Against == "" {
		after = sample(runs, place{e.Subject, e.Point}, m)
	} else {
		after = pairedRatios(runs, e.Subject, e.Against, e.Point, m)
	}
	if len(after) < 2 {
		return GateCheck{}, fmt.Errorf("gate: %s: the run has %d values, want at least 2: what the baseline guards was not measured", e.id(), len(after))
	}
	check := GateCheck{BaselineEntry: *e, Before: stats.MedianCI(e.Values, seed).Ptr(), After: stats.MedianCI(after, seed).Ptr(),
		Ratio: stats.MedianRatioCI(after, e.Values, seed).Ptr()}
	_, p := stats.MannWhitney(after, e.Values)
	if math.IsNaN(p) || check.Ratio == nil {
		return GateCheck{}, fmt.Errorf("gate: %s: its values allow no test", e.id())
	}
	check.P = &p
	if check.leastP = stats.LeastP(len(after), len(e.Values)); check.leastP >= opts.Alpha {
		check.blind = fmt.Sprintf("%d and %d values can't show any change: p is never below %.2g", len(e.Values), len(after), check.leastP)
	}
	return check, nil
}

// judge gives each check its word after the correction over all, and marks as
// suspect what looks regressed without it.
func (g *GateReport) judge() {
	p := make([]float64, len(g.Checks))
	least := 1.0
	for i := range g.Checks {
		p[i] = *g.Checks[i].P
		least = min(least, g.Checks[i].leastP)
	}
	// Holm multiplies the smallest p by the number of checks: when even that
	// can't get below alpha, nothing in the table can ever be confirmed.
	whole := ""
	if adjusted := least * float64(len(p)); adjusted >= g.Alpha {
		whole = fmt.Sprintf("blind: too few trials to confirm anything: among %d checks the corrected p is never below %.2g", len(p), adjusted)
	}
	for i, adjusted := range stats.Holm(p) {
		c := &g.Checks[i]
		c.PAdjusted = &adjusted
		if c.blind == "" {
			c.blind = whole
		}
		c.Verdict, c.Why = word(c.Ratio, adjusted, c.Higher, g.Alpha, g.MinEffect)
		uncorrected, _ := word(c.Ratio, p[i], c.Higher, g.Alpha, g.MinEffect)
		c.Suspect = uncorrected == Regressed
		c.doubt = c.Suspect || g.suspectAlpha > g.Alpha && p[i] < g.suspectAlpha && worse(c.Ratio.Center, c.Higher) >= g.MinEffect
		if c.blind != "" {
			c.Verdict, c.Why = CantTell, c.blind
		}
	}
}

// worse is by what share a ratio is worse than 1; below 0 when it is better.
func worse(ratio float64, higher bool) float64 {
	if higher {
		return 1 - ratio
	}
	return ratio - 1
}

func (g *GateReport) verdict(opts GateOptions) GateVerdict {
	suspect, doubt, confirmed, blind := false, false, false, false
	for _, c := range g.Checks {
		doubt = doubt || c.doubt
		suspect = suspect || c.Suspect
		confirmed = confirmed || c.Verdict == Regressed
		blind = blind || c.blind != ""
	}
	switch {
	case confirmed && g.Runs >= opts.RunsMin:
		return GateFail
	case doubt && g.Runs < opts.RunsMax:
		return GateRerun
	case suspect || blind:
		return GateInconclusive
	}
	return GatePass
}
