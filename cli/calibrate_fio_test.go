package cli

import (
	"math"
	"strings"
	"testing"

	"github.com/nexuscore-labs/nexus/reports/stats"
)

// Only an interval that lies within the limits as a whole passes.
func TestWithinFio(t *testing.T) {
	for _, c := range []struct {
		lo, center, hi float64
		want           string
	}{
		{0.96, 1, 1.04, "within"}, {0.94, 1, 1.02, "inconclusive"}, {0.98, 1, 1.06, "inconclusive"}, {0.5, 1, 2, "inconclusive"},
		{0.8, 0.9, 0.94, "differs"}, {1.06, 1.1, 1.2, "differs"}, {math.NaN(), math.NaN(), math.NaN(), "inconclusive"},
	} {
		if got := withinFio(stats.Interval{Lo: c.lo, Center: c.center, Hi: c.hi, N: 6}); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestFioVerdict(t *testing.T) {
	of := func(verdicts ...string) []fioComparison {
		var compared []fioComparison
		for _, v := range verdicts {
			compared = append(compared, fioComparison{Verdict: v})
		}
		return compared
	}
	if err := fioVerdict(of("within", "within")); err != nil {
		t.Error(err)
	}
	if code := exitCode(fioVerdict(of("within", "inconclusive"))); code != exitInvalid {
		t.Errorf("inconclusive: %d", code)
	}
	if code := exitCode(fioVerdict(of("inconclusive", "differs"))); code != exitFail {
		t.Errorf("differs: %d", code)
	}
}

func TestParseFioFailsClosed(t *testing.T) {
	const good = `{"jobs":[{"read":{"iops":5,"lat_ns":{"percentile":{"50.000000":1,"99.000000":2}}},"write":{"iops":0,"lat_ns":{}}}]}`
	if f, err := parseFio([]byte(good), "read"); err != nil || f != (fioFigures{5, 1, 2}) {
		t.Errorf("%+v, %v", f, err)
	}
	for name, text := range map[string]string{
		"empty": "", "no job": `{"jobs":[]}`, "two jobs": `{"jobs":[{},{}]}`, "no direction": `{"jobs":[{}]}`,
		"no percentiles": strings.Replace(good, `"50.000000":1,`, "", 1), "zero rate": strings.Replace(good, "5", "0", 1),
	} {
		if f, err := parseFio([]byte(text), "read"); err == nil {
			t.Errorf("%s: %+v", name, f)
		}
	}
	if f, err := parseFio([]byte(good), "write"); err == nil {
		t.Errorf("nothing was written, yet %+v", f)
	}
}
