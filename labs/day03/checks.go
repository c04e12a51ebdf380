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
	"github.com/nexuscore-labs/nexus/reports/quantity"
	"github.com/nexuscore-labs/nexus/reports/stats"
	"github.com/nexuscore-labs/nexus/scenarios"
	"github.com/nexuscore-labs/nexus/systems/graphstore/heapmap"
)

// checks are the lab's experiments beside the trials, in the order they run.
func checks() []scenarios.Check {
	return []scenarios.Check{
		{Name: "engines", Doc: "whole answers in one process, without a network: guest, plain Go and heap map in turn", Run: checkEngines},
		{Name: "start", Doc: "how long a guest takes to start, from the pool and cold", Run: checkStart},
	}
}

// graphSizes are the lesson's.
var graphSizes = []int{1000, 10_000, 100_000}

// rounds pair the engines: each gives one value per round.
const rounds = 11

// contest is engines that answer the same queries in turn.
type contest struct {
	names   []string
	engines []graph.Engine
	ns      map[string][]float64 // per answer, by round
	all     map[string][]float64 // single answers of the engines in latencies
}

// checkEngines measures whole answers of each design at each size.
func checkEngines(ctx context.Context, env scenarios.CheckEnv) (found scenarios.CheckResult, err error) {
	runtime, err := host.New(ctx, "")
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, runtime.Close(context.WithoutCancel(ctx))) }()
	guests, err := graph.NewGuests(ctx, runtime, guestMemoryLenMax, 1)
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, guests.Close()) }()
	var p99s []float64
	var speedup stats.Interval
	for i, nodes := range graphSizes {
		c, r, err := newContest(ctx, guests, nodes, env.Seed)
		if err != nil {
			return found, err
		}
		queries := wholeQueries(nodes, env)
		if err := c.compare(r, queries, &found.Oracle); err != nil {
			return found, err
		}
		if err := c.run(queries); err != nil {
			return found, err
		}
		heap := stats.RatioCI(c.ns["heap-map"], c.ns["wasm-csr"], env.Seed)
		sandbox := stats.RatioCI(c.ns["wasm-csr"], c.ns["native-csr"], env.Seed)
		each := stats.MedianCI(c.ns["wasm-csr"], env.Seed)
		p99 := percentile(c.all["wasm-csr"], 0.99)
		p99s = append(p99s, p99)
		suffix := fmt.Sprintf("_%dk", nodes/1000)
		found.Metrics = append(found.Metrics,
			reports.Metric{Name: "bfs_heap_map_ratio" + suffix, Value: heap.Center, CI: heap.Ptr(), Unit: "ratio",
				Doc: fmt.Sprintf("time of the heap map over that of the guest, whole breadth-first answers of depth 3 with documents, %d nodes", nodes)},
			reports.Metric{Name: "bfs_native_ratio" + suffix, Value: sandbox.Center, CI: sandbox.Ptr(), Unit: "ratio",
				Doc: "time of the guest over that of the same search in plain Go: the price of the sandbox"},
			reports.Metric{Name: "bfs_ns" + suffix, Value: each.Center, CI: each.Ptr(), Unit: "ns",
				Doc: "mean time of such an answer from the guest, the median of rounds"},
			reports.Metric{Name: "bfs_p99_ns" + suffix, Value: p99, Unit: "ns",
				Doc: fmt.Sprintf("p99 of %d such answers, each timed by itself, with the clock's own cost", len(c.all["wasm-csr"]))})
		speedup = heap
		if err := c.close(); err != nil {
			return found, err
		}
		env.Progress(i+1, len(graphSizes))
	}
	found.Claims = append(found.Claims,
		atLeast("csr-beats-heap-map", speedup, 5, "the heap map takes %s as long at 100,000 nodes", times(speedup)),
		allBelow("bfs-p99-40us", p99s, 40_000, "p99 at 1,000, 10,000 and 100,000 nodes"))
	return found, nil
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
		ns:      map[string][]float64{}, all: map[string][]float64{},
	}, r, nil
}

func (c *contest) close() (err error) {
	for _, e := range c.engines {
		err = errors.Join(err, e.Close())
	}
	return err
}

