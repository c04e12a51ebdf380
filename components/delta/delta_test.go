// The guest against Native, which keeps the same cache in the plainest way:
// equal decisions, except where the distance is as near to the threshold as
// rounding allows.
package delta

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/nexuscore-labs/nexus/components/host"
)

const memoryMax = 16 << 20

func newEngine(t testing.TB) *Engine {
	t.Helper()
	runtime, err := host.New(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { runtime.Close(context.Background()) })
	engine, err := NewEngine(context.Background(), runtime, memoryMax)
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

func newTenant(t testing.TB, engine *Engine, o Options) *Tenant {
	t.Helper()
	tenant, err := engine.Tenant(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tenant.Close() })
	return tenant
}

// drifting changes vectors a little, much, or not at all.
type drifting struct {
	rng  *rand.Rand
	dim  int
	last map[Key][]float32
}

func (d *drifting) next(key Key) []float32 {
	v, known := d.last[key]
	size := []float64{0, 0.03, 0.1, 0.2, 2}[d.rng.IntN(5)]
	if !known {
		v, size = make([]float32, d.dim), 1
	}
	out := make([]float32, d.dim)
	for i := range out {
		out[i] = v[i] + float32(d.rng.NormFloat64()*size)
	}
	if d.rng.IntN(30) == 0 {
		clear(out)
	}
	d.last[key] = out
	return out
}

func TestAgainstNative(t *testing.T) {
	engine := newEngine(t)
	for _, precision := range []Precision{Float32, Int8} {
		for _, dim := range []int{1, 7, 16, 100, 384, 2048} {
			for _, capacity := range []int{1, 60, 500} {
				t.Run(fmt.Sprintf("precision%d/dim%d/capacity%d", precision, dim, capacity), func(t *testing.T) {
					againstNative(t, engine, Options{dim, capacity, precision})
				})
			}
		}
	}
}

func againstNative(t *testing.T, engine *Engine, o Options) {
	native, err := NewNative(o)
	if err != nil {
		t.Fatal(err)
	}
	tenant := newTenant(t, engine, o)
	d := &drifting{rand.New(rand.NewPCG(uint64(o.Dim), uint64(o.Capacity))), o.Dim, map[Key][]float32{}}
	for range 40 {
		n := d.rng.IntN(min(60, o.Batch()) + 1)
		keys, vectors := make([]Key, n), []float32(nil)
		for i := range keys {
			keys[i] = Key{d.rng.Uint64N(3), d.rng.Uint64N(60)}
			vectors = append(vectors, d.next(keys[i])...)
		}
		got, want := make([]Verdict, n), make([]Verdict, n)
		if err := tenant.Check(keys, vectors, ThresholdDefault, got); err != nil {
			t.Fatal(err)
		}
		if err := native.Check(keys, vectors, ThresholdDefault, want); err != nil {
			t.Fatal(err)
		}
		for i := range got {
			if math.Abs(float64(got[i].Distance-want[i].Distance)) > 1e-5 {
				t.Fatalf("key %v: %+v, want %+v", keys[i], got[i], want[i])
			}
			if got[i].Decision == want[i].Decision {
				continue
			}
			if math.Abs(float64(want[i].Distance)-ThresholdDefault) > 1e-5 {
				t.Fatalf("key %v: %+v, want %+v", keys[i], got[i], want[i])
			}
			// Rounding decided: both forget the key and go on alike.
			forgetBoth(t, tenant, native, keys[i:i+1])
		}
		if d.rng.IntN(5) == 0 {
			forgetBoth(t, tenant, native, []Key{{d.rng.Uint64N(3), d.rng.Uint64N(60)}, {9, 9}})
		}
	}
	if tenant.Died() != 0 {
		t.Errorf("%d guests died", tenant.Died())
	}
}

func forgetBoth(t *testing.T, a, b Checker, keys []Key) {
	t.Helper()
	for _, checker := range []Checker{a, b} {
		if err := checker.Forget(keys); err != nil {
			t.Fatal(err)
		}
	}
}

// checkOne judges one vector.
func checkOne(t *testing.T, c Checker, key Key, threshold float32, v ...float32) Verdict {
	t.Helper()
	var out [1]Verdict
	if err := c.Check([]Key{key}, v, threshold, out[:]); err != nil {
		t.Fatal(err)
	}
	return out[0]
}

// A record that moves by less than the threshold each time is published once the
// way from the last published vector is too long.
func TestDriftAddsUp(t *testing.T) {
	engine := newEngine(t)
	for _, precision := range []Precision{Float32, Int8} {
		tenant := newTenant(t, engine, Options{2, 8, precision})
		published := 0
		for step := range 91 { // a quarter of a circle, a degree at a time
			angle := float64(step) * math.Pi / 180
			if checkOne(t, tenant, Key{}, ThresholdDefault, float32(math.Cos(angle)), float32(math.Sin(angle))).Decision.Publish() {
				published++
			}
		}
		// 1 - cos exceeds 0.02 beyond 11.48 degrees: at 0, 12, 24 ... 84. In
		// int8 a degree may be gained or lost by rounding.
		if published < 7 || published > 9 || precision == Float32 && published != 8 {
			t.Errorf("precision %d: %d published", precision, published)
		}
	}
}

