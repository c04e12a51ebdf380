package day03

import (
	"context"
	"errors"
	"fmt"

	"github.com/nexuscore-labs/nexus/components/graph"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/reports/stats"
	"github.com/nexuscore-labs/nexus/scenarios"
	"github.com/nexuscore-labs/nexus/systems/graphstore/shards"
)

// checkShards holds a graph over several guests against the same graph in one.
func checkShards(ctx context.Context, env scenarios.CheckEnv) (found scenarios.CheckResult, err error) {
	nodes := graphSizes[len(graphSizes)-1]
	graphs, err := corpusOf(workload{nodes: nodes, graphs: 1, seed: env.Seed})
	if err != nil {
		return found, err
	}
	r := graphs.graphs[0]
	image, err := graph.Build(r.Edges, r.Documents)
	if err != nil {
		return found, err
	}
	plan, err := shards.Split(r, min(shards.ImageLenMax, len(image)/2+16*nodes))
	if err != nil {
		return found, err
	}
	queries := queriesOf(nodes, env, shapes[0].query)
	var c *contest
	var split *shards.Store
	err = withGuests(ctx, graph.VisitedBitmap, guestMemoryLenMax, func(guests *graph.Guests) (err error) {
		one, err := guests.Load(ctx, image, graph.Options{Cursors: 1})
		if err != nil {
			return err
		}
		if split, err = shards.Open(ctx, guests, plan, graph.Options{Cursors: 1}); err != nil {
			return errors.Join(err, one.Close())
		}
		c = &contest{names: []string{"one", "split"}, engines: []graph.Engine{one, split}, ns: map[string][]float64{}}
		defer func() { err = errors.Join(err, c.close()) }()
		return errors.Join(c.compare(r, queries[0], &found.Oracle), c.run(queries))
	})
	if err != nil {
		return found, err
	}
	perHop := make([]float64, rounds)
	for i := range perHop {
		expansions := 0.0
		for _, q := range queries[i+1] {
			q.DepthMax--
			expansions += float64(1 + len(r.Find(q)))
		}
		perHop[i] = (c.ns["split"][i] - c.ns["one"][i]) * float64(len(queries[i+1])) / expansions
	}
	hop, overhead := stats.MedianCI(perHop, env.Seed), c.ratio("split", "one", env.Seed)
	found.Metrics = append(found.Metrics,
		reports.Metric{Name: "shards_count", Value: float64(len(plan.Images)), Unit: "count", Doc: fmt.Sprintf("guests of at most 4 MiB for a graph of %d nodes", nodes)},
		ratioMetric("shards_ratio", overhead, "time of a search over all shards, bridged by the host, over that of one in a single guest"),
		nsMetric("shard_hop_ns", hop, "what a node costs more whose edges are fetched through the host"))
	found.Claims = append(found.Claims, claim("shards-answer-alike", found.Oracle.Wrong == 0 && len(plan.Images) > 1,
		"%d shards, %d answers compared, %d wrong; a search takes %s as long, and each hop %.0f ns more", len(plan.Images), found.Oracle.Checked, found.Oracle.Wrong, times(overhead), hop.Center))
	return found, nil
}
