package day03

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"

	"github.com/nexuscore-labs/nexus/components/graph"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/reports/quantity"
	"github.com/nexuscore-labs/nexus/scenarios"
)

const (
	arenaNodes = 10_000
	// arenaGrowth lets about half as much again lie dead as is current.
	arenaGrowth = 600 << 10
)

// checkArena replaces documents by others of other lengths until the arena is full
// of dead ones and repacks itself, again and again.
func checkArena(ctx context.Context, env scenarios.CheckEnv) (found scenarios.CheckResult, err error) {
	graphs, err := corpusOf(workload{nodes: arenaNodes, graphs: 1, seed: env.Seed})
	if err != nil {
		return found, err
	}
	r := graph.Reference{Edges: graphs.graphs[0].Edges, Documents: append([][]byte(nil), graphs.graphs[0].Documents...)}
	image, err := graph.Build(r.Edges, r.Documents)
	if err != nil {
		return found, err
	}
	var worst float64
	var after graph.Arena
	err = withGuests(ctx, graph.VisitedBitmap, 16<<20, func(guests *graph.Guests) error {
		guest, err := guests.Load(ctx, image, graph.Options{ArenaGrowth: arenaGrowth, Cursors: 1})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, guest.Close()) }()
		worst, err = replaceAtRandom(guest, r, int(env.Params["updates"]), env.Seed)
		if err != nil {
			return err
		}
		if err := guest.Repack(); err != nil {
			return err
		}
		if after, err = guest.Arena(); err != nil {
			return err
		}
		c := &contest{names: []string{"wasm-csr"}, engines: []graph.Engine{guest}}
		env.Params["queries"] = 50
		return c.compare(r, queriesOf(arenaNodes, env, shapes[1].query)[0], &found.Oracle)
	})
	if err != nil {
		return found, err
	}
	found.Metrics = append(found.Metrics,
		reports.Metric{Name: "fragmentation_worst_ratio", Value: worst, Unit: "ratio", Doc: "share of the arena that held nothing current, at its worst under random updates"},
		reports.Metric{Name: "fragmentation_after_repack_ratio", Value: after.Fragmentation(), Unit: "ratio", Doc: "the same after a repack: padding only"},
		reports.Metric{Name: "repacks_count", Value: float64(after.Repacks), Unit: "count", Doc: "repacks, nearly all by the guest itself because its arena was full"})
	found.Claims = append(found.Claims, claim("fragmentation-below-5", after.Fragmentation() < 0.05,
		"%s of the arena at its worst, %s after a repack", quantity.Share.Format(worst), quantity.Share.Format(after.Fragmentation())))
	return found, nil
}

// replaceAtRandom replaces documents and returns the worst fragmentation seen.
func replaceAtRandom(guest *graph.Guest, r graph.Reference, updates int, seed uint64) (worst float64, err error) {
	rng := rand.New(rand.NewPCG(seed, 31))
	for i := range updates {
		node := rng.IntN(len(r.Edges))
		document := bytes.Repeat([]byte{byte('a' + i%26)}, 32+rng.IntN(161))
		if err := guest.Update(uint32(node), document); err != nil {
			return worst, err
		}
		r.Documents[node] = document
		if i%64 != 0 {
			continue
		}
		arena, err := guest.Arena()
		if err != nil {
			return worst, err
		}
		worst = max(worst, arena.Fragmentation())
	}
	return worst, nil
}
