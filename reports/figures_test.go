package reports

import (
	"strings"
	"testing"

	"github.com/nexuscore-labs/nexus/reports/stats"
)

// A trial of 450 ms with an answer each ms and one straggler: what lies within
// the measured part as a whole is drawn, and nothing falls at its end.
func TestTimelineEndsWithTheMeasuredPart(t *testing.T) {
	trial := Trial{Contender: "a", Point: "p", Status: "ok", ElapsedNs: 450e6, Events: []Event{{OffsetNs: 50e6, Name: "in"}, {OffsetNs: 440e6, Name: "out"}}}
	for i, answered := range []uint64{100, 100, 100, 100, 50, 1} {
		trial.Timeline = append(trial.Timeline, Tick{OffsetNs: int64(i+1) * 100e6, Completed: answered, P99Ns: 1000})
	}
	v, err := newView(&Result{Contenders: []ContenderResult{{Name: "a", Role: RoleSubject}}, Trials: []Trial{trial}})
	if err != nil {
		t.Fatal(err)
	}
	c := v.timelineRate("p")
	if len(c.Lines) != 1 || len(c.Lines[0].Y) != 4 {
		t.Fatalf("want one line over the four whole intervals, got %+v", c.Lines)
	}
	for i, rate := range c.Lines[0].Y {
		if rate != 1000 {
			t.Errorf("interval %d: %v answers per second, want 1000", i, rate)
		}
	}
	if n := len(v.timelineP99("p").Lines[0].Y); n != 4 {
		t.Errorf("the p99 is drawn over %d intervals, want 4", n)
	}
	if len(c.Marks) != 1 || c.Marks[0].Name != "in" {
		t.Errorf("events past the last interval that is drawn would move the axis: %+v", c.Marks)
	}
}

func TestConfidenceWords(t *testing.T) {
	five, ten := stats.Interval{Confidence: 0.9375, N: 5}, stats.Interval{Confidence: 0.95, N: 10}
	for _, c := range []struct {
		all  []stats.Interval
		want string
	}{
		{nil, "95% interval"}, {[]stats.Interval{ten, ten}, "95% interval"}, {[]stats.Interval{five}, "94% interval"},
		{[]stats.Interval{ten, five}, "94% to 95% interval (5 to 10 trials)"},
	} {
		if got := confidenceWords(c.all); got != c.want {
			t.Errorf("%d intervals: %q, want %q", len(c.all), got, c.want)
		}
	}
}

// A few overloaded trials are said beside the table; half of them mark the row.
func TestSummarySaysHowOftenOverloaded(t *testing.T) {
	for _, c := range []struct {
		overloaded, trials int
		want, not          string
	}{
		{1, 8, "pebble was overloaded in 1 of 8 trials", "pebble overloaded"},
		{4, 8, "pebble overloaded", "was overloaded"},
		{1, 1, "pebble overloaded", "was overloaded"},
		{0, 8, "pebble", "overloaded"},
	} {
		v, err := newView(&Result{
			Contenders: []ContenderResult{{Name: "pebble", Role: RolePeer}},
			Points:     []PointResult{{Contender: "pebble", Point: "p", Trials: c.trials, Overloaded: c.overloaded}},
		})
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		newTerminal(&out, TerminalOptions{Width: 40}).contenders(v, "p")
		if text := out.String(); !strings.Contains(text, c.want) || strings.Contains(text, c.not) {
			t.Errorf("%d of %d: want %q and not %q:\n%s", c.overloaded, c.trials, c.want, c.not, text)
		}
	}
}

// Where the run says that no rate is the contender's, none is drawn.
func TestNoSpeedChartsWhereTheGeneratorLimits(t *testing.T) {
	for _, limits := range []bool{false, true} {
		r := fixture(t, 1, 1)
		if limits {
			r.Warnings = []string{GeneratorLimitsWarning}
		}
		v, err := newView(r)
		if err != nil {
			t.Fatal(err)
		}
		speeds, others := 0, 0
		for _, c := range v.figures() {
			if strings.HasPrefix(c.Name, "kernel") || strings.HasPrefix(c.Name, "stages") {
				others++
			} else {
				speeds++
			}
		}
		if (speeds == 0) != limits || others == 0 {
			t.Errorf("generator limits %v: %d charts of speed, %d others", limits, speeds, others)
		}
		if note := v.headlineTable("w256").Note; strings.Contains(note, "higher is better") == limits {
			t.Errorf("generator limits %v: the table says %q", limits, note)
		}
	}
}

// A stage in which nobody spent any time has no column.
func TestStageTableLeavesOutEmptyStages(t *testing.T) {
	r := fixture(t, 1, 1)
	r.Points[0].Stages = breakdownOf(1000, 1000, 0, 10, 10)
	v, err := newView(r)
	if err != nil {
		t.Fatal(err)
	}
	got := v.stageTable(r.Points[0].Point)
	var names []string
	for _, c := range got.Columns {
		names = append(names, c.Name)
	}
	if want := "contender|band|requests|joined|client saw|on CPU|off"; strings.Join(names, "|") != want {
		t.Errorf("columns %q, want %q", names, want)
	}
	if len(got.Rows) == 0 || len(got.Rows[0]) != len(got.Columns) {
		t.Errorf("rows %v", got.Rows)
	}
}
