package day03

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/nexuscore-labs/nexus/components/graph"
	"github.com/nexuscore-labs/nexus/components/host"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/reports/stats"
	"github.com/nexuscore-labs/nexus/scenarios"
	"github.com/nexuscore-labs/nexus/systems/graphstore/heapmap"
)

// checks are the lab's experiments beside the trials, in the order they run.
func checks() []scenarios.Check {
	return []scenarios.Check{
		{Name: "engines", Doc: "whole answers in one process, without a network: guest, plain Go and heap map in turn", Run: checkEngines},
		{Name: "start", Doc: "how long a guest takes to start, from the pool and cold", Run: checkStart},
		{Name: "homework", Doc: "the visited set as a tree and as a bitmap, and a search that stops early", Run: checkHomework},
		{Name: "arena", Doc: "fragmentation of the arena under updates, and after a repack", Run: checkArena},
		{Name: "shards", Doc: "a graph over several guests of 4 MiB: what a hop through the host costs", Run: checkShards},
		{Name: "handover", Doc: "the programs in the driver, run outside of any: what they cost by packet", Run: checkHandover},
		{Name: "claims-trials", Doc: "claims that the trials decide", Run: checkTrialClaims},
	}
}

// graphSizes are the lesson's.
var graphSizes = []int{1000, 10_000, 100_000}

// rounds pair the engines: each gives one value per round.
const rounds = 11

// shape is a kind of query that engines are compared by.
type shape struct {
	name, doc string
	query     func(root uint32) graph.Query
}

var shapes = []shape{
	{"bfs", "searches of depth 3 for node numbers", func(root uint32) graph.Query {
		return graph.Query{Root: root, DepthMax: 3, ChunkLenMax: graph.ChunkLenMax}
	}},
	{"documents", "whole answers of depth 3 with documents", func(root uint32) graph.Query {
		return graph.Query{Root: root, DepthMax: 3, ChunkLenMax: graph.ChunkLenMax, Documents: true}
	}},
	{"bounded", "answers of depth 2 with at most 64 documents", func(root uint32) graph.Query {
		return graph.Query{Root: root, DepthMax: 2, ChunkLenMax: graph.ChunkLenMax, Documents: true, ResultsMax: 64}
	}},
}

// contest is engines that answer the same queries in turn.
type contest struct {
	names   []string
	engines []graph.Engine
	ns      map[string][]float64 // per answer, by round
	single  []float64            // single answers of the first engine
}

// withGuests calls use with guests of a runtime of their own.
func withGuests(ctx context.Context, visited graph.Visited, memoryLenMax int, use func(*graph.Guests) error) (err error) {
	ctx = context.WithoutCancel(ctx)
	runtime, err := host.New(ctx, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, runtime.Close(ctx)) }()
	guests, err := graph.NewGuestsVisited(ctx, runtime, visited, memoryLenMax, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, guests.Close()) }()
	return use(guests)
}

// checkEngines measures answers of each design at each size.
func checkEngines(ctx context.Context, env scenarios.CheckEnv) (found scenarios.CheckResult, err error) {
	var p99s []float64
	var speedup stats.Interval
	err = withGuests(ctx, graph.VisitedBitmap, guestMemoryLenMax, func(guests *graph.Guests) error {
		for i, nodes := range graphSizes {
			for _, shape := range shapes {
				c, err := engineContest(ctx, guests, nodes, shape, env, &found)
				if err != nil {
					return err
				}
				if shape.name == "bfs" {
					speedup = c.ratio("heap-map", "wasm-csr", env.Seed)
				}
				if shape.name == "bounded" {
					p99s = append(p99s, percentile(c.single, 0.99))
				}
			}
			env.Progress(i+1, len(graphSizes))
		}
		return nil
	})
	if err != nil {
		return found, err
	}
	found.Claims = append(found.Claims,
		atLeast("csr-beats-heap-map", speedup, 5, "the heap map takes %s as long for a search at %d nodes", times(speedup), graphSizes[len(graphSizes)-1]),
		allBelow("bfs-p99-40us", p99s, 40_000, "p99 of answers with up to 64 documents within depth 2, by size"))
	return found, nil
}

// engineContest compares the designs by one shape of queries, and adds what it
// measured to found.
func engineContest(ctx context.Context, guests *graph.Guests, nodes int, shape shape, env scenarios.CheckEnv, found *scenarios.CheckResult) (*contest, error) {
	c, r, err := newContest(ctx, guests, nodes, env.Seed)
	if err != nil {
		return nil, err
	}
	queries := queriesOf(nodes, env, shape.query)
	if err := errors.Join(c.compare(r, queries[0], &found.Oracle), c.run(queries)); err != nil {
		return nil, errors.Join(err, c.close())
	}
	suffix := sizeSuffix(nodes)
	found.Metrics = append(found.Metrics,
		ratioMetric(shape.name+"_heap_map_ratio"+suffix, c.ratio("heap-map", "wasm-csr", env.Seed),
			fmt.Sprintf("time of the heap map over that of the guest, %s, %d nodes", shape.doc, nodes)),
		ratioMetric(shape.name+"_native_ratio"+suffix, c.ratio("wasm-csr", "native-csr", env.Seed),
			"time of the guest over that of the same search in plain Go: the price of the sandbox"),
		nsMetric(shape.name+"_ns"+suffix, stats.MedianCI(c.ns["wasm-csr"], env.Seed), "mean time of such an answer from the guest, the median of rounds"),
		reports.Metric{Name: shape.name + "_p99_ns" + suffix, Value: percentile(c.single, 0.99), Unit: "ns",
			Doc: fmt.Sprintf("p99 of %d such answers, each timed by itself, with the clock's own cost", len(c.single))})
	return c, c.close()
}

