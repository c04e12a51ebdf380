package cli

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"github.com/nexuscore-labs/nexus/loadgen/ceiling"
	"github.com/nexuscore-labs/nexus/loadgen/honesty"
)

func figures(errors ...float64) []honesty.Figure {
	var all []honesty.Figure
	for i, e := range errors {
		all = append(all, honesty.Figure{Quantile: honesty.Quantiles[i], ExpectedNs: 1e7, MeasuredNs: int64(1e7 * (1 + e)), Error: e})
	}
	return all
}

func outcome(errors ...float64) honesty.Outcome {
	return honesty.Outcome{Case: "tcp frame constant constant", Figures: figures(errors...)}
}

// What is off fails, unless the machine was disturbed; wrong answers fail on
// any machine.
func TestGeneratorVerdict(t *testing.T) {
	late := honesty.LagRow{Share: 0.5, LagNs: [3]int64{0, 0, honesty.LagNsMax + 1}}
	lateOnABusyCore := late
	lateOnABusyCore.Floor.LagNs[2] = honesty.LagNsMax + 1
	lateAsOthersWait := late
	lateAsOthersWait.QueueingNs[2] = 2 * honesty.LagNsMax
	for name, c := range map[string]struct {
		report generatorReport
		want   string
		code   int
	}{
		"fine":                   {generatorReport{Cases: []generatorCase{{Outcome: outcome(0.01, -0.049, 0.05)}}}, "pass", exitPass},
		"off":                    {generatorReport{Cases: []generatorCase{{Outcome: outcome(0.01, 0.02, 0.051)}}}, "fail", exitFail},
		"too low":                {generatorReport{Cases: []generatorCase{{Outcome: outcome(-0.06, 0, 0)}}}, "fail", exitFail},
		"not a number":           {generatorReport{Cases: []generatorCase{{Outcome: outcome(math.NaN(), 0, 0)}}}, "fail", exitFail},
		"off and stolen":         {generatorReport{Cases: []generatorCase{{Outcome: outcome(0, 0, 0.06)}}, Machine: generatorMachine{StealShare: 0.02}}, "disturbed", exitInvalid},
		"off beside other load":  {generatorReport{Cases: []generatorCase{{Outcome: outcome(0, 0, 0.06)}}, Machine: generatorMachine{OtherLoadShare: 0.2}}, "disturbed", exitInvalid},
		"fine though stolen":     {generatorReport{Cases: []generatorCase{{Outcome: outcome(0, 0, 0)}}, Machine: generatorMachine{StealShare: 0.02}}, "pass", exitPass},
		"wrong though stolen":    {generatorReport{Cases: []generatorCase{{Outcome: honesty.Outcome{Wrong: "x"}}}, Machine: generatorMachine{StealShare: 0.02}}, "fail", exitFail},
		"late":                   {generatorReport{Lag: []honesty.LagRow{late}}, "fail", exitFail},
		"late as others wait":    {generatorReport{Lag: []honesty.LagRow{lateAsOthersWait}}, "fail", exitFail},
		"lag of wrong answers":   {generatorReport{Lag: []honesty.LagRow{{Wrong: "x", Floor: lateOnABusyCore.Floor}}}, "fail", exitFail},
		"lag of a spoilt run":    {generatorReport{Lag: []honesty.LagRow{{Invalid: []string{"x"}}}}, "fail", exitFail},
		"spoilt on a busy core":  {generatorReport{Lag: []honesty.LagRow{{Invalid: []string{"x"}, Floor: lateOnABusyCore.Floor}}}, "disturbed", exitInvalid},
		"late on a busy core":    {generatorReport{Lag: []honesty.LagRow{lateOnABusyCore}}, "disturbed", exitInvalid},
		"late on both":           {generatorReport{Lag: []honesty.LagRow{late, lateOnABusyCore}}, "fail", exitFail},
		"off, late on busy core": {generatorReport{Cases: []generatorCase{{Outcome: outcome(0, 0, 0.06)}}, Lag: []honesty.LagRow{lateOnABusyCore}}, "fail", exitFail},
	} {
		r := c.report
		r.judge()
		code := exitPass
		if err := verdictOf(&r, nil); err != nil {
			code = exitCode(err)
		}
		if r.Verdict != c.want || code != c.code || (len(r.Reasons) > 0) != (c.want != "pass") {
			t.Errorf("%s: %s, exit code %d, %q", name, r.Verdict, code, r.Reasons)
		}
		var out bytes.Buffer
		r.Ceiling = &ceiling.Ceiling{}
		if err := (&terminal{stdout: &out, stderr: &out}).printGenerator(&r); err != nil || !strings.Contains(out.String(), "lag p99.9") {
			t.Errorf("%s: %v\n%s", name, err, &out)
		}
	}
}

// The median run counts, whole: one bad run of three is noise, two are not.
func TestMedianOutcome(t *testing.T) {
	good, bad, worse := outcome(0.01, 0, 0), outcome(0, 0, 0.2), outcome(0, 0, 0.5)
	if o := medianOutcome([]honesty.Outcome{worse, good, good}); o.Problem() != "" {
		t.Errorf("one of three: %s", o.Problem())
	}
	if o := medianOutcome([]honesty.Outcome{worse, good, bad}); o.Figures[2].Error != 0.2 {
		t.Errorf("two of three: %+v", o.Figures)
	}
	if o := medianOutcome([]honesty.Outcome{{Wrong: "x"}, good, bad}); o.Figures == nil || o.Problem() == "" {
		t.Errorf("wrong, good, bad: %+v", o)
	}
}

func TestCalibrateFlags(t *testing.T) {
	for _, args := range [][]string{
		{"--duration", "0s"}, {"--duration", "2m"}, {"--runs", "0"}, {"--pairs", "1"}, {"--against", "ab"}, {"--against", "wrk", "--connections", "0"},
	} {
		var out bytes.Buffer
		if code := Main(append([]string{"calibrate"}, args...), &out, &out); code != exitUsage {
			t.Errorf("%q: exit code %d: %s", args, code, &out)
		}
	}
}
