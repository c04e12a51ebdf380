package day03

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nexuscore-labs/nexus/components/graph"
	"github.com/nexuscore-labs/nexus/components/host"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/scenarios"
)

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
