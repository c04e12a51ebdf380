package shards

import (
	"testing"

	"github.com/nexuscore-labs/nexus/components/graph"
	"github.com/nexuscore-labs/nexus/components/host"
	"github.com/nexuscore-labs/nexus/systems/graphstore"
	"github.com/nexuscore-labs/nexus/systems/graphstore/enginetest"
)

func newGuests(t *testing.T) *graph.Guests {
	t.Helper()
	runtime, err := host.New(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { runtime.Close(t.Context()) })
	guests, err := graph.NewGuests(t.Context(), runtime, 8<<20, 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { guests.Close() })
	return guests
}

func TestEngine(t *testing.T) {
	guests := newGuests(t)
	split := 0
	enginetest.Run(t, enginetest.Rounds{Graphs: 10, NodesMax: 300, Queries: 120}, func(t *testing.T, r graph.Reference) graph.Engine {
		plan, err := Split(r, 256+len(r.Edges)*16+3000)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Open(t.Context(), guests, plan, graph.Options{ArenaGrowth: 64 << 10, Cursors: 3})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		split = max(split, s.Shards())
		return s
	})
	if split < 5 {
		t.Errorf("at most %d shards: the graphs are no test", split)
	}
}

// A graph of 100,000 nodes takes several shards of 4 MiB, and hops cross between
// them.
func TestLargeGraph(t *testing.T) {
	r, err := graphstore.Generate(graphstore.PostsShape(100_000, 1))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := Split(r, ImageLenMax)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), newGuests(t), plan, graph.Options{Cursors: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	q := graph.Query{Root: 5, DepthMax: 3, ChunkLenMax: graph.ChunkLenMax}
	want, err := r.Chunk(q, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Query(q, nil)
	if err != nil || string(got) != string(want) || s.Shards() < 3 || s.Crossings == 0 {
		t.Errorf("%d shards, %d crossings, %d bytes of %d, error %v", s.Shards(), s.Crossings, len(got), len(want), err)
	}
	if _, err := Split(r, 1<<20); err == nil {
		t.Error("shards without room for anybody's edges were made")
	}
}