func sizeSuffix(nodes int) string { return fmt.Sprintf("_%dk", nodes/1000) }

func ratioMetric(name string, i stats.Interval, doc string) reports.Metric {
	return reports.Metric{Name: name, Value: i.Center, CI: i.Ptr(), Unit: "ratio", Doc: doc}
}

func nsMetric(name string, i stats.Interval, doc string) reports.Metric {
	return reports.Metric{Name: name, Value: i.Center, CI: i.Ptr(), Unit: "ns", Doc: doc}
}

// ratio is the time of one engine over that of another, in paired rounds.
func (c *contest) ratio(subject, against string, seed uint64) stats.Interval {
	return stats.RatioCI(c.ns[subject], c.ns[against], seed)
}

// newContest loads one graph into each design.
func newContest(ctx context.Context, guests *graph.Guests, nodes int, seed uint64) (*contest, graph.Reference, error) {
	graphs, err := corpusOf(workload{nodes: nodes, graphs: 1, seed: seed})
	if err != nil {
		return nil, graph.Reference{}, err
	}
	r := graphs.graphs[0]
	image, err := graph.Build(r.Edges, r.Documents)
	if err != nil {
		return nil, r, err
	}
	options := graph.Options{Cursors: 1}
	native, err := graph.NewNative(image, options)
	if err != nil {
		return nil, r, err
	}
	guest, err := guests.Load(ctx, image, options)
	if err != nil {
		return nil, r, err
	}
	return &contest{
		names:   []string{"wasm-csr", "native-csr", "heap-map"},
		engines: []graph.Engine{guest, native, heapmap.New(r, 1)},
		ns:      map[string][]float64{},
	}, r, nil
}

func (c *contest) close() (err error) {
	for _, e := range c.engines {
		err = errors.Join(err, e.Close())
	}
	return err
}

// queriesOf are queries of one shape from random roots, others for each round: the
// same over and over would find all that they need in the caches. The first round
// warms up.
func queriesOf(nodes int, env scenarios.CheckEnv, shape func(root uint32) graph.Query) [][]graph.Query {
	rng := rand.New(rand.NewPCG(env.Seed, uint64(nodes)))
	all := make([][]graph.Query, rounds+1)
	for round := range all {
		for range max(1, int(env.Params["queries"])) {
			all[round] = append(all[round], shape(uint32(rng.IntN(nodes))))
		}
	}
	return all
}

// compare holds every engine's answers against the dumb search's.
func (c *contest) compare(r graph.Reference, queries []graph.Query, result *reports.OracleResult) error {
	for i, e := range c.engines {
		for _, q := range queries {
			asked, err := ask(r, q, true)
			if err != nil {
				return err
			}
			for chunk, want := range asked.chunks {
				q, err := graph.ParseQuery(asked.queries[chunk])
				if err != nil {
					return err
				}
				got, err := e.Query(q, nil)
				if err != nil {
					return fmt.Errorf("%s: %+v: %w", c.names[i], q, err)
				}
				result.Checked++
				if !slices.Equal(got, want) {
					result.Wrong++
					result.Note = fmt.Sprintf("%s: %+v: wrong chunk", c.names[i], q)
				}
			}
		}
	}
	return nil
}

// run lets the engines answer each round's queries in turn, in each round in another
// order.
func (c *contest) run(all [][]graph.Query) error {
	var buf []byte
	for round, queries := range all {
		for turn := range c.engines {
			i := (turn + round) % len(c.engines)
			began := time.Now()
			for _, q := range queries {
				start := time.Now()
				var err error
				if buf, err = whole(c.engines[i], q, buf); err != nil {
					return fmt.Errorf("%s: %w", c.names[i], err)
				}
				if round > 0 && i == 0 {
					c.single = append(c.single, float64(time.Since(start)))
				}
			}
			if round > 0 { // the first one warmed up
				c.ns[c.names[i]] = append(c.ns[c.names[i]], float64(time.Since(began))/float64(len(queries)))
			}
		}
	}
	return nil
}

// whole asks for all chunks of an answer.
func whole(e graph.Engine, q graph.Query, buf []byte) ([]byte, error) {
	for {
		body, err := e.Query(q, buf[:0])
		if err != nil {
			return buf, err
		}
		chunk, err := graph.ParseChunk(body)
		if err != nil || chunk.Done {
			return body, err
		}
		q.Position, buf = chunk.Next, body
	}
}
