package heapmap

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/nexuscore-labs/nexus/components/graph"
	"github.com/nexuscore-labs/nexus/systems/graphstore"
	"github.com/nexuscore-labs/nexus/systems/graphstore/enginetest"
)

func TestEngine(t *testing.T) {
	for _, kept := range []int{0, 2, 16} {
		enginetest.Run(t, enginetest.Rounds{Graphs: 12, NodesMax: 200, Queries: 150}, func(_ *testing.T, r graph.Reference) graph.Engine {
			return New(r, kept)
		})
	}
}

// Hammer: requests at once, each with its own stream, while documents change to
// what they were.
func TestManyRequestsAtOnce(t *testing.T) {
	r, err := graphstore.Generate(graphstore.PostsShape(300, 1))
	if err != nil {
		t.Fatal(err)
	}
	s := New(r, 4)
	var wg sync.WaitGroup
	for worker := range uint64(8) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(worker, 1))
			q := graph.Query{DepthMax: 3, Documents: true, ChunkLenMax: 1000}
			for range 200 {
				want, wantErr := r.Chunk(q, nil)
				got, err := s.Query(q, nil)
				if err != nil || wantErr != nil || !bytes.Equal(got, want) {
					t.Errorf("%+v: errors %v, %v", q, err, wantErr)
					return
				}
				chunk, err := graph.ParseChunk(got)
				if err != nil {
					t.Error(err)
				}
				if q.Position = chunk.Next; chunk.Done {
					q.Root, q.Position = uint32(rng.IntN(300)), 0
				}
				node := uint32(rng.IntN(300))
				if err := s.Update(node, r.Documents[node]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
