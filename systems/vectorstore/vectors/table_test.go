package vectors

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"
)

func newTable(t testing.TB, dim int, metric Metric, quantized bool) *Table {
	t.Helper()
	table, err := NewTable(dim, metric, quantized)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func random(rng *rand.Rand, dim int) []float32 {
	v := make([]float32, dim)
	for i := range v {
		v[i] = float32(rng.NormFloat64())
	}
	return v
}

// slow is the definition.
func slow(metric Metric, a, b []float32) float64 {
	var dot, aa, bb, l2 float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		dot, aa, bb, l2 = dot+x*y, aa+x*x, bb+y*y, l2+(x-y)*(x-y)
	}
	switch metric {
	case Cosine:
		return 1 - dot/math.Sqrt(aa*bb)
	case Dot:
		return -dot
	default:
		return l2
	}
}

func TestDistancesAreTheirDefinition(t *testing.T) {
	for _, metric := range []Metric{Cosine, Dot, Euclid} {
		for _, quantized := range []bool{false, true} {
			rng := rand.New(rand.NewPCG(1, uint64(metric)))
			for _, dim := range []int{1, 3, 8, 100, 129, 384} {
				checkDistances(t, rng, dim, metric, quantized)
			}
		}
	}
}

func checkDistances(t *testing.T, rng *rand.Rand, dim int, metric Metric, quantized bool) {
	t.Helper()
	const n = rowsPerChunk + 10
	table, plain, slots := newTable(t, dim, metric, quantized), make([][]float32, n), []uint32{0, 1, rowsPerChunk - 1, rowsPerChunk, n - 1}
	for i := range plain {
		plain[i] = random(rng, dim)
		if err := table.Put(uint32(i), plain[i]); err != nil {
			t.Fatal(err)
		}
	}
	v := random(rng, dim)
	set, bySlot := table.NewQuery(), table.NewQuery()
	if err := set.Set(v); err != nil {
		t.Fatal(err)
	}
	bySlot.SetSlot(7)
	var exact, fast, ofSlot [BatchMax]float32
	set.Exact(slots, exact[:])
	set.Distances(slots, fast[:])
	bySlot.Exact(slots, ofSlot[:])
	for i, slot := range slots {
		want, scale := slow(metric, v, plain[slot]), norm(v)*norm(plain[slot])
		if metric == Cosine {
			scale = 1
		}
		if metric == Euclid {
			scale = norm(v)*norm(v) + norm(plain[slot])*norm(plain[slot])
		}
		if math.Abs(float64(exact[i])-want) > 1e-5*scale {
			t.Errorf("%v, %d dimensions, slot %d: %v, want %v", metric, dim, slot, exact[i], want)
		}
		// One code is off by at most half a step of 1/127 of the largest value.
		if math.Abs(float64(fast[i])-want) > 0.03*scale {
			t.Errorf("%v int8=%v, %d dimensions, slot %d: %v, want about %v", metric, quantized, dim, slot, fast[i], want)
		}
		if want := slow(metric, plain[7], plain[slot]); math.Abs(float64(ofSlot[i])-want) > 1e-4*(1+math.Abs(want)) {
			t.Errorf("%v, query of slot 7, slot %d: %v, want %v", metric, slot, ofSlot[i], want)
		}
		if got := set.Distance(slot); got != fast[i] {
			t.Errorf("alone %v, in a batch %v", got, fast[i])
		}
	}
}

func norm(v []float32) float64 { return math.Sqrt(-slow(Dot, v, v)) }

func TestScores(t *testing.T) {
	for _, test := range []struct {
		metric          Metric
		distance, score float32
		higher          bool
	}{{Cosine, 0.25, 0.75, true}, {Dot, -3, 3, true}, {Euclid, 25, 5, false}} {
		if got := test.metric.Score(test.distance); got != test.score || test.metric.HigherIsNearer() != test.higher {
			t.Errorf("%v: distance %v has score %v, higher is nearer %v", test.metric, test.distance, got, test.metric.HigherIsNearer())
		}
	}
}

func TestWhatIsRefused(t *testing.T) {
	for _, dim := range []int{0, -1, DimMax + 1} {
		if _, err := NewTable(dim, Cosine, false); err == nil {
			t.Errorf("%d dimensions accepted", dim)
		}
	}
	if _, err := NewTable(4, Euclid+1, false); err == nil {
		t.Error("unknown metric accepted")
	}
	table := newTable(t, 4, Cosine, true)
	if table.Put(0, make([]float32, 5)) == nil || table.NewQuery().Set(make([]float32, 3)) == nil {
		t.Error("wrong length accepted")
	}
}

// A zero vector has no direction: similarity 0 with all, never NaN.
func TestZeroVector(t *testing.T) {
	for _, quantized := range []bool{false, true} {
		table := newTable(t, 4, Cosine, quantized)
		if err := table.Put(0, make([]float32, 4)); err != nil {
			t.Fatal(err)
		}
		q := table.NewQuery()
		if err := q.Set([]float32{1, 2, 3, 4}); err != nil {
			t.Fatal(err)
		}
		if got := table.Metric().Score(q.Distance(0)); got != 0 {
			t.Errorf("quantized %v: similarity with the zero vector is %v", quantized, got)
		}
	}
}

// Rows that readers know are read while the table grows; run with -race.
func TestReadWhileGrowing(t *testing.T) {
	table := newTable(t, 16, Euclid, true)
	rng := rand.New(rand.NewPCG(1, 1))
	if err := table.Put(0, random(rng, 16)); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			q := table.NewQuery()
			q.SetSlot(0)
			for {
				select {
				case <-stop:
					return
				default:
				}
				if d := q.Distance(0); d > 1e-3 {
					t.Errorf("distance to itself %v", d)
					return
				}
			}
		})
	}
	for slot := range uint32(5 * rowsPerChunk) {
		if err := table.Put(slot+1, random(rng, 16)); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	wg.Wait()
}
