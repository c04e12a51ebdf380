package calibration

import (
	"bytes"
	"math"
	"math/rand/v2"
	"os/exec"
	"testing"

	"github.com/nexuscore-labs/nexus/reports/stats"
)

// Every known answer is met.
func TestKnownAnswers(t *testing.T) {
	answers, err := Answers()
	if err != nil {
		t.Fatal(err)
	}
	comparisons := 0
	for _, a := range answers {
		comparisons += a.Comparisons
		if !a.OK {
			t.Errorf("%s of %s: %.15g, want %.15g ± %g", a.Statistic, a.Source, a.Ours, a.Reference, a.Tolerance)
		}
	}
	if comparisons < 500 {
		t.Errorf("only %d comparisons: data is missing", comparisons)
	}
}

// The judgement of shares can fail: the bootstrap at seven values does not cover
// 93.5%, and a test at 10% is no test at 5%.
func TestSharesOutsideTheirRangeAreOff(t *testing.T) {
	bootstrap := experiment{"coverage", "bootstrap", "", 7, 1500, 0.935, 0.962, "", func(r *rand.Rand) bool {
		values := sampleOf(r, 7, distributions[1].draw)
		return stats.BootstrapMedianCI(values, r.Uint64()).Contains(distributions[1].median)
	}}
	loose := experiment{"size", "test at 10%", "", 10, 2000, 0, alpha, "", func(r *rand.Rand) bool {
		_, p := stats.MannWhitney(sampleOf(r, 10, distributions[0].draw), sampleOf(r, 10, distributions[0].draw))
		return p < 2*alpha
	}}
	never := experiment{"size", "never", "", 10, 100, 0.9, 1, "", func(*rand.Rand) bool { return false }}
	for _, e := range []experiment{bootstrap, loose, never} {
		if s := e.run(1); s.OK {
			t.Errorf("%s: a share of %.3f passes for [%g, %g]", e.what, s.Share, e.low, e.high)
		}
	}
	if a := answer("mean", "", 1, 1.001, 1e-6); a.OK {
		t.Error("an answer off by 0.1% passes")
	}
	if a := answer("mean", "", 1, math.NaN(), 1); a.OK {
		t.Error("NaN passes")
	}
}

func TestSharesFollowFromTheSeed(t *testing.T) {
	e := medianCoverage()[0]
	e.repeat = 200
	if a, b := e.run(5), e.run(5); a != b {
		t.Errorf("%+v and %+v", a, b)
	}
}

// The committed golden values are what the committed script gives, where SciPy
// of the same version is there to run it.
func TestGoldenValuesAreTheScripts(t *testing.T) {
	python := "/usr/bin/python3" // Debian's, which sees python3-scipy
	version, err := exec.Command(python, "-c", "import numpy, scipy; print(f'NumPy {numpy.__version__}, SciPy {scipy.__version__}', end='')").Output()
	if err != nil {
		t.Skip("SciPy is not installed")
	}
	committed, err := files.ReadFile("golden/reference.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(committed, append([]byte(`"by": "`), version...)) {
		t.Skipf("another version: %s", version)
	}
	fresh, err := exec.Command(python, "-B", "golden/reference.py").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(fresh, committed) {
		t.Error("golden/reference.json is not what golden/reference.py prints")
	}
}
