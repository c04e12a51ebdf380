// The filter, with the checker in Wasm, in front of the sink and an embedded
// Qdrant: payloads are exact, vectors within the threshold, whatever is deleted,
// rejected or repeated.
package nearfilter

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/qdrant/go-client/qdrant"

	"github.com/nexuscore-labs/nexus/components/delta"
	"github.com/nexuscore-labs/nexus/components/host"
	"github.com/nexuscore-labs/nexus/systems/cdc/qdranttarget"
	"github.com/nexuscore-labs/nexus/systems/cdc/sink"
	"github.com/nexuscore-labs/nexus/systems/vectorstore"
	"github.com/nexuscore-labs/nexus/systems/vectorstore/qdrantserver"
)

var ctx = context.Background()

const collection, dim = "records", 32

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newFilter(t testing.TB, capacity int, precision delta.Precision) *Filter {
	t.Helper()
	runtime, err := host.New(ctx, "")
	must(t, err)
	t.Cleanup(func() { must(t, runtime.Close(ctx)) })
	engine, err := delta.NewEngine(ctx, runtime, 4<<20)
	must(t, err)
	o := delta.Options{Dim: dim, Capacity: capacity, Precision: precision}
	tenant, err := engine.Tenant(o)
	must(t, err)
	f := New(tenant, o)
	t.Cleanup(func() { must(t, f.Close()) })
	return f
}

func cosineDistance(a, b []float32) float64 {
	var dot, aa, bb float64
	for i := range a {
		dot, aa, bb = dot+float64(a[i])*float64(b[i]), aa+float64(a[i])*float64(a[i]), bb+float64(b[i])*float64(b[i])
	}
	return 1 - dot/math.Sqrt(aa*bb)
}

func TestAgainstQdrant(t *testing.T) {
	for _, test := range []struct {
		capacity  int
		precision delta.Precision
	}{{16, delta.Float32}, {200, delta.Float32}, {200, delta.Int8}} {
		t.Run(fmt.Sprintf("capacity%d/precision%d", test.capacity, test.precision), func(t *testing.T) {
			throughSink(t, newFilter(t, test.capacity, test.precision))
		})
	}
}

func throughSink(t *testing.T, f *Filter) {
	t.Setenv(qdrantserver.EnvURL, "") // never in a user's own
	endpoint, err := qdrantserver.Find(ctx, t.TempDir(), vectorstore.Options{SegmentBytes: 1 << 20})
	must(t, err)
	defer endpoint.Close()
	client, err := qdranttarget.Dial(endpoint.Config.Host, endpoint.Config.Port, endpoint.Config.APIKey)
	must(t, err)
	defer client.Close()
	must(t, client.CreateCollection(ctx, &qdrant.CreateCollection{CollectionName: collection, VectorsConfig: qdrant.NewVectorsConfig(&qdrant.VectorParams{Size: dim, Distance: qdrant.Distance_Cosine})}))
	s, err := sink.New(qdranttarget.New(client), sink.Options{DeadLetterFile: filepath.Join(t.TempDir(), "dead"), OnDeadLetter: f.Forget, BatchMax: 16, PauseMin: time.Millisecond})
	must(t, err)
	rng, want, position := rand.New(rand.NewPCG(1, 2)), map[string]sink.Change{}, uint64(0)
	for range 60 {
		batch := make([]sink.Change, 1+rng.IntN(30))
		for i := range batch {
			position++
			batch[i] = next(rng, want, position)
		}
		must(t, f.Apply(batch, delta.ThresholdDefault))
		for _, c := range batch {
			must(t, s.Put(ctx, c))
		}
	}
	must(t, s.Close(ctx))
	if s.Stats().DeadLetters.Load() != 0 {
		t.Errorf("%d dead letters", s.Stats().DeadLetters.Load())
	}
	if f.Stats().Kept.Load() == 0 || f.Stats().Changed.Load() == 0 || f.Stats().Unknown.Load() == 0 {
		t.Errorf("kept %d, changed %d, unknown %d", f.Stats().Kept.Load(), f.Stats().Changed.Load(), f.Stats().Unknown.Load())
	}
	compare(t, client, want)
}

