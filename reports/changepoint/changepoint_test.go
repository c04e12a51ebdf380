package changepoint

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// nile is the annual flow of the Nile at Aswan, 1871 to 1970, in 10⁸ m³: data set
// Nile of R, from Durbin and Koopman (2001). Its change after 1898 is the
// textbook one: Cobb, Biometrika 65 (1978).
var nile = []float64{
	1120, 1160, 963, 1210, 1160, 1160, 813, 1230, 1370, 1140, 995, 935, 1110, 994, 1020, 960, 1180, 799, 958, 1140,
	1100, 1210, 1150, 1250, 1260, 1220, 1030, 1100, 774, 840, 874, 694, 940, 833, 701, 916, 692, 1020, 1050, 969,
	831, 726, 456, 824, 702, 1120, 1100, 832, 764, 821, 768, 845, 864, 862, 698, 845, 744, 796, 1040, 759,
	781, 865, 845, 944, 984, 897, 822, 1010, 771, 676, 649, 846, 812, 742, 801, 1040, 860, 874, 848, 890,
	744, 749, 838, 1050, 918, 986, 797, 923, 975, 815, 1020, 906, 901, 1170, 912, 746, 919, 718, 714, 740,
}

func TestNile(t *testing.T) {
	if got := mean(nile); len(nile) != 100 || math.Abs(got-919.35) > 1e-9 {
		t.Fatalf("%d values with mean %v: not R's data set", len(nile), got)
	}
	changes, err := Find(nile, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(changes) != 1 || changes[0].Index != 28 { // 1899 is the first year after it
		t.Fatalf("changes %+v, want one at 28", changes)
	}
	if c := changes[0]; math.Abs(c.Before-1097.75) > 0.01 || math.Abs(c.After-849.97) > 0.01 {
		t.Errorf("means %v and %v, want 1097.75 and 849.97", c.Before, c.After)
	}
}

// Apache Otava's tests (analysis_test.py) ask for the changes of this kind of
// series: flat noise, a step, another step back.
func TestStepsAreFoundWhereTheyAre(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 4))
	var series []float64
	for _, level := range []float64{100, 110, 95} {
		for range 20 {
			series = append(series, level+2*random.NormFloat64())
		}
	}
	changes, err := Find(series, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(changes) != 2 || changes[0].Index != 20 || changes[1].Index != 40 {
		t.Errorf("changes %+v, want at 20 and 40", changes)
	}
}

// The dumb way: every sum anew for every split, by the formula of the paper.
func TestBestMeetsDefinition(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 9))
	for range 200 {
		x := make([]float64, 4+random.IntN(30))
		for i := range x {
			x[i] = random.NormFloat64()
			if i > len(x)/2 {
				x[i] += 2 * random.Float64()
			}
		}
		split, q := best(x, 2)
		wantSplit, wantQ := -1, 0.0
		for k := 2; k <= len(x)-2; k++ {
			if value := dumb(x[:k], x[k:]); value > wantQ {
				wantSplit, wantQ = k, value
			}
		}
		if split != wantSplit || math.Abs(q-wantQ) > 1e-9 {
			t.Fatalf("%v: split %d with %v, want %d with %v", x, split, q, wantSplit, wantQ)
		}
	}
}

func dumb(x, y []float64) float64 {
	m, n := float64(len(x)), float64(len(y))
	var across float64
	for _, a := range x {
		for _, b := range y {
			across += math.Abs(a - b)
		}
	}
	within := func(v []float64) float64 {
		sum := 0.0
		for i := range v {
			for j := i + 1; j < len(v); j++ {
				sum += math.Abs(v[i] - v[j])
			}
		}
		return sum / (float64(len(v)) * float64(len(v)-1) / 2)
	}
	return m * n / (m + n) * (2/(m*n)*across - within(x) - within(y))
}

// A permutation test may cry in at most alpha of noise series. The seed is fixed,
// so the count is too.
func TestSilentOnNoise(t *testing.T) {
	random := rand.New(rand.NewPCG(12, 5))
	const noises = 300
	alarms := 0
	for i := range noises {
		series := make([]float64, 30)
		for j := range series {
			series[j] = math.Exp(0.3 * random.NormFloat64())
		}
		changes, err := Find(series, Options{Alpha: 0.05, Permutations: 199, Seed: uint64(i)})
		if err != nil {
			t.Fatal(err)
		}
		if len(changes) > 0 {
			alarms++
		}
	}
	t.Logf("%d of %d noise series gave an alarm", alarms, noises)
	if alarms > 27 { // 0.05 × 300 and three standard deviations
		t.Errorf("%d of %d noise series gave an alarm, want about 5%%", alarms, noises)
	}
}

func TestUnusableSeries(t *testing.T) {
	for _, series := range [][]float64{{1, math.NaN()}, {math.Inf(1)}, make([]float64, ValuesMax+1)} {
		if _, err := Find(series, Options{}); err == nil {
			t.Errorf("a series of %d values with a bad one was taken", len(series))
		}
	}
	for _, series := range [][]float64{nil, {1}, {1, 2, 3, 4, 5}, slices.Repeat([]float64{7}, 50)} {
		if changes, err := Find(series, Options{}); err != nil || len(changes) > 0 {
			t.Errorf("%v: %v, %v; want no change", series, changes, err)
		}
	}
}
