package surrealsource

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/surrealdb/surrealdb.go/pkg/models"

	"github.com/nexuscore-labs/nexus/bpf/rocksprobe"
	"github.com/nexuscore-labs/nexus/components/delta"
	"github.com/nexuscore-labs/nexus/systems/cdc/sink"
	"github.com/nexuscore-labs/nexus/systems/surreal"
)

// What the real probe and store do is tested in package pipeline. Here the probe
// is a script, for what a real one does rarely: changes the wrong way round,
// losses, routes that are gone.

type script struct {
	changes []rocksprobe.Change
	lost    uint64
}

func (s *script) Read(c *rocksprobe.Change, _ time.Time) error {
	if len(s.changes) == 0 {
		return os.ErrClosed
	}
	*c = s.changes[0]
	s.changes = s.changes[1:]
	return nil
}

func (s *script) Waiting() bool { return len(s.changes) > 0 }

func (s *script) Counters() (rocksprobe.Counters, error) {
	return rocksprobe.Counters{LostFull: s.lost}, nil
}

// key and value are in the engine's layout.
func key(table string, id int64) []byte {
	k := append([]byte("/*\x00\x00\x00\x01*\x00\x00\x00\x02*"), table...)
	return binary.BigEndian.AppendUint64(append(k, 0, '*', 2), uint64(id)^1<<63)
}

func value(v ...float64) []byte {
	out := []byte{1, 0, 1, 10, 1, 1, 1, 'v', 1, 8, 1, byte(len(v))}
	for _, x := range v {
		out = binary.LittleEndian.AppendUint64(append(out, 1, 3, 1, 1), math.Float64bits(x))
	}
	return out
}

type result struct {
	put    []sink.Change
	reread []string
	lost   int
	stats  *Stats
}

func run(t *testing.T, s *script, judge bool) result {
	t.Helper()
	var r result
	o := Options{Probe: s, Vector: "v",
		Route: func(revision uint32) (rocksprobe.Route, error) {
			if revision == 9 {
				return rocksprobe.Route{}, rocksprobe.ErrNoRoute
			}
			return rocksprobe.Route{Collection: fmt.Sprint("c", revision), Theta: 0.02}, nil
		},
		Put: func(_ context.Context, c sink.Change) error { r.put = append(r.put, c); return nil },
		Reread: func(_ context.Context, collection, point string) (sink.Change, error) {
			r.reread = append(r.reread, point)
			return sink.Change{Vector: []float32{7}}, nil
		},
		Lost: func() { r.lost++ },
	}
	if judge {
		o.Checker = func(_ string, dim int) (delta.Checker, error) {
			return delta.NewNative(delta.Options{Dim: dim, Capacity: 64})
		}
	}
	source, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := source.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.stats = source.Stats()
	return r
}

func put(sequence uint64, id int64, v ...float64) rocksprobe.Change {
	return rocksprobe.Change{Sequence: sequence, Kind: rocksprobe.Put, Route: 1, Theta: 0.02, Key: key("t", id), Value: value(v...)}
}