// next is a record that moved a little, much or not at all, or is deleted.
func next(rng *rand.Rand, want map[string]sink.Change, position uint64) sink.Change {
	c := sink.Change{Position: position, Collection: collection, Key: fmt.Sprint(rng.IntN(50))}
	before, known := want[c.Key]
	if known && rng.IntN(8) == 0 {
		delete(want, c.Key)
		c.Delete = true
		return c
	}
	size := []float64{0, 0.05, 0.1, 1}[rng.IntN(4)]
	c.Vector = make([]float32, dim)
	for i := range c.Vector {
		if known {
			c.Vector[i] = before.Vector[i] + float32(rng.NormFloat64()*size)
		} else {
			c.Vector[i] = float32(rng.NormFloat64())
		}
	}
	c.Payload = map[string]any{"position": int64(position)}
	want[c.Key] = c
	return c
}

func compare(t *testing.T, client *qdrant.Client, want map[string]sink.Change) {
	t.Helper()
	points, err := client.Scroll(ctx, &qdrant.ScrollPoints{CollectionName: collection, Limit: qdrant.PtrOf(uint32(1000)), WithVectors: qdrant.NewWithVectors(true)})
	must(t, err)
	if len(points) != len(want) {
		t.Errorf("%d points, want %d", len(points), len(want))
	}
	for _, p := range points {
		c, ok := want[p.GetPayload()[qdranttarget.FieldKey].GetStringValue()]
		if !ok || p.GetPayload()["position"].GetIntegerValue() != int64(c.Position) {
			t.Errorf("%v, want %+v", p, c)
			continue
		}
		// Int8 is off by up to 0.001 more.
		if far := cosineDistance(p.GetVectors().GetVector().GetDense().GetData(), c.Vector); far > delta.ThresholdDefault+0.002 {
			t.Errorf("%s is %v from the source's vector", c.Key, far)
		}
	}
}

// What never reached the target is unknown again; deletions are, too.
func TestForget(t *testing.T) {
	f := newFilter(t, 64, delta.Float32)
	one := func() sink.Change {
		v := make([]float32, dim)
		v[0] = 1
		return sink.Change{Key: "k", Vector: v}
	}
	apply := func(batch ...sink.Change) []bool {
		must(t, f.Apply(batch, 0.02))
		var kept []bool
		for _, c := range batch {
			kept = append(kept, c.KeepVector)
		}
		return kept
	}
	if got := fmt.Sprint(apply(one(), one(), sink.Change{Key: "k", Delete: true}, one(), one())); got != "[false true false false true]" {
		t.Errorf("with a deletion in between: %s", got)
	}
	f.Forget(one())
	if got := fmt.Sprint(apply(one())); got != "[false]" {
		t.Errorf("after the change was put aside: %s", got)
	}
	if got := fmt.Sprint(apply(one(), sink.Change{Key: "k", Vector: []float32{1}}, one())); got != "[true false false]" {
		t.Errorf("with a vector of another length in between: %s", got)
	}
	bad := one()
	bad.Vector[3] = float32(math.NaN())
	if got := fmt.Sprint(apply(bad)); got != "[false]" || f.Stats().Invalid.Load() != 1 {
		t.Errorf("with NaN: %s", got)
	}
}

// broken is a checker that fails.
type broken struct{ delta.Checker }

func (broken) Check([]delta.Key, []float32, float32, []delta.Verdict) error {
	return errors.New("no")
}

func TestFailingCheckerPublishes(t *testing.T) {
	f := newFilter(t, 64, delta.Float32)
	f.checker = broken{f.checker}
	batch := []sink.Change{{Key: "a", Vector: make([]float32, dim)}, {Key: "b", Vector: make([]float32, dim)}}
	if err := f.Apply(batch, 0.02); err == nil || batch[0].KeepVector || batch[1].KeepVector {
		t.Errorf("error %v, %+v", err, batch)
	}
}
