package reports

import (
	"errors"
	"strings"
	"testing"
)

// Enough values for one check can be too few for a table of many.
func TestGateTableIsBlind(t *testing.T) {
	b := baseline(t)
	for _, c := range []struct {
		checks int
		alpha  float64
		blind  bool
	}{{1, 0, false}, {1, 1e-9, true}, {len(b.Series), 1e-4, true}} {
		few := *b
		few.Series = b.Series[:c.checks]
		g, err := Decide(&few, one(fixture(t, 5, 1)), gateDay, GateOptions{Alpha: c.alpha})
		if err != nil {
			t.Fatal(err)
		}
		blind := 0
		for _, check := range g.Checks {
			if check.Verdict == CantTell && (strings.HasPrefix(check.Why, "blind: too few trials") || strings.Contains(check.Why, "can't show any change")) {
				blind++
			}
		}
		if c.blind && (blind != len(g.Checks) || g.Verdict != GateInconclusive) || !c.blind && blind > 0 {
			t.Errorf("%d checks at alpha %g: %d of %d are blind, %s", c.checks, c.alpha, blind, len(g.Checks), g.Verdict)
		}
	}
}

func TestGateTableIsBlindThroughItsSize(t *testing.T) {
	b := baseline(t)
	g := GateReport{Alpha: 0.05, MinEffect: 0.03}
	same := Interval{Center: 1, Lo: 1, Hi: 1, Confidence: 0.95, N: 5}
	for i := range 7 {
		p := 0.5
		g.Checks = append(g.Checks, GateCheck{BaselineEntry: b.Series[i%len(b.Series)], P: &p, Ratio: &same, leastP: 0.0079})
	}
	g.judge()
	if c := g.Checks[0]; c.Verdict != CantTell || !strings.HasPrefix(c.Why, "blind") {
		t.Errorf("7 checks of p ≥ 0.0079: %s (%s)", c.Verdict, c.Why)
	}
	g.Checks = g.Checks[:6]
	for i := range g.Checks {
		g.Checks[i].blind = ""
	}
	g.judge()
	if c := g.Checks[0]; c.Verdict != NoChange {
		t.Errorf("6 checks of p ≥ 0.0079: %s (%s)", c.Verdict, c.Why)
	}
}

func TestGateOfInvalidRunHasItsExitCode(t *testing.T) {
	r := fixture(t, 5, 1)
	r.Verdict = VerdictInvalid
	_, err := Decide(baseline(t), one(r), gateDay, GateOptions{})
	var coded interface{ ExitCode() int }
	if !errors.As(err, &coded) || coded.ExitCode() != 5 {
		t.Errorf("%v has no exit code 5", err)
	}
}

// The tables say who could not bear the rate.
func TestOverloadedIsShown(t *testing.T) {
	r := fixture(t, 5, 1)
	for i := range r.Points {
		r.Points[i].Overloaded = r.Points[i].Trials
	}
	v, err := newView(r)
	if err != nil {
		t.Fatal(err)
	}
	row := v.headlineTable(v.headlines()[0]).Rows[0]
	if !strings.Contains(row[2].Text, "overloaded in") {
		t.Errorf("table: %+v", row)
	}
	var out strings.Builder
	if err := Summary(&out, r, TerminalOptions{}); err != nil || !strings.Contains(out.String(), "overloaded") {
		t.Errorf("terminal: %v\n%s", err, out.String())
	}
}
