package pgaggregate

import (
	"context"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"

	fold "github.com/nexuscore-labs/nexus/components/projection"
	"github.com/nexuscore-labs/nexus/systems/projection"
	"github.com/nexuscore-labs/nexus/systems/realserver"
)

var ctx = context.Background()

func openTest(t testing.TB) *Store {
	t.Helper()
	server, err := realserver.Postgres(ctx, "fsync=off")
	if errors.Is(err, realserver.ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	s, err := Open(ctx, server.URL, 4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// testEvent is an event of a tenant that uses each order's number once; what is
// said of orders is of placed ones, of too old ones, or of none.
func testEvent(rng *rand.Rand, n int) fold.Event {
	e := fold.Event{
		TimeMs: uint64(n) * 10, Kind: fold.Kind(rng.Uint32N(7)), Order: rng.Uint32N(uint32(n + 1)),
		Product: rng.Uint32N(200), Amount: rng.Uint32(), Quantity: uint16(rng.Uint32()),
	}
	if e.Kind == fold.Placed || rng.IntN(3) == 0 {
		e.Kind, e.Order = fold.Placed, uint32(n)
	}
	return e
}

func TestRebuildEqualsTheOracle(t *testing.T) {
	s := openTest(t)
	for tenant, count := range []int{1, 3, 120, 700, 2000} {
		rng := rand.New(rand.NewPCG(uint64(tenant), 1))
		oracle := &fold.Oracle{}
		var events []fold.Event
		for n := range count {
			events = append(events, testEvent(rng, n))
			oracle.Apply(events[n])
		}
		half := count / 2
		if err := errors.Join(s.Load(ctx, uint32(tenant), 1, events[:half]), s.Load(ctx, uint32(tenant), uint64(half)+1, events[half:]), s.Settle(ctx)); err != nil {
			t.Fatal(err)
		}
		for n, view := range fold.Views {
			r, err := s.Rebuild(ctx, uint32(tenant), uint32(n+1))
			if err != nil {
				t.Fatal(err)
			}
			view.Version = uint64(r.Version)
			got, err := fold.Decode(r.Data)
			if want := oracle.Contents(view); err != nil || r.Seq != uint64(count) || !reflect.DeepEqual(got, want) {
				t.Fatalf("%d events, projection %d, error %v:\ngot  %+v\nwant %+v", count, n+1, err, got, want)
			}
		}
	}
	for number, want := range map[uint32]error{0: projection.ErrProjection, 1: projection.ErrTenant, 8: projection.ErrTenant} {
		if _, err := s.Rebuild(ctx, 99, number); !errors.Is(err, want) {
			t.Errorf("projection %d of nobody: error %v, want %v", number, err, want)
		}
	}
	if err := s.Load(ctx, 1, 1, []fold.Event{{}}); err == nil {
		t.Error("a sequence was stored twice")
	}
}

func BenchmarkRebuild(b *testing.B) {
	s := openTest(b)
	rng := rand.New(rand.NewPCG(1, 1))
	var events []fold.Event
	for n := range 1000 {
		events = append(events, testEvent(rng, n))
	}
	if err := errors.Join(s.Load(ctx, 1, 1, events), s.Settle(ctx)); err != nil {
		b.Fatal(err)
	}
	for _, number := range []uint32{1, 4, 5} {
		b.Run(string(rune('0'+number)), func(b *testing.B) {
			for b.Loop() {
				if _, err := s.Rebuild(ctx, 1, number); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
