package reports

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func one(r *Result) []*Result { return []*Result{r} }

func TestCompareFindsTheSlowdown(t *testing.T) {
	before := []*Result{fixture(t, 1, 1), fixture(t, 2, 1)}
	after := []*Result{fixture(t, 3, 0.7), fixture(t, 4, 0.7)}
	c, err := Compare(before, after, CompareOptions{})
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, change := range c.Changes {
		if slowed := change.Contender == "seglog" && change.Metric == "throughput" && change.Point != "r1k"; !slowed {
			if change.Verdict == Regressed || change.Verdict == Improved {
				t.Errorf("alarm over what did not change: %+v", change)
			}
			continue
		}
		found = found || change.Headline && change.Verdict == Regressed
		if math.Abs(change.Ratio.Center-0.7) > 0.05 {
			t.Errorf("ratio at %s is %v, want about 0.7", change.Point, change.Ratio.Center)
		}
	}
	if !found {
		t.Error("the slowdown was not found")
	}
	var out bytes.Buffer
	if err := c.Terminal(&out, TerminalOptions{Width: 100}); err != nil {
		t.Fatal(err)
	}
	golden(t, "compare.txt", out.Bytes())
	golden(t, "compare.md", c.Markdown())
	page, err := c.HTML()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "compare.html", page)
	if keep := os.Getenv("NEXUS_REPORT_DIR"); keep != "" {
		if err := os.WriteFile(filepath.Join(keep, "compare.html"), page, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// Five trials a side are a quick run: the headline rows must be able to show a
// change with them, and the others must say that they can't.
func TestCompareOfQuickRuns(t *testing.T) {
	c, err := Compare(one(fixture(t, 1, 1)), one(fixture(t, 3, 0.7)), CompareOptions{})
	if err != nil {
		t.Fatal(err)
	}
	blind := false
	for _, change := range c.Changes {
		if change.Headline && change.Metric == "throughput" && change.Verdict != Regressed {
			t.Errorf("not found: %+v", change)
		}
		blind = blind || strings.Contains(change.Why, "can't show any change among")
	}
	if !blind {
		t.Error("no row says that it is blind")
	}
}

// Two samples of one thing: no change may be claimed.
func TestCompareIsSilentOnEqualRuns(t *testing.T) {
	for seed := uint64(10); seed < 15; seed++ {
		c, err := Compare(one(fixture(t, seed, 1)), one(fixture(t, seed+100, 1)), CompareOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if n := c.Count(Improved) + c.Count(Regressed); n > 0 {
			t.Errorf("seed %d: %d alarms over equal runs", seed, n)
		}
	}
}

func TestCompareRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*Result)
		want  string
	}{
		"kernel":   {func(r *Result) { r.Environment.Kernel = "6.12.0" }, `environment.kernel: "6.18.0" against "6.12.0"`},
		"scenario": {func(r *Result) { r.ScenarioHash = "other" }, "scenario_sha256"},
		"mode":     {func(r *Result) { r.Mode = "full" }, `mode: "quick" against "full"`},
		"cpu plan": {func(r *Result) { r.Environment.CPUPlan = map[string][]int{"generator": {0}} }, "environment.cpu_plan"},
		"schema":   {func(r *Result) { r.SchemaVersion = 2 }, "schema_version is 2"},
		"invalid":  {func(r *Result) { r.Verdict, r.Reasons = VerdictInvalid, []string{"steal time"} }, "steal time"},
		"emulated": {func(r *Result) { r.Environment.Virtual = EmulatedHypervisor }, "emulated by software"},
		"wrong":    {func(r *Result) { r.Oracle.Lost = 1 }, "1 lost"},
		"empty":    {func(r *Result) { r.Trials = nil }, "in common"},
	} {
		other := fixture(t, 2, 1)
		c.spoil(other)
		_, err := Compare(one(fixture(t, 1, 1)), one(other), CompareOptions{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want it to say %q", name, err, c.want)
		}
		var unlike *UnlikeError
		if !errors.As(err, &unlike) {
			continue
		}
		forced, err := Compare(one(fixture(t, 1, 1)), one(other), CompareOptions{Force: true})
		if err != nil || len(forced.Forced) == 0 || !bytes.Contains(forced.Markdown(), []byte("Not alike")) {
			t.Errorf("%s: forced: %v", name, err)
		}
	}
	// A rate that each run measures anew: other rates say nothing of the change.
	other := fixture(t, 2, 1)
	open := ""
	for i := range other.Trials {
		if trial := &other.Trials[i]; trial.OfferedPerS > 0 {
			trial.OfferedPerS *= 1.3
			open = trial.Point
		}
	}
	c, err := Compare(one(fixture(t, 1, 1)), one(other), CompareOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(c.Changes, func(change Change) bool { return change.Point == open }); open == "" || i >= 0 {
		t.Errorf("point %q was compared though it was offered other rates", open)
	}
	if !strings.Contains(strings.Join(c.NotMeasured, "\n"), open+": offered ") {
		t.Errorf("not measured: %q", c.NotMeasured)
	}
	if _, err := Compare(nil, one(fixture(t, 1, 1)), CompareOptions{}); err == nil {
		t.Error("nothing was compared with something")
	}
}

func TestWord(t *testing.T) {
	ci := func(lo, center, hi float64) *Interval {
		return &Interval{Center: center, Lo: lo, Hi: hi, Confidence: 0.95, N: 5}
	}
	for _, c := range []struct {
		ratio  *Interval
		p      float64
		higher bool
		want   string
	}{
		{ci(1.08, 1.1, 1.12), 0.001, true, Improved}, {ci(1.08, 1.1, 1.12), 0.001, false, Regressed},
		{ci(0.88, 0.9, 0.92), 0.001, true, Regressed}, {ci(0.88, 0.9, 0.92), 0.2, true, CantTell},
		{ci(0.88, 0.9, 1.01), 0.001, true, CantTell}, {ci(0.985, 0.99, 0.995), 0.001, true, NoChange},
		{ci(0.99, 1, 1.01), 0.9, true, NoChange}, {ci(0.8, 1, 1.2), 0.9, true, CantTell},
		{nil, 0.001, true, CantTell}, {ci(0.88, 0.9, 0.92), math.NaN(), true, CantTell},
	} {
		got, why := word(c.ratio, c.p, c.higher, DefaultAlpha, DefaultMinEffect)
		if got != c.want || (got == CantTell) != (why != "") {
			t.Errorf("word(%v, %v, %v) = %q (%s), want %q", c.ratio, c.p, c.higher, got, why, c.want)
		}
	}
}

var gateDay = time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)

func baseline(t testing.TB) *Baseline {
	t.Helper()
	b, err := NewBaseline([]*Result{fixture(t, 1, 1), fixture(t, 2, 1)}, "first (fixture)", gateDay)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGateGoesRedOnlyAfterConfirming(t *testing.T) {
	b, slow := baseline(t), []*Result{fixture(t, 5, 0.7), fixture(t, 6, 0.7)}
	first, err := Decide(b, slow[:1], gateDay, GateOptions{MinEffect: 0.03})
	if err != nil || first.Verdict != GateRerun {
		t.Fatalf("after one run: %v, %v; want rerun", first, err)
	}
	second, err := Decide(b, slow, gateDay, GateOptions{MinEffect: 0.03})
	if err != nil || second.Verdict != GateFail {
		t.Fatalf("after two runs: %v, %v; want fail", second, err)
	}
	golden(t, "gate.md", second.Markdown())
	junit, err := second.JUnit()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "gate.xml", junit)
	var out bytes.Buffer
	if err := second.Terminal(&out, TerminalOptions{Width: 100}); err != nil {
		t.Fatal(err)
	}
	golden(t, "gate.txt", out.Bytes())
	// An outlier that the further run doesn't confirm is not red.
	mixed, err := Decide(b, []*Result{slow[0], fixture(t, 7, 1), fixture(t, 8, 1)}, gateDay, GateOptions{MinEffect: 0.03})
	if err != nil || mixed.Verdict == GateFail {
		t.Errorf("one slow run of three: %v, %v", mixed, err)
	}
}

func TestGateIsGreenOnEqualRuns(t *testing.T) {
	b := baseline(t)
	for seed := uint64(30); seed < 36; seed++ {
		runs := one(fixture(t, seed, 1))
		g, err := Decide(b, runs, gateDay, GateOptions{})
		if err == nil && g.Verdict == GateRerun {
			g, err = Decide(b, append(runs, fixture(t, seed+500, 1)), gateDay, GateOptions{})
		}
		if err != nil || g.Verdict == GateFail {
			t.Errorf("seed %d: %v, %v", seed, g, err)
		}
	}
}

func TestGateComparesOnlyRatiosBetweenMachines(t *testing.T) {
	r := fixture(t, 5, 1)
	r.Environment.CPUModel = "Another CPU"
	g, err := Decide(baseline(t), one(r), gateDay, GateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if g.Absolute || !strings.Contains(g.absoluteNote(), "cpu_model") {
		t.Errorf("absolute numbers took part: %s", g.absoluteNote())
	}
	for _, c := range g.Checks {
		if c.Against == "" {
			t.Errorf("absolute check %s between unlike machines", c.id())
		}
	}
}

func TestGateFailsClosed(t *testing.T) {
	for name, c := range map[string]struct {
		baseline func(*Baseline)
		run      func(*Result)
		now      time.Time
		want     string
	}{
		"empty baseline":    {baseline: func(b *Baseline) { b.Series = nil }, want: "no series"},
		"NaN":               {baseline: func(b *Baseline) { b.Series[0].Values[0] = math.NaN() }, want: "NaN"},
		"zero":              {baseline: func(b *Baseline) { b.Series[0].Values[0] = 0 }, want: "value 0"},
		"one value":         {baseline: func(b *Baseline) { b.Series[0].Values = []float64{1} }, want: "at least 2"},
		"unknown metric":    {baseline: func(b *Baseline) { b.Series[0].Metric = "vibes" }, want: "no such metric"},
		"other direction":   {baseline: func(b *Baseline) { b.Series[0].Higher = !b.Series[0].Higher }, want: "direction"},
		"old":               {now: gateDay.AddDate(2, 0, 0), want: "days old"},
		"other scenario":    {run: func(r *Result) { r.ScenarioHash = "new" }, want: "stale"},
		"other mode":        {run: func(r *Result) { r.Mode = "full" }, want: `mode was "quick"`},
		"invalid run":       {run: func(r *Result) { r.Verdict = VerdictInvalid }, want: "invalid"},
		"wrong answers":     {run: func(r *Result) { r.Oracle.Wrong = 3 }, want: "3 wrong"},
		"no trials":         {run: func(r *Result) { r.Trials = nil }, want: "was not measured"},
		"no baseline trial": {run: func(r *Result) { drop(r, "fsync-append") }, want: "was not measured"},
	} {
		b, r, now := baseline(t), fixture(t, 5, 1), gateDay
		if c.baseline != nil {
			c.baseline(b)
		}
		if c.run != nil {
			c.run(r)
		}
		if !c.now.IsZero() {
			now = c.now
		}
		g, err := Decide(b, one(r), now, GateOptions{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, error %v; want it to say %q", name, g, err, c.want)
		}
	}
	if _, err := Decide(baseline(t), nil, gateDay, GateOptions{}); err == nil {
		t.Error("no runs: decided")
	}
}

func drop(r *Result, contender string) {
	kept := r.Trials[:0]
	for _, trial := range r.Trials {
		if trial.Contender != contender {
			kept = append(kept, trial)
		}
	}
	r.Trials = kept
}

// Three values on either side can't reach p < 0.05: that is no pass.
func TestGateSaysWhenItIsBlind(t *testing.T) {
	b, r := baseline(t), fixture(t, 5, 1)
	for i := range b.Series {
		b.Series[i].Values = b.Series[i].Values[:3]
	}
	kept := r.Trials[:0]
	for _, trial := range r.Trials {
		if trial.Round >= 2 {
			kept = append(kept, trial)
		}
	}
	r.Trials = kept
	g, err := Decide(b, one(r), gateDay, GateOptions{})
	if err != nil || g.Verdict != GateInconclusive {
		t.Fatalf("%v, %v; want inconclusive", g, err)
	}
	if !bytes.Contains(g.Markdown(), []byte("can't show any change")) {
		t.Error("it does not say why")
	}
}

func TestBaselineFile(t *testing.T) {
	path := BaselinePath(t.TempDir(), 7)
	runs := one(fixture(t, 1, 1))
	if err := UpdateBaseline(path, runs, "  "); err == nil {
		t.Error("a baseline without a reason was written")
	}
	if _, err := LoadBaseline(path); err == nil || !strings.Contains(err.Error(), "--update") {
		t.Errorf("missing baseline: %v", err)
	}
	if err := UpdateBaseline(path, runs, "because"); err != nil {
		t.Fatal(err)
	}
	b, err := LoadBaseline(path)
	if err != nil || b.Reason != "because" {
		t.Fatalf("%v, %v", b, err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty": "", "truncated": string(raw[:len(raw)/2]), "unknown key": strings.Replace(string(raw), `"day"`, `"dai"`, 1),
		"null value": strings.Replace(string(raw), `"higher_is_better": true`, `"higher_is_better": null`, 1), "text": "green",
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadBaseline(path); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
}

func TestJUnitErrorIsNeverGreen(t *testing.T) {
	raw, err := JUnitError(7, errors.New("no baseline & <nothing>"))
	if err != nil {
		t.Fatal(err)
	}
	var suite junitSuite
	if err := xml.Unmarshal(raw, &suite); err != nil || suite.Errors != 1 || suite.Cases[0].Error == nil {
		t.Errorf("%s: %v", raw, err)
	}
}

func TestGateReportIsJSON(t *testing.T) {
	g, err := Decide(baseline(t), one(fixture(t, 5, 1)), gateDay, GateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := json.Marshal(g); err != nil {
		t.Error(err)
	}
}

func TestWriteIndex(t *testing.T) {
	dir := t.TempDir()
	if err := WriteIndex(dir, nil); err == nil {
		t.Error("an empty index was written")
	}
	if err := WriteIndex(dir, []IndexEntry{{fixture(t, 1, 1), "day07/report.html"}}); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(dir, "index.html"))
	if err != nil || !bytes.Contains(page, []byte(`href="day07/report.html"`)) {
		t.Errorf("no link to the day: %v", err)
	}
	if keep := os.Getenv("NEXUS_REPORT_DIR"); keep != "" {
		if err := os.WriteFile(filepath.Join(keep, "index.html"), page, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPercentOfAWideInterval(t *testing.T) {
	for _, c := range []struct {
		ratio *Interval
		want  string
	}{
		{nil, "–"},
		{&Interval{Center: 0.9, Lo: 0.85, Hi: 0.95}, "-10.0% ±5.0"},
		{&Interval{Center: 3, Lo: 0.1, Hi: 190}, "0.1× to 1.9e+02×"},
	} {
		if got := percent(c.ratio); got != c.want {
			t.Errorf("%v is shown as %q, want %q", c.ratio, got, c.want)
		}
	}
}
