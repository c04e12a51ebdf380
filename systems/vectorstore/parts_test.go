package vectorstore

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nexuscore-labs/nexus/systems/vectorstore/vectors"
)

func TestPaths(t *testing.T) {
	payload := map[string]any{"a": map[string]any{"b": []any{int64(1), map[string]any{"c": "x"}, map[string]any{"c": "y"}}}, "d.e": true}
	for text, want := range map[string][]any{
		"a.b[0]":   {int64(1)},
		"a.b[].c":  {"x", "y"},
		"a.b[2].c": {"y"},
		"a.b[9].c": nil,
		"a.x":      nil,
		`"d.e"`:    {true},
	} {
		key, err := NewKey(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		var got []any
		visit(payload, key.path, func(v any) bool { got = append(got, v); return false })
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s leads to %v, want %v", text, got, want)
		}
	}
	for _, text := range []string{"", ".", "a.", "a..b", "a[", "a[x]", "a[-1]", "[]", `"a`, `""`, "a]b[", strings.Repeat("a", pathLenMax+1)} {
		if key, err := NewKey(text); err == nil && text != "a]b[" {
			t.Errorf("%q accepted as %v", text, key.path)
		}
	}
}

func TestFilters(t *testing.T) {
	f64 := func(x float64) *float64 { return &x }
	u64 := func(x uint64) *uint64 { return &x }
	at := func(s string) *time.Time { x, _ := time.Parse(time.RFC3339, s); return &x }
	p := Payload{"city": "Berlin", "n": int64(5), "x": 1.5, "yes": true, "tags": []any{"a", "b"}, "none": nil, "empty": []any{},
		"when": "2024-05-01T00:00:00Z", "list": []any{map[string]any{"k": int64(1), "v": "p"}, map[string]any{"k": int64(2), "v": "q"}}}
	tests := []struct {
		name string
		c    Condition
		want bool
	}{
		{"keyword", Match{Key: mustKey("city"), Any: []any{"Berlin"}}, true},
		{"keyword of another type", Match{Key: mustKey("n"), Any: []any{"5"}}, false},
		{"integer", Match{Key: mustKey("n"), Any: []any{int64(4), int64(5)}}, true},
		{"integer is no float", Match{Key: mustKey("x"), Any: []any{int64(1)}}, false},
		{"bool", Match{Key: mustKey("yes"), Any: []any{true}}, true},
		{"any element", Match{Key: mustKey("tags"), Any: []any{"b"}}, true},
		{"except", Match{Key: mustKey("city"), Any: []any{"Rome"}, Except: true}, true},
		{"except it", Match{Key: mustKey("city"), Any: []any{"Berlin"}, Except: true}, false},
		{"except where nothing is", Match{Key: mustKey("nowhere"), Any: []any{"x"}, Except: true}, false},
		{"text", MatchText{Key: mustKey("city"), Text: "erl"}, true},
		{"text, any word", MatchText{Key: mustKey("city"), Text: "zzz Ber", Any: true}, true},
		{"range", Range{Key: mustKey("n"), GTE: f64(5), LT: f64(6)}, true},
		{"range excludes", Range{Key: mustKey("n"), GT: f64(5)}, false},
		{"range of float", Range{Key: mustKey("x"), LTE: f64(1.5)}, true},
		{"range of text", Range{Key: mustKey("city"), LTE: f64(1)}, false},
		{"time", TimeRange{Key: mustKey("when"), GTE: at("2024-05-01T00:00:00Z")}, true},
		{"time after", TimeRange{Key: mustKey("when"), GT: at("2024-05-01T00:00:00Z")}, false},
		{"count", ValuesCount{Key: mustKey("tags"), GTE: u64(2), LT: u64(3)}, true},
		{"count of one", ValuesCount{Key: mustKey("city"), LTE: u64(0)}, false},
		{"count of nothing", ValuesCount{Key: mustKey("nowhere"), LTE: u64(0)}, true},
		{"id", HasID{map[PointID]struct{}{NumID(1): {}}}, true},
		{"other id", HasID{map[PointID]struct{}{NumID(2): {}}}, false},
		{"empty null", IsEmpty{mustKey("none")}, true},
		{"empty list", IsEmpty{mustKey("empty")}, true},
		{"empty nowhere", IsEmpty{mustKey("nowhere")}, true},
		{"not empty", IsEmpty{mustKey("n")}, false},
		{"null", IsNull{mustKey("none")}, true},
		{"null nowhere", IsNull{mustKey("nowhere")}, false},
		{"nested", Nested{mustKey("list"), Filter{Must: []Condition{Match{Key: mustKey("k"), Any: []any{int64(1)}}, Match{Key: mustKey("v"), Any: []any{"p"}}}}}, true},
		{"nested across elements", Nested{mustKey("list"), Filter{Must: []Condition{Match{Key: mustKey("k"), Any: []any{int64(1)}}, Match{Key: mustKey("v"), Any: []any{"q"}}}}}, false},
		{"min should", Sub{Filter{MinShould: []Condition{IsNull{mustKey("none")}, IsNull{mustKey("n")}, IsEmpty{mustKey("empty")}}, MinCount: 2}}, true},
		{"min should not", Sub{Filter{MinShould: []Condition{IsNull{mustKey("none")}, IsNull{mustKey("n")}}, MinCount: 2}}, false},
		{"should", Sub{Filter{Should: []Condition{IsNull{mustKey("n")}, IsNull{mustKey("none")}}}}, true},
		{"must not", Sub{Filter{MustNot: []Condition{IsNull{mustKey("none")}}}}, false},
		{"no conditions", Sub{}, true},
	}
	for _, test := range tests {
		f := &Filter{Must: []Condition{test.c}}
		if got := f.Matches(NumID(1), p); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
		encoded, err := appendValue(nil, f.tree(), 0)
		mustDo(t, err)
		d := &decoder{src: encoded}
		again := treeReader{d}.filter(d.value(0), 0)
		if err := d.end(); err != nil || again.Matches(NumID(1), p) != test.want {
			t.Errorf("%s: after the log: %+v, error %v", test.name, again, err)
		}
	}
}

