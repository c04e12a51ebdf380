package graphstore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/nexuscore-labs/nexus/components/graph"
	"github.com/nexuscore-labs/nexus/components/host"
	"github.com/nexuscore-labs/nexus/systems/graphstore/heapmap"
)

// BenchmarkBFS is whole answers of breadth-first queries, depth 3, in chunks of
// 64 KiB.
func BenchmarkBFS(b *testing.B) {
	ctx := context.Background()
	runtime, err := host.New(ctx, "")
	if err != nil {
		b.Fatal(err)
	}
	defer runtime.Close(ctx)
	guests, err := graph.NewGuests(ctx, runtime, 64<<20, 1)
	if err != nil {
		b.Fatal(err)
	}
	defer guests.Close()
	for _, nodes := range []int{1000, 10_000, 100_000} {
		r, err := Generate(PostsShape(nodes, 1))
		if err != nil {
			b.Fatal(err)
		}
		image, err := graph.Build(r.Edges, r.Documents)
		if err != nil {
			b.Fatal(err)
		}
		options := graph.Options{Cursors: 1}
		native, err := graph.NewNative(image, options)
		if err != nil {
			b.Fatal(err)
		}
		guest, err := guests.Load(ctx, image, options)
		if err != nil {
			b.Fatal(err)
		}
		for _, documents := range []bool{false, true} {
			for _, e := range []struct {
				name string
				graph.Engine
			}{{"native", native}, {"wasm", guest}, {"heapmap", heapmap.New(r, 1)}} {
				b.Run(fmt.Sprintf("%d/documents=%v/%s", nodes, documents, e.name), func(b *testing.B) {
					rng := rand.New(rand.NewPCG(1, 1))
					var buf []byte
					results := 0
					for b.Loop() {
						q := graph.Query{Root: uint32(rng.IntN(nodes)), DepthMax: 3, Documents: documents, ChunkLenMax: graph.ChunkLenMax}
						for {
							if buf, err = e.Query(q, buf[:0]); err != nil {
								b.Fatal(err)
							}
							chunk, err := graph.ParseChunk(buf)
							if err != nil {
								b.Fatal(err)
							}
							q.Position = chunk.Next
							if chunk.Done {
								break
							}
						}
						results += int(q.Position)
					}
					b.ReportMetric(float64(results)/float64(b.N), "results/op")
				})
			}
		}
		guest.Close()
	}
}
