package reports

import (
	"math"
	"strings"
	"testing"
)

func breakdownOf(clientNs, onCPUNs, unexplainedNs float64, requests, joined uint64) *StageBreakdown {
	s := &StageBreakdown{Requests: requests, Joined: joined, Bands: []StageBand{{
		ToPercentile: 100, Requests: requests, ClientMeanNs: clientNs, Joined: joined,
		Stages: []Stage{{"on CPU", onCPUNs}, {StageUnexplained, unexplainedNs}},
	}}}
	s.Bands[0].Check()
	return s
}

// What the log can't explain is no part of the sum, or every breakdown would add up.
func TestUnexplainedTimeIsAnError(t *testing.T) {
	if got := breakdownOf(1000, 960, 40, 10, 10).ErrorShareMax(); math.Abs(got-0.04) > 1e-12 {
		t.Errorf("off by %v, want 0.04", got)
	}
	if got := breakdownOf(1000, 500, 500, 10, 10).ErrorShareMax(); math.Abs(got-0.5) > 1e-12 {
		t.Errorf("off by %v, want 0.5", got)
	}
	if got := breakdownOf(1000, 0, 0, 10, 0).ErrorShareMax(); !math.IsNaN(got) {
		t.Errorf("off by %v with nothing joined, want NaN", got)
	}
	if got := (&StageBreakdown{}).ErrorShareMax(); !math.IsNaN(got) {
		t.Errorf("off by %v with no bands, want NaN", got)
	}
}

func TestSumOfBreakdownsWeighsRequests(t *testing.T) {
	sum := SumStages([]*StageBreakdown{breakdownOf(1000, 1000, 0, 30, 30), nil, breakdownOf(2000, 1900, 0, 10, 10)})
	band := sum.Bands[0]
	if sum.Requests != 40 || band.ClientMeanNs != 1250 || band.Stages[0].MeanNs != 1225 {
		t.Errorf("%+v", sum)
	}
	if got := sum.ErrorShareMax(); math.Abs(got-0.02) > 1e-12 {
		t.Errorf("off by %v, want 0.02", got)
	}
	if SumStages([]*StageBreakdown{nil}) != nil {
		t.Error("a sum of nothing is something")
	}
}

// Every writer shows the stages of a point that has them.
func TestStagesAreShown(t *testing.T) {
	r := fixture(t, 1, 1)
	before := r.Points[0].Stages
	defer func() { r.Points[0].Stages = before }()
	r.Points[0].Stages = breakdownOf(2e6, 1.99e6, 0, 100, 100)
	v, err := newView(r)
	if err != nil {
		t.Fatal(err)
	}
	page, err := v.htmlText()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"HTML": string(page), "Markdown": string(v.markdown(nil)), "terminal": strings.Join(v.stageLines(), "\n")} {
		if !strings.Contains(text, "on CPU") || !strings.Contains(text, "0.5") {
			t.Errorf("%s does not say where the time went", name)
		}
	}
	c := v.stageBars(r.Points[0].Point)
	if _, png, err := c.Files(); err != nil || len(png) == 0 {
		t.Errorf("draw the stages: %d bytes, %v", len(png), err)
	}
}

// The sentence and a threshold on stages_error_share say one number: the median
// over trials of the worst band, which is no band of all trials together.
func TestOffByIsWhatAThresholdJudges(t *testing.T) {
	r := fixture(t, 1, 1)
	r.Trials = r.Trials[:0:0]
	for _, explained := range []float64{999, 1001, 998} { // off by 0.1%, 0.1% and 0.2%, together by less
		one := Trial{Contender: "seglog", Point: "w256", Status: "ok", Stages: breakdownOf(1000, explained, 0, 10, 10)}
		r.Trials = append(r.Trials, one)
	}
	v, err := newView(r)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := v.offBy(place{"seglog", "w256"}), "the stages add up to what the client saw within 0.1% in every band (median of 3 trials)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := v.offBy(place{"seglog", "elsewhere"}); !strings.Contains(got, "could be followed") {
		t.Errorf("without any breakdown: %q", got)
	}
}
