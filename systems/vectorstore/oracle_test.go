package vectorstore

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/nexuscore-labs/nexus/systems/vectorstore/vectors"
)

var ctx = context.Background()

// oracle is a collection kept in the dumbest way: every answer looks at every
// point.
type oracle struct {
	metric vectors.Metric
	dim    int
	points map[PointID]Point
}

func (o *oracle) clone() *oracle {
	out := &oracle{o.metric, o.dim, map[PointID]Point{}}
	for id, p := range o.points {
		out.points[id] = p
	}
	return out
}

func (o *oracle) ids(f *Filter) []PointID {
	var out []PointID
	for id, p := range o.points {
		if f.Matches(id, p.Payload) {
			out = append(out, id)
		}
	}
	slices.SortFunc(out, PointID.Compare)
	return out
}

// score is the definition, in float64.
func (o *oracle) score(a, b []float32) float64 {
	var dot, aa, bb, l2 float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		dot, aa, bb, l2 = dot+x*y, aa+x*x, bb+y*y, l2+(x-y)*(x-y)
	}
	switch o.metric {
	case vectors.Cosine:
		if aa == 0 || bb == 0 {
			return 0
		}
		return dot / math.Sqrt(aa*bb)
	case vectors.Dot:
		return dot
	default:
		return math.Sqrt(l2)
	}
}

// differs compares everything a store says of the collection with the oracle.
func (o *oracle) differs(s *Store, name string) error {
	var got []Point
	for from := (*PointID)(nil); ; {
		page, err := s.Scroll(name, Scroll{From: from, Limit: 7, Payload: true, Vectors: true})
		if err != nil {
			return err
		}
		got = append(got, page.Points...)
		if from = page.Next; from == nil {
			break
		}
	}
	want := o.ids(nil)
	if len(got) != len(want) {
		return fmt.Errorf("%d points, want %d", len(got), len(want))
	}
	for i, p := range got {
		if p.ID != want[i] {
			return fmt.Errorf("point %d is %v, want %v", i, p.ID, want[i])
		}
		if err := o.same(p); err != nil {
			return err
		}
	}
	return nil
}

func (o *oracle) same(p Point) error {
	want := o.points[p.ID]
	if len(p.Payload)+len(want.Payload) > 0 && !reflect.DeepEqual(p.Payload, want.Payload) {
		return fmt.Errorf("point %v has payload %v, want %v", p.ID, p.Payload, want.Payload)
	}
	vector := slices.Clone(want.Vector)
	if o.metric == vectors.Cosine {
		vectors.Normalize(vector)
	}
	if !slices.Equal(p.Vector, vector) {
		return fmt.Errorf("point %v has vector %v, want %v", p.ID, p.Vector, vector)
	}
	return nil
}

// checkSearch holds a search against a scan: every score right, in order, each
// point once and acceptable. Exact ones must also have the nearest. It returns
// the share of the nearest that were found.
func (o *oracle) checkSearch(t testing.TB, s *Store, name string, q Search) float64 {
	t.Helper()
	found, err := s.Search(ctx, name, q)
	if err != nil {
		t.Fatal(err)
	}
	ids := o.ids(q.Filter)
	var scores []float64
	for _, id := range ids {
		scores = append(scores, o.score(q.Vector, o.points[id].Vector))
	}
	slices.Sort(scores)
	if o.metric.HigherIsNearer() {
		slices.Reverse(scores)
	}
	scores = scores[min(q.Offset, len(scores)):]
	scores = scores[:min(q.Limit, len(scores))]
	if len(found) > len(scores) {
		t.Fatalf("found %d points, there are %d", len(found), len(scores))
	}
	hits, seen := 0, map[PointID]bool{}
	for i, f := range found {
		p, ok := o.points[f.ID]
		if !ok || seen[f.ID] || !q.Filter.Matches(p.ID, p.Payload) {
			t.Fatalf("found %v: there %v, twice %v, filter %v", f.ID, ok, seen[f.ID], q.Filter)
		}
		seen[f.ID] = true
		score := o.score(q.Vector, p.Vector)
		if math.Abs(score-float64(f.Score)) > 1e-3*(1+math.Abs(score)) {
			t.Fatalf("%v has score %v, want %v", f.ID, f.Score, score)
		}
		if q.Exact && math.Abs(scores[i]-score) > 1e-3*(1+math.Abs(score)) {
			t.Fatalf("hit %d of an exact search has score %v, want %v", i, score, scores[i])
		}
		worst := scores[len(scores)-1]
		if score == worst || score > worst == o.metric.HigherIsNearer() || math.Abs(score-worst) < 1e-4 {
			hits++
		}
	}
	if q.Exact && len(found) != len(scores) {
		t.Fatalf("exact search found %d of %d", len(found), len(scores))
	}
	if len(scores) == 0 {
		return 1
	}
	return float64(hits) / float64(len(scores))
}