func TestOrder(t *testing.T) {
	gone := put(5, 1)
	gone.Kind, gone.Value = rocksprobe.Delete, nil
	r := run(t, &script{changes: []rocksprobe.Change{put(3, 1, 1, 0), put(2, 1, 0, 1), put(4, 2, 1, 1), gone, put(1, 1, 1, 1), put(6, 1, 3, 4)}}, false)
	var got []string
	for _, c := range r.put {
		got = append(got, fmt.Sprintf("%s %v %v %d", c.Key, c.Delete, c.Vector, c.Position))
	}
	want := []string{"t:i:1 false [1 0] 1", "t:i:2 false [1 1] 2", "t:i:1 true [] 3", "t:i:1 false [3 4] 4"}
	if !slices.Equal(got, want) {
		t.Errorf("put\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if r.stats.Stale.Load() != 2 {
		t.Errorf("%d were stale, want 2", r.stats.Stale.Load())
	}
}

func TestDeletedIsUnlearned(t *testing.T) {
	gone := put(2, 1)
	gone.Kind = rocksprobe.Delete
	r := run(t, &script{changes: []rocksprobe.Change{put(1, 1, 1, 0), gone, put(3, 1, 1, 0), put(4, 1, 1, 0)}}, true)
	if len(r.put) != 3 || !r.put[1].Delete || r.put[2].Delete || r.stats.Skipped.Load() != 1 {
		t.Errorf("put %+v, skipped %d", r.put, r.stats.Skipped.Load())
	}
}

func TestLosses(t *testing.T) {
	unreadable := put(1, 1)
	unreadable.Kind = rocksprobe.Unreadable
	noRecord := put(2, 1, 1)
	noRecord.Key = []byte("/*other")
	array := put(3, 1, 1)
	array.Key = append(key("t", 1)[:15], 5, 1, 2)
	noRoute := put(4, 1, 1)
	noRoute.Route = 9
	cut := put(5, 2, 1)
	cut.Cut = true
	unknown := put(6, 3, 1)
	unknown.Value = []byte{2, 3}
	r := run(t, &script{changes: []rocksprobe.Change{unreadable, noRecord, array, noRoute, cut, unknown}, lost: 3}, false)
	if r.lost != 3 { // the unreadable one, the key that is none, the counter
		t.Errorf("told of %d losses", r.lost)
	}
	if len(r.reread) != 2 || r.reread[0] != "t:i:2" || r.reread[1] != "t:i:3" || len(r.put) != 2 {
		t.Errorf("read again %v, put %+v", r.reread, r.put)
	}
	if r.stats.Unrouted.Load() != 1 || r.stats.Refused.Load() != 1 {
		t.Errorf("%d unrouted, %d refused", r.stats.Unrouted.Load(), r.stats.Refused.Load())
	}
}

// TestNewest holds the bounded memory against a map that forgets nothing.
func TestNewest(t *testing.T) {
	var n newest
	dumb := map[string]uint64{}
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range uint64(200_000) {
		k := fmt.Sprint(rng.IntN(1000))
		sequence := i + uint64(rng.IntN(8)) // out of order by a little
		want := sequence > dumb[k]
		if want {
			dumb[k] = sequence
		}
		if got := n.advance(1, 1, k, sequence); got != want {
			t.Fatalf("change %d of %s: %v, want %v", sequence, k, got, want)
		}
	}
	for i := range 3 * generationLen {
		n.advance(1, 1, fmt.Sprint("other", i), 1)
	}
	if len(n.now)+len(n.old) > 2*generationLen {
		t.Errorf("%d keys are remembered", len(n.now)+len(n.old))
	}
	if !n.advance(2, 1, "0", 1) {
		t.Error("another process's change is stale")
	}
}

func TestPoints(t *testing.T) {
	u := models.UUID{}
	u.UUID[3] = 7
	for _, id := range []any{int64(1), int64(-5), int64(math.MaxInt64), "1", "", "a:b", u} {
		record := models.NewRecordID("t", id)
		point, err := pointKeyOf(&record)
		if err != nil {
			t.Fatal(err)
		}
		back, err := recordOf(point)
		if err != nil || !reflect.DeepEqual(back, record) {
			t.Errorf("%v became %q and then %v, %v", record, point, back, err)
		}
	}
	array := models.NewRecordID("t", []any{1})
	if _, err := pointKeyOf(&array); !errors.Is(err, ErrID) {
		t.Errorf("an array: %v", err)
	}
	if _, err := PointKey(&surreal.Key{Table: "t", Kind: surreal.ObjectID}); !errors.Is(err, ErrID) {
		t.Errorf("an object: %v", err)
	}
}

func FuzzRecordOf(f *testing.F) {
	for _, s := range []string{"t:i:1", "t:s:x", "t:u:00", "", "t", ":i:1", "t:i:", "t:x:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, point string) {
		record, err := recordOf(point)
		if err != nil {
			return
		}
		again, err := pointKeyOf(&record)
		if err != nil {
			t.Fatalf("%q is %v, which has no key: %v", point, record, err)
		}
		if back, err := recordOf(again); err != nil || !reflect.DeepEqual(back, record) {
			t.Errorf("%q is %v, again %v, %v", point, record, back, err)
		}
	})
}

func TestNeeds(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("a source without anything was made")
	}
}
