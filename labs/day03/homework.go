package day03

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nexuscore-labs/nexus/components/graph"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/reports/stats"
	"github.com/nexuscore-labs/nexus/scenarios"
)

// dfsResultsMax is the homework's k.
const dfsResultsMax = 20

// checkHomework measures the guest before and after the homework, at each size.
func checkHomework(ctx context.Context, env scenarios.CheckEnv) (found scenarios.CheckResult, err error) {
	var bitmap, early stats.Interval
	err = withGuests(ctx, graph.VisitedBitmap, guestMemoryLenMax, func(after *graph.Guests) error {
		return withGuests(ctx, graph.VisitedTree, guestMemoryLenMax, func(before *graph.Guests) error {
			for i, nodes := range graphSizes {
				if bitmap, early, err = homeworkAt(ctx, before, after, nodes, env, &found); err != nil {
					return err
				}
				env.Progress(i+1, len(graphSizes))
			}
			return nil
		})
	})
	if err != nil {
		return found, err
	}
	lesson, err := lessonOrder(env.Seed)
	if err != nil {
		return found, err
	}
	found.Claims = append(found.Claims, lesson,
		atLeast("bitmap-beats-tree", bitmap, 1.1, "with the tree a search takes %s as long as with the bitmap, at %d nodes", times(bitmap), graphSizes[len(graphSizes)-1]),
		atLeast("short-circuit", early, 1.1, "a whole depth-first search takes %s as long as one that stops at %d results", times(early), dfsResultsMax))
	return found, nil
}

// homeworkAt compares tree and bitmap, whole and short searches in graphs of one size.
func homeworkAt(ctx context.Context, before, after *graph.Guests, nodes int, env scenarios.CheckEnv, found *scenarios.CheckResult) (bitmap, early stats.Interval, err error) {
	graphs, err := corpusOf(workload{nodes: nodes, graphs: 1, seed: env.Seed})
	if err != nil {
		return bitmap, early, err
	}
	r := graphs.graphs[0]
	image, err := graph.Build(r.Edges, r.Documents)
	if err != nil {
		return bitmap, early, err
	}
	with, err := after.Load(ctx, image, graph.Options{Cursors: 1})
	if err != nil {
		return bitmap, early, err
	}
	without, err := before.Load(ctx, image, graph.Options{Cursors: 1})
	if err != nil {
		return bitmap, early, errors.Join(err, with.Close())
	}
	sets := &contest{names: []string{"bitmap", "tree"}, engines: []graph.Engine{with, without}, ns: map[string][]float64{}}
	defer func() { err = errors.Join(err, sets.close()) }()
	searches := queriesOf(nodes, env, shapes[0].query)
	if err := errors.Join(sets.compare(r, searches[0], &found.Oracle), sets.run(searches)); err != nil {
		return bitmap, early, err
	}
	whole := func(root uint32) graph.Query {
		return graph.Query{Root: root, Algorithm: graph.DFS, DepthMax: 3, ChunkLenMax: graph.ChunkLenMax}
	}
	short := func(root uint32) graph.Query {
		q := whole(root)
		q.ResultsMax = dfsResultsMax
		return q
	}
	stops := &contest{names: []string{"short", "whole"}, engines: []graph.Engine{
		rewritten{with, short}, rewritten{with, whole}}, ns: map[string][]float64{}}
	if err := errors.Join(sets.compare(r, queriesOf(nodes, env, short)[0], &found.Oracle), stops.run(searches)); err != nil {
		return bitmap, early, err
	}
	bitmap, early = sets.ratio("tree", "bitmap", env.Seed), stops.ratio("whole", "short", env.Seed)
	suffix := sizeSuffix(nodes)
	found.Metrics = append(found.Metrics,
		ratioMetric("tree_bitmap_ratio"+suffix, bitmap, fmt.Sprintf("time of a search with the lesson's tree over that with the bitmap, in the guest, %d nodes", nodes)),
		nsMetric("tree_ns"+suffix, stats.MedianCI(sets.ns["tree"], env.Seed), "mean time of a search with the tree"),
		nsMetric("bitmap_ns"+suffix, stats.MedianCI(sets.ns["bitmap"], env.Seed), "the same with the bitmap"),
		ratioMetric("dfs_whole_short_ratio"+suffix, early, fmt.Sprintf("time of a whole depth-first search of depth 3 over that of one that stops at %d results", dfsResultsMax)))
	return bitmap, early, nil
}

// rewritten asks an engine other queries from the same roots.
type rewritten struct {
	graph.Engine
	query func(root uint32) graph.Query
}

func (r rewritten) Query(q graph.Query, dst []byte) ([]byte, error) {
	other := r.query(q.Root)
	other.Position = q.Position
	return r.Engine.Query(other, dst)
}

// lessonOrder runs the lesson's loop: a stack of nodes, each of whose neighbours is
// a result before anybody looks whether it was one already.
func lessonOrder(seed uint64) (reports.ClaimResult, error) {
	graphs, err := corpusOf(workload{nodes: graphSizes[0], graphs: 1, seed: seed})
	if err != nil {
		return reports.ClaimResult{}, err
	}
	r := graphs.graphs[0]
	q := graph.Query{Root: 1, DepthMax: 3}
	type hop struct {
		node  uint32
		depth uint8
	}
	visited, stack := map[uint32]bool{}, []hop{{node: q.Root}}
	var results []uint32
	for len(stack) > 0 {
		h := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if h.depth >= q.DepthMax || visited[h.node] {
			continue
		}
		visited[h.node] = true
		for _, to := range r.Edges[h.node] {
			results = append(results, to)
			stack = append(stack, hop{to, h.depth + 1})
		}
	}
	want := r.Find(q)
	distinct := map[uint32]bool{}
	for _, n := range results {
		distinct[n] = true
	}
	delete(distinct, q.Root)
	return claim("lesson-bfs", slices.Equal(results, want),
		"from node %d of %d the lesson's loop gives %d results, %d different ones; a breadth-first search gives %d", q.Root, graphSizes[0], len(results), len(distinct), len(want)), nil
}