// world makes random points, filters and changes.
type world struct {
	rng    *rand.Rand
	dim    int
	ids    uint64 // ids are drawn from so many numbers and as many UUIDs
	oracle *oracle
}

func newWorld(seed uint64, metric vectors.Metric, dim int, ids uint64) *world {
	return &world{rand.New(rand.NewPCG(seed, 0x77)), dim, ids, &oracle{metric, dim, map[PointID]Point{}}}
}

func (w *world) id() PointID {
	n := w.rng.Uint64N(w.ids)
	if w.rng.IntN(4) > 0 {
		return NumID(n)
	}
	id := PointID{IsUUID: true}
	id.UUID[0], id.UUID[15] = byte(n*37), byte(n)
	return id
}

func (w *world) vector() []float32 {
	v := make([]float32, w.dim)
	for i := range v {
		v[i] = float32(w.rng.NormFloat64())
	}
	return v
}

func (w *world) payload() Payload {
	p := Payload{}
	if w.rng.IntN(5) > 0 {
		p["tenant"] = fmt.Sprintf("t%d", w.rng.IntN(5))
	}
	if w.rng.IntN(3) > 0 {
		p["n"] = w.rng.Int64N(100)
	}
	if w.rng.IntN(3) == 0 {
		p["x"] = w.rng.Float64()
	}
	if w.rng.IntN(4) == 0 {
		p["tags"] = []any{"a", w.rng.Int64N(3), nil, true}[:w.rng.IntN(5)]
	}
	if w.rng.IntN(4) == 0 {
		p["in"] = map[string]any{"b": w.rng.IntN(2) == 0, "list": []any{map[string]any{"k": w.rng.Int64N(4)}, map[string]any{"k": "s"}}}
	}
	return p
}

func (w *world) point() Point { return Point{w.id(), w.vector(), w.payload()} }

func mustKey(s string) Key {
	k, err := NewKey(s)
	if err != nil {
		panic(err)
	}
	return k
}

func (w *world) condition(depth int) Condition {
	low, high := float64(w.rng.IntN(80)), float64(20+w.rng.IntN(80))
	count := uint64(w.rng.IntN(4))
	switch w.rng.IntN(10) {
	case 0, 1, 2:
		return Match{Key: mustKey("tenant"), Any: []any{fmt.Sprintf("t%d", w.rng.IntN(6)), "t1"}[:1+w.rng.IntN(2)], Except: w.rng.IntN(5) == 0}
	case 3:
		return Range{Key: mustKey("n"), GTE: &low, LT: &high}
	case 4:
		return HasID{map[PointID]struct{}{w.id(): {}, w.id(): {}, w.id(): {}}}
	case 5:
		return IsEmpty{mustKey("tags")}
	case 6:
		return ValuesCount{Key: mustKey("tags"), GTE: &count}
	case 7:
		return Match{Key: mustKey("in.list[].k"), Any: []any{w.rng.Int64N(4)}}
	case 8:
		return Nested{mustKey("in.list"), Filter{Must: []Condition{Match{Key: mustKey("k"), Any: []any{"s"}}}}}
	default:
		if depth > 2 {
			return IsNull{mustKey("tags")}
		}
		return Sub{*w.filter(depth + 1)}
	}
}