func TestEdges(t *testing.T) {
	engine := newEngine(t)
	inf, nan, huge := float32(math.Inf(1)), float32(math.NaN()), float32(math.MaxFloat32)
	for _, precision := range []Precision{Float32, Int8} {
		tenant := newTenant(t, engine, Options{2, 8, precision})
		for i, test := range []struct {
			v    [2]float32
			want Decision
		}{
			{[2]float32{1, 1}, Unknown}, {[2]float32{1, 1}, Skip}, {[2]float32{5, 5}, Skip}, // no direction changed
			{[2]float32{nan, 1}, Invalid}, {[2]float32{1, inf}, Invalid}, {[2]float32{-inf, 1}, Invalid}, {[2]float32{1, 1}, Skip},
			{[2]float32{0, 0}, Changed}, {[2]float32{0, 0}, Skip}, {[2]float32{1, 0}, Changed}, {[2]float32{-1, 0}, Changed},
		} {
			if got := checkOne(t, tenant, Key{1, 2}, ThresholdDefault, test.v[:]...); got.Decision != test.want {
				t.Errorf("precision %d, step %d: %v is %+v, want %v", precision, i, test.v, got, test.want)
			}
		}
		if got := checkOne(t, tenant, Key{2, 2}, 0, huge, huge); got.Decision == Skip {
			t.Errorf("precision %d: a vector whose length overflows is skipped", precision)
		}
		if got := checkOne(t, tenant, Key{3, 2}, 2, 1, 0); got.Decision != Unknown {
			t.Errorf("a new key is %v", got.Decision)
		}
		if got := checkOne(t, tenant, Key{3, 2}, 2, -1, 0); got.Decision != Skip || got.Distance != 2 {
			t.Errorf("the opposite, with the largest threshold: %+v", got)
		}
	}
}

func TestWhatIsRefused(t *testing.T) {
	engine := newEngine(t)
	for _, o := range []Options{{}, {Dim: 1}, {Dim: DimMax + 1, Capacity: 1}, {Dim: 1, Capacity: CapacityMax + 1}, {1, 1, Int8 + 1},
		{Dim: DimMax, Capacity: CapacityMax}, {Dim: 384, Capacity: 100_000}} {
		if tenant, err := engine.Tenant(o); err == nil {
			t.Errorf("%+v accepted as %v", o, tenant)
		}
	}
	tenant := newTenant(t, engine, Options{Dim: 4, Capacity: 8})
	out := make([]Verdict, 300)
	for name, err := range map[string]error{
		"too many":      tenant.Check(make([]Key, 257), make([]float32, 4*257), 0, out[:257]),
		"short vector":  tenant.Check(make([]Key, 1), make([]float32, 3), 0, out[:1]),
		"no room":       tenant.Check(make([]Key, 1), make([]float32, 4), 0, nil),
		"threshold":     tenant.Check(make([]Key, 1), make([]float32, 4), -1, out[:1]),
		"no threshold":  tenant.Check(make([]Key, 1), make([]float32, 4), float32(math.NaN()), out[:1]),
		"too much room": tenant.Check(make([]Key, 1), make([]float32, 4), 0, out[:2]),
	} {
		if err == nil {
			t.Errorf("%s accepted", name)
		}
	}
	if err := tenant.Check(nil, nil, 0, nil); err != nil {
		t.Errorf("empty batch: %v", err)
	}
	if err := tenant.Close(); err != nil {
		t.Fatal(err)
	}
	if err := tenant.Check(make([]Key, 1), make([]float32, 4), 0, out[:1]); err == nil {
		t.Error("a closed tenant checks")
	}
}

// A guest that is called with what its interface forbids dies and is replaced;
// what it knew is unknown, so that everything is published again.
func TestDeadGuestIsReplaced(t *testing.T) {
	engine := newEngine(t)
	tenant := newTenant(t, engine, Options{Dim: 4, Capacity: 8})
	checkOne(t, tenant, Key{1, 1}, 0.02, 1, 2, 3, 4)
	if err := tenant.guest.call(tenant.guest.check, 0, 5000, 0, 20000, 0); err == nil {
		t.Fatal("5000 keys were checked")
	}
	var out [1]Verdict
	if err := tenant.Check([]Key{{1, 1}}, []float32{1, 2, 3, 4}, 0.02, out[:]); err == nil {
		t.Fatal("a dead guest checked")
	}
	if got := checkOne(t, tenant, Key{1, 1}, 0.02, 1, 2, 3, 4); got.Decision != Unknown || tenant.Died() != 1 {
		t.Errorf("after %d deaths: %+v", tenant.Died(), got)
	}
}

func BenchmarkCheck(b *testing.B) {
	engine := newEngine(b)
	for _, precision := range []Precision{Float32, Int8} {
		o := Options{Dim: 384, Capacity: 2048, Precision: precision}
		native, err := NewNative(o)
		if err != nil {
			b.Fatal(err)
		}
		for name, checker := range map[string]Checker{"wasm": newTenant(b, engine, o), "native": native} {
			for _, batch := range []int{1, 64} {
				b.Run(fmt.Sprintf("%s/precision%d/batch%d", name, precision, batch), func(b *testing.B) { benchCheck(b, checker, o, batch) })
			}
		}
	}
}

// benchCheck: every key is cached, every tenth vector has changed.
func benchCheck(b *testing.B, c Checker, o Options, batch int) {
	rng := rand.New(rand.NewPCG(1, 1))
	const keys = 1024
	vectors := make([]float32, keys*o.Dim)
	for i := range vectors {
		vectors[i] = float32(rng.NormFloat64())
	}
	list, out := make([]Key, keys), make([]Verdict, batch)
	for i := range list {
		list[i] = Key{uint64(i), rng.Uint64()}
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		at := n * batch % keys
		if n%10 == 9 {
			for i := at * o.Dim; i < (at+batch)*o.Dim; i++ {
				vectors[i] = -vectors[i]
			}
		}
		if err := c.Check(list[at:at+batch], vectors[at*o.Dim:(at+batch)*o.Dim], ThresholdDefault, out); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/vector")
}