// wholeQueries ask for whole answers from random roots.
func wholeQueries(nodes int, env scenarios.CheckEnv) []graph.Query {
	rng := rand.New(rand.NewPCG(env.Seed, uint64(nodes)))
	queries := make([]graph.Query, max(1, int(env.Params["queries"])))
	for i := range queries {
		queries[i] = graph.Query{Root: uint32(rng.IntN(nodes)), DepthMax: 3, Documents: true, ChunkLenMax: graph.ChunkLenMax}
	}
	return queries
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

// run lets the engines answer all queries in turn, in each round in another order.
func (c *contest) run(queries []graph.Query) error {
	var buf []byte
	for round := range rounds + 1 {
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
					c.all[c.names[i]] = append(c.all[c.names[i]], float64(time.Since(start)))
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

// checkStart measures starts of guests.
func checkStart(ctx context.Context, env scenarios.CheckEnv) (found scenarios.CheckResult, err error) {
	runtime, err := host.New(ctx, "")
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, runtime.Close(context.WithoutCancel(ctx))) }()
	image, err := smallImage(env.Seed)
	if err != nil {
		return found, err
	}
	starts := int(env.Params["starts"])
	pooled, loaded, err := pooledStarts(ctx, runtime, image, starts)
	if err != nil {
		return found, err
	}
	cold, err := coldStarts(ctx, runtime, starts)
	if err != nil {
		return found, err
	}
	for _, m := range []struct {
		name, doc string
		ns        []float64
	}{
		{"start_pooled", "an instance taken from the pool, until its functions may be called", pooled},
		{"start_loaded", "the same until it holds a graph of 1,000 nodes, which it has checked", loaded},
		{"start_cold", "a compiled module instantiated, without a pool", cold},
	} {
		for _, p := range []struct {
			suffix string
			share  float64
		}{{"_p50_ns", 0.5}, {"_p99_ns", 0.99}} {
			found.Metrics = append(found.Metrics, reports.Metric{
				Name: m.name + p.suffix, Value: percentile(m.ns, p.share), Unit: "ns", Doc: fmt.Sprintf("%s; of %d", m.doc, len(m.ns))})
		}
	}
	found.Claims = append(found.Claims,
		allBelow("cold-start-80us", []float64{percentile(pooled, 0.99)}, 80_000, fmt.Sprintf("p99 of %d starts from the pool", len(pooled))),
		allBelow("cold-start-80us-unpooled", []float64{percentile(cold, 0.99)}, 80_000, fmt.Sprintf("p99 of %d starts without a pool", len(cold))))
	return found, nil
}

func smallImage(seed uint64) ([]byte, error) {
	graphs, err := corpusOf(workload{nodes: graphSizes[0], graphs: 1, seed: seed})
	if err != nil {
		return nil, err
	}
	return graph.Build(graphs.graphs[0].Edges, graphs.graphs[0].Documents)
}

// pooledStarts takes instances out of a pool that has some ready.
func pooledStarts(ctx context.Context, runtime *host.Runtime, image []byte, n int) (pooled, loaded []float64, err error) {
	guests, err := graph.NewGuests(ctx, runtime, 1<<20, poolSize)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, guests.Close()) }()
	for range n {
		for deadline := time.Now().Add(10 * time.Second); !guests.Ready() && time.Now().Before(deadline); {
			time.Sleep(50 * time.Microsecond)
		}
		began := time.Now()
		guest, err := guests.Take(ctx)
		if err != nil {
			return nil, nil, err
		}
		taken := time.Since(began)
		if err := guest.Load(image, graph.Options{Cursors: 1}); err != nil {
			return nil, nil, errors.Join(err, guest.Close())
		}
		pooled, loaded = append(pooled, float64(taken)), append(loaded, float64(time.Since(began)))
		if err := guest.Close(); err != nil {
			return nil, nil, err
		}
	}
	return pooled, loaded, nil
}

// coldStarts instantiate the compiled module each time.
func coldStarts(ctx context.Context, runtime *host.Runtime, n int) (cold []float64, err error) {
	module, err := graph.Compile(ctx, runtime, 1<<20)
	if err != nil {
		return nil, err
	}
	for range n {
		began := time.Now()
		instance, err := module.Instantiate(ctx)
		if err != nil {
			return nil, err
		}
		cold = append(cold, float64(time.Since(began)))
		if err := instance.Close(ctx); err != nil {
			return nil, err
		}
	}
	return cold, nil
}

// percentile is the value that a share of the values doesn't exceed.
func percentile(values []float64, share float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}

// times writes a ratio with its interval: "2.1× (95% CI 1.9 to 2.4, n=5)".
func times(i stats.Interval) string {
	if !i.Valid() {
		return fmt.Sprintf("no ratio (n=%d)", i.N)
	}
	return fmt.Sprintf("%s× (95%% CI %s to %s, n=%d)", quantity.Digits(i.Center), quantity.Digits(i.Lo), quantity.Digits(i.Hi), i.N)
}

// atLeast judges by where the whole interval lies.
func atLeast(id string, i stats.Interval, limit float64, evidence string, args ...any) reports.ClaimResult {
	verdict := scenarios.ClaimInconclusive
	switch {
	case !i.Valid():
	case i.Lo >= limit:
		verdict = scenarios.ClaimHeld
	case i.Hi < limit:
		verdict = scenarios.ClaimRefuted
	}
	return reports.ClaimResult{ID: id, Verdict: verdict, Evidence: fmt.Sprintf(evidence, args...)}
}

// allBelow holds if every value is below the limit.
func allBelow(id string, ns []float64, limit float64, what string) reports.ClaimResult {
	verdict := scenarios.ClaimHeld
	text := what + ":"
	for _, v := range ns {
		text += " " + quantity.Ns.Format(v)
		if v >= limit {
			verdict = scenarios.ClaimRefuted
		}
	}
	return reports.ClaimResult{ID: id, Verdict: verdict, Evidence: text}
}