func (w *world) filter(depth int) *Filter {
	f := &Filter{}
	for range 1 + w.rng.IntN(2) {
		c := w.condition(depth)
		switch w.rng.IntN(4) {
		case 0, 1:
			f.Must = append(f.Must, c)
		case 2:
			f.Should = append(f.Should, c)
		default:
			f.MustNot = append(f.MustNot, c)
		}
	}
	return f
}

func (w *world) selector() Selector {
	if w.rng.IntN(3) == 0 {
		return Selector{ByFilter: true, Filter: w.filter(0)}
	}
	s := Selector{}
	for range 1 + w.rng.IntN(4) {
		s.IDs = append(s.IDs, w.id())
	}
	return s
}

func (o *oracle) selected(s Selector) []PointID {
	if s.ByFilter {
		return o.ids(s.Filter)
	}
	var out []PointID
	for _, id := range s.IDs {
		if _, ok := o.points[id]; ok {
			out = append(out, id)
		}
	}
	return out
}

// missing says whether the selector names a point that is not there.
func (o *oracle) missing(s Selector) bool { return !s.ByFilter && len(o.selected(s)) < len(s.IDs) }

// step makes a random change: it returns how to do it to a store, and the
// oracle as it is afterwards.
func (w *world) step() (do func(s *Changer, name string) error, after *oracle, fails bool) {
	after = w.oracle.clone()
	change := func(ids []PointID, how func(Payload) Payload) {
		for _, id := range ids {
			p := after.points[id]
			p.Payload = how(p.Payload)
			after.points[id] = p
		}
	}
	which, payload := w.selector(), w.payload()
	switch w.rng.IntN(12) {
	default:
		points := make([]Point, 1+w.rng.IntN(8))
		for i := range points {
			points[i] = w.point()
			after.points[points[i].ID] = points[i]
		}
		return func(s *Changer, name string) error { _, err := s.Upsert(ctx, name, points); return err }, after, false
	case 0, 1:
		for _, id := range after.selected(which) {
			delete(after.points, id)
		}
		return func(s *Changer, name string) error { _, err := s.Delete(ctx, name, which); return err }, after, false
	case 2:
		p := Point{ID: w.id(), Vector: w.vector()}
		old, ok := after.points[p.ID]
		if ok {
			after.points[p.ID] = Point{p.ID, p.Vector, old.Payload}
		}
		return func(s *Changer, name string) error { _, err := s.UpdateVectors(ctx, name, []Point{p}); return err }, after, !ok
	case 3:
		fails = after.missing(which)
		change(after.selected(which), func(p Payload) Payload { return p.merged(payload) })
		return func(s *Changer, name string) error { _, err := s.SetPayload(ctx, name, which, payload, ""); return err }, after, fails
	case 4:
		fails = after.missing(which)
		change(after.selected(which), func(Payload) Payload { return payload })
		return func(s *Changer, name string) error {
			_, err := s.OverwritePayload(ctx, name, which, payload)
			return err
		}, after, fails
	case 5:
		change(after.selected(which), func(p Payload) Payload {
			out := p.merged(nil)
			delete(out, "tenant")
			delete(out, "x")
			return out
		})
		return func(s *Changer, name string) error {
			_, err := s.DeletePayload(ctx, name, which, []string{"tenant", "x"})
			return err
		}, after, after.missing(which)
	case 6:
		change(after.selected(which), func(Payload) Payload { return nil })
		return func(s *Changer, name string) error { _, err := s.ClearPayload(ctx, name, which); return err }, after, after.missing(which)
	}
}