func TestIDs(t *testing.T) {
	const text = "550e8400-e29b-41d4-a716-446655440000"
	id, err := ParseUUID(strings.ToUpper(text))
	if err != nil || id.String() != text {
		t.Errorf("%v, error %v", id, err)
	}
	for _, bad := range []string{"", "5", text[1:], text + "0", "g" + text[1:], strings.Repeat("0", 100)} {
		if _, err := ParseUUID(bad); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
	ids := []PointID{id, NumID(10), NumID(9)}
	slices.SortFunc(ids, PointID.Compare)
	if !slices.Equal(ids, []PointID{NumID(9), NumID(10), id}) {
		t.Errorf("order %v", ids)
	}
}

// FuzzDecode: whatever the bytes, decoding ends with an operation or an error,
// and what it accepts it writes again in a form that it reads as the same.
func FuzzDecode(f *testing.F) {
	w := newWorld(1, vectors.Cosine, 3, 10)
	for _, o := range []*op{
		{kind: opCreateCollection, collection: "c", config: CollectionConfig{Dim: 3, M: 8}},
		{kind: opUpsert, collection: "c", points: []Point{w.point(), w.point()}},
		{kind: opDelete, collection: "c", selector: Selector{ByFilter: true, Filter: w.filter(0)}},
		{kind: opSetPayload, collection: "c", selector: w.selector(), payload: w.payload(), keys: []string{"a.b"}},
		{kind: opCreateIndex, collection: "c", keys: []string{"tenant"}},
		{kind: opBatch, batch: []*op{{kind: opDelete, collection: "c", selector: w.selector()}, {kind: opUpsert, collection: "c", points: []Point{w.point()}}}},
	} {
		encoded, err := o.encode(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(encoded)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := decodeOp(data)
		if err != nil {
			return
		}
		encoded, err := o.encode(nil)
		if err != nil {
			t.Fatalf("decoded and not encodable: %v", err)
		}
		again, err := decodeOp(encoded)
		if err != nil {
			t.Fatalf("its own encoding is refused: %v", err)
		}
		// Sets of ids have no order, so the lengths are compared.
		if twice, err := again.encode(nil); err != nil || len(twice) != len(encoded) {
			t.Fatalf("%q, then %q, error %v", encoded, twice, err)
		}
	})
}

func FuzzKey(f *testing.F) {
	f.Add("a.b[].c[3]")
	f.Add(`"x.y".z`)
	f.Fuzz(func(t *testing.T, s string) {
		if key, err := NewKey(s); err == nil && (len(key.path) == 0 || key.path[0].key == "") {
			t.Fatalf("%q is %v", s, key.path)
		}
	})
}

// TestDamagedSnapshotRefuses: any changed byte of a snapshot is noticed.
func TestDamagedSnapshotRefuses(t *testing.T) {
	dir, w := t.TempDir(), newWorld(2, vectors.Cosine, 4, 50)
	s := openStore(t, dir, Options{SegmentBytes: 64 << 10, SnapshotBytes: -1})
	mustDo(t, s.CreateCollection(ctx, testName, CollectionConfig{Dim: 4}))
	_, err := s.Upsert(ctx, testName, []Point{w.point(), w.point(), w.point()})
	mustDo(t, err)
	info, err := s.Snapshot(ctx)
	mustDo(t, err)
	closeStore(t, s)
	name := filepath.Join(dir, info.Name)
	good, err := os.ReadFile(name)
	mustDo(t, err)
	if int64(len(good)) != info.Bytes {
		t.Fatalf("%d bytes, info says %d", len(good), info.Bytes)
	}
	damaged := map[string][]byte{"cut off": good[:len(good)-1], "empty": nil, "head only": good[:snapshotHeadLen]}
	for at := 0; at < len(good); at += 3 {
		bad := bytes.Clone(good)
		bad[at] ^= 0x10
		damaged["byte "+NumID(uint64(at)).String()] = bad
	}
	for what, content := range damaged {
		mustDo(t, os.WriteFile(name, content, 0o644))
		if s, err := Open(dir, Options{SegmentBytes: 64 << 10, SnapshotBytes: -1}); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%s: opened as %v, error %v", what, s, err)
		}
	}
	mustDo(t, os.WriteFile(name, good, 0o644))
	closeStore(t, openStore(t, dir, Options{SegmentBytes: 64 << 10, SnapshotBytes: -1}))
}

