// Package annbench measures the graph index of systems/vectorstore on real
// vectors with held-out queries beside hnswlib, in one run: both are built with
// the same M and ef_construct on one thread, then take turns in searching, so
// that whatever else the machine does hits both. Recall is counted for both by
// the same scan of all vectors.
package annbench

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/nexuscore-labs/nexus/systems/vectorstore/hnsw"
	"github.com/nexuscore-labs/nexus/systems/vectorstore/vectors"
)

// Options of a run.
type Options struct {
	Vectors        [][]float32 // of one length; compared by cosine
	Base           int         // how many are searched
	Queries        int         // how many others are searched for
	K              int         // neighbours wanted
	M              int
	EfConstruction int
	Ef             []int // values to search with
	Rounds         int   // each ef is measured so often; the median counts
	Seed           uint64
	WithoutPeer    bool // leave hnswlib out
	Progress       func(what string)
}

// Result is one engine at one ef.
type Result struct {
	Engine         string  `json:"engine"`
	Ef             int     `json:"ef"`
	Recall         float64 `json:"recall"`
	QueriesPerS    float64 `json:"queries_per_s"`
	BuildS         float64 `json:"build_s"`
	BytesPerVector float64 `json:"bytes_per_vector,omitempty"` // 0: not measured
}

// engine answers all queries with one ef.
type engine interface {
	name() string
	buildS() float64
	bytes() float64
	// search returns how long it took and the found vectors of each query.
	search(ctx context.Context, ef int) (time.Duration, [][]uint32, error)
	close() error
}

// Run builds and measures. An absent hnswlib is an error unless it is left out.
func Run(ctx context.Context, o Options) ([]Result, error) {
	if o.Base < 1 || o.Queries < 1 || o.K < 1 || o.Rounds < 1 || len(o.Ef) == 0 || o.Base+o.Queries > len(o.Vectors) {
		return nil, fmt.Errorf("annbench: %d vectors and %d queries of %d, %d neighbours, %d rounds, %d values of ef", o.Base, o.Queries, len(o.Vectors), o.K, o.Rounds, len(o.Ef))
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	base, queries := split(o)
	truth, err := nearest(ctx, base, queries, o.K)
	if err != nil {
		return nil, err
	}
	engines, err := build(ctx, o, base, queries)
	defer func() {
		for _, e := range engines {
			_ = e.close()
		}
	}()
	if err != nil {
		return nil, err
	}
	var out []Result
	for _, ef := range o.Ef {
		o.Progress(fmt.Sprintf("searching with ef %d", ef))
		results, err := measure(ctx, o, engines, ef, truth)
		if err != nil {
			return nil, err
		}
		out = append(out, results...)
	}
	return out, nil
}

// split draws the searched vectors and the queries, which are never the same.
func split(o Options) (base, queries [][]float32) {
	order := rand.New(rand.NewPCG(o.Seed, 0x616e6e)).Perm(len(o.Vectors))
	for i, at := range order[:o.Base+o.Queries] {
		if i < o.Base {
			base = append(base, o.Vectors[at])
		} else {
			queries = append(queries, o.Vectors[at])
		}
	}
	return base, queries
}

func build(ctx context.Context, o Options, base, queries [][]float32) (engines []engine, err error) {
	for _, quantized := range []bool{false, true} {
		o.Progress("building, int8 " + fmt.Sprint(quantized))
		e, err := buildOwn(ctx, o, base, queries, quantized)
		if err != nil {
			return engines, err
		}
		engines = append(engines, e)
	}
	if o.WithoutPeer {
		return engines, nil
	}
	o.Progress("building, hnswlib")
	e, err := buildPeer(ctx, o, base, queries)
	if err != nil {
		return engines, err
	}
	return append(engines, e), nil
}

func measure(ctx context.Context, o Options, engines []engine, ef int, truth [][]uint32) ([]Result, error) {
	times, recalls := make([][]time.Duration, len(engines)), make([]float64, len(engines))
	for range o.Rounds {
		for i, e := range engines {
			took, found, err := e.search(ctx, ef)
			if err != nil {
				return nil, fmt.Errorf("%s with ef %d: %w", e.name(), ef, err)
			}
			times[i], recalls[i] = append(times[i], took), recall(found, truth)
		}
	}
	var out []Result
	for i, e := range engines {
		slices.Sort(times[i])
		median := times[i][len(times[i])/2]
		out = append(out, Result{Engine: e.name(), Ef: ef, Recall: recalls[i], BuildS: e.buildS(), BytesPerVector: e.bytes(),
			QueriesPerS: float64(o.Queries) / median.Seconds()})
	}
	return out, nil
}

// recall is the share of the true neighbours that were found.
func recall(found, truth [][]uint32) float64 {
	hits, wanted := 0, 0
	for i, want := range truth {
		wanted += len(want)
		for _, id := range want {
			if slices.Contains(found[i], id) {
				hits++
			}
		}
	}
	return float64(hits) / float64(max(wanted, 1))
}

// nearest is the truth: a scan, in f32.
func nearest(ctx context.Context, base, queries [][]float32, k int) ([][]uint32, error) {
	table, err := vectors.NewTable(len(base[0]), vectors.Cosine, false)
	if err != nil {
		return nil, err
	}
	for i, v := range base {
		if err := table.Put(uint32(i), v); err != nil {
			return nil, err
		}
	}
	query, out := table.NewQuery(), make([][]uint32, len(queries))
	slots, distances := make([]uint32, vectors.BatchMax), make([]float32, vectors.BatchMax)
	all := make([]hnsw.Hit, 0, len(base))
	for i, v := range queries {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := query.Set(v); err != nil {
			return nil, err
		}
		all = all[:0]
		for at := 0; at < len(base); at += len(slots) {
			n := min(len(slots), len(base)-at)
			for j := range n {
				slots[j] = uint32(at + j)
			}
			query.Exact(slots[:n], distances)
			for j := range n {
				all = append(all, hnsw.Hit{Slot: slots[j], Distance: distances[j]})
			}
		}
		slices.SortFunc(all, func(a, b hnsw.Hit) int {
			return cmp.Or(cmp.Compare(a.Distance, b.Distance), cmp.Compare(a.Slot, b.Slot))
		})
		for _, hit := range all[:min(k, len(all))] {
			out[i] = append(out[i], hit.Slot)
		}
	}
	return out, nil
}
