package projection

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// benchEvents are like a shop's: orders run through their life, products are
// skewed over so many.
func benchEvents(products int) []byte {
	rng := rand.New(rand.NewPCG(1, 1))
	zipf := rand.NewZipf(rng, 1.1, 1, uint64(products-1))
	var events []byte
	for n := range uint32(BatchMax) {
		e := Event{TimeMs: uint64(n), Kind: Kind(1 + n%4), Order: n / 4, Product: uint32(zipf.Uint64()), Amount: 100, Quantity: 1}
		events = AppendEvent(events, e)
	}
	return events
}

func BenchmarkApply(b *testing.B) {
	_, engine := newTestEngine(b)
	for _, products := range []int{100, 10_000} {
		events := benchEvents(products)
		for _, side := range []struct {
			name   string
			folder Folder
		}{{"wasm", startGuest(b, engine)}, {"native", &Native{}}} {
			b.Run(fmt.Sprintf("%s/products%d", side.name, products), func(b *testing.B) {
				for b.Loop() {
					if _, err := side.folder.Apply(events); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*BatchMax), "ns/event")
			})
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	_, engine := newTestEngine(b)
	events := benchEvents(10_000)
	for _, side := range []struct {
		name   string
		folder Folder
	}{{"wasm", startGuest(b, engine)}, {"native", &Native{}}} {
		if _, err := side.folder.Apply(events); err != nil {
			b.Fatal(err)
		}
		var buf []byte
		for n, view := range Views {
			b.Run(fmt.Sprintf("%s/projection%d", side.name, n+1), func(b *testing.B) {
				var err error
				for b.Loop() {
					if buf, err = side.folder.Encode(buf[:0], view); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(len(buf)), "B")
			})
		}
	}
}

// BenchmarkRebuild is what a miss costs without the log: a guest from the pool,
// a saved state into it, and an encoding out of it.
func BenchmarkRebuild(b *testing.B) {
	_, engine := newTestEngine(b)
	first := startGuest(b, engine)
	first.Apply(benchEvents(10_000))
	state, err := first.Save(nil)
	if err != nil {
		b.Fatal(err)
	}
	view, _ := ViewOf(5)
	for b.Loop() {
		g, err := engine.Start(ctx)
		if err != nil {
			b.Fatal(err)
		}
		if err := g.Restore(state); err != nil {
			b.Fatal(err)
		}
		if _, err := g.Encode(nil, view); err != nil {
			b.Fatal(err)
		}
		g.Close()
	}
}