func TestWhatIsRefused(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{})
	mustDo(t, s.CreateCollection(ctx, testName, CollectionConfig{Dim: 3}))
	nan := float32(0)
	nan /= nan
	deep := any(map[string]any{})
	for range valueDepthMax + 1 {
		deep = []any{deep}
	}
	upsert := func(name string, p Point) error { _, err := s.Upsert(ctx, name, []Point{p}); return err }
	find := func(q Search) error { _, err := s.Search(ctx, testName, q); return err }
	good := []float32{1, 2, 3}
	tests := map[string]struct{ got, want error }{
		"collection twice":   {s.CreateCollection(ctx, testName, CollectionConfig{Dim: 3}), ErrExists},
		"no name":            {s.CreateCollection(ctx, "", CollectionConfig{Dim: 3}), ErrInvalid},
		"no dimensions":      {s.CreateCollection(ctx, "x", CollectionConfig{}), ErrInvalid},
		"m of 1":             {s.CreateCollection(ctx, "x", CollectionConfig{Dim: 3, M: 1}), ErrInvalid},
		"unknown collection": {upsert("nowhere", Point{Vector: good}), ErrNotFound},
		"delete unknown":     {s.DeleteCollection(ctx, "nowhere"), ErrNotFound},
		"too long":           {upsert(testName, Point{Vector: make([]float32, 4)}), ErrInvalid},
		"no vector":          {upsert(testName, Point{}), ErrInvalid},
		"not a number":       {upsert(testName, Point{Vector: []float32{1, nan, 2}}), ErrInvalid},
		"payload of a chan":  {upsert(testName, Point{Vector: good, Payload: Payload{"x": make(chan int)}}), ErrInvalid},
		"payload too deep":   {upsert(testName, Point{Vector: good, Payload: Payload{"x": deep}}), ErrInvalid},
		"payload too large":  {upsert(testName, Point{Vector: good, Payload: Payload{"x": strings.Repeat("x", 10<<20)}}), ErrInvalid},
		"limit 0":            {find(Search{Vector: good}), ErrInvalid},
		"limit too high":     {find(Search{Vector: good, Limit: limitMax + 1}), ErrInvalid},
		"short query":        {find(Search{Vector: good[:2], Limit: 1}), ErrInvalid},
		"ef too high":        {find(Search{Vector: good, Limit: 1, Ef: 1 << 20}), ErrInvalid},
		"bad min_should":     {find(Search{Vector: good, Limit: 1, Filter: &Filter{MinCount: 1}}), ErrInvalid},
	}
	for name, test := range tests {
		if !errors.Is(test.got, test.want) {
			t.Errorf("%s: error %v, want %v", name, test.got, test.want)
		}
	}
	closeStore(t, s)
	if err := upsert(testName, Point{Vector: good}); !errors.Is(err, ErrClosed) {
		t.Errorf("after closing: %v", err)
	}
}
