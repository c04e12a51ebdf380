// Package enginetest holds engines of document graphs against the dumb search.
package enginetest

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/nexuscore-labs/nexus/components/graph"
	"github.com/nexuscore-labs/nexus/systems/graphstore"
)

// Rounds are how many graphs of which size an engine is tested with.
type Rounds struct {
	Graphs, NodesMax, Queries int
	BFSOnly                   bool // the engine has no depth-first search
}

// Run makes random graphs and asks the engine that open makes of each for
// streams of chunks, side by side, while it replaces documents and repacks.
// Every chunk must be the reference's.
func Run(t *testing.T, rounds Rounds, open func(t *testing.T, r graph.Reference) graph.Engine) {
	t.Helper()
	for seed := range uint64(rounds.Graphs) {
		rng := rand.New(rand.NewPCG(seed, 11))
		shape := graphstore.PostsShape(1+rng.IntN(rounds.NodesMax), seed)
		shape.DegreeMean = 1 + 7*rng.Float64()
		r, err := graphstore.Generate(shape)
		if err != nil {
			t.Fatal(err)
		}
		oddEdges(rng, r)
		engine := open(t, r)
		streams := make([]graph.Query, 4)
		for range rounds.Queries {
			q := &streams[rng.IntN(len(streams))]
			if q.DepthMax == 0 {
				*q = randomQuery(rng, shape.Nodes)
				if rounds.BFSOnly {
					q.Algorithm = graph.BFS
				}
			}
			ask(t, engine, r, q)
			replace(t, rng, engine, r)
		}
	}
}

// oddEdges adds what the generator makes rarely: loops and double edges.
func oddEdges(rng *rand.Rand, r graph.Reference) {
	for range len(r.Edges) / 4 {
		n := rng.IntN(len(r.Edges))
		r.Edges[n] = append(r.Edges[n], uint32(n), uint32(rng.IntN(len(r.Edges))))
		r.Edges[n] = append(r.Edges[n], r.Edges[n][0])
	}
}

func randomQuery(rng *rand.Rand, nodes int) graph.Query {
	q := graph.Query{
		Root:        uint32(rng.IntN(nodes + nodes/8)),
		DepthMax:    uint8(1 + rng.IntN(5)),
		Algorithm:   graph.Algorithm(rng.IntN(2)),
		Documents:   rng.IntN(2) == 0,
		ChunkLenMax: uint32(rng.IntN(3000)),
	}
	if rng.IntN(3) == 0 {
		q.ResultsMax = uint32(rng.IntN(100))
	}
	if rng.IntN(3) == 0 {
		q.ChunkLenMax = graph.ChunkLenMax
	}
	return q
}

// ask asks for one chunk of a stream and moves the stream on.
func ask(t *testing.T, engine graph.Engine, r graph.Reference, q *graph.Query) {
	t.Helper()
	want, wantErr := r.Chunk(*q, nil)
	got, err := engine.Query(*q, []byte("kept"))
	if !errors.Is(err, wantErr) || string(got[:4]) != "kept" || !bytes.Equal(got[4:], want) {
		t.Fatalf("%+v\ngot  %.300x, error %v\nwant %.300x, error %v", *q, got[4:], err, want, wantErr)
	}
	chunk, _ := graph.ParseChunk(want)
	if wantErr != nil || chunk.Done {
		q.DepthMax = 0
		return
	}
	q.Position = chunk.Next
}

func replace(t *testing.T, rng *rand.Rand, engine graph.Engine, r graph.Reference) {
	t.Helper()
	switch rng.IntN(6) {
	case 0:
		if err := engine.Repack(); err != nil {
			t.Fatal(err)
		}
	case 1, 2:
		node := rng.IntN(len(r.Edges))
		document := bytes.Repeat([]byte{byte(rng.Uint32()), 'd'}, rng.IntN(150))
		if err := engine.Update(uint32(node), document); err != nil {
			t.Fatal(err)
		}
		r.Documents[node] = document
	}
	if err := engine.Update(uint32(len(r.Edges)), nil); !errors.Is(err, graph.UnknownNode) {
		t.Fatalf("update of an unknown node: error %v", err)
	}
}
