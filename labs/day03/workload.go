package day03

import (
	"fmt"
	"strconv"
	"sync"

	"github.com/nexuscore-labs/nexus/components/graph"
	"github.com/nexuscore-labs/nexus/scenarios"
	"github.com/nexuscore-labs/nexus/systems/graphstore"
)

// workload is what the scenario's params say of graphs and queries.
type workload struct {
	tenants int
	nodes   int // of each graph
	graphs  int // different ones; tenant t has graph t modulo graphs
	seed    uint64

	algorithm   graph.Algorithm
	depthMax    uint8
	resultsMax  uint32
	chunkLenMax uint32
	documents   bool
	stream      bool // ask for all chunks of an answer, one after the other
}

// Bounds that keep a trial's preparation within seconds.
const (
	nodesMax  = 2_000_000
	graphsMax = 64
)

// workloadOf reads the scenario's params, which say everything.
func workloadOf(params map[string]string) (workload, error) {
	r := paramReader{params: params}
	w := workload{
		tenants:     int(r.number(scenarios.ParamTenants, 0, 1_000_000)),
		nodes:       int(r.number("nodes", 1, nodesMax)),
		graphs:      int(r.number("graphs", 1, graphsMax)),
		seed:        r.number("graph_seed", 0, 1<<62),
		depthMax:    uint8(r.number("depth", 1, graph.DepthMax)),
		resultsMax:  uint32(r.number("results_max", 0, nodesMax)),
		chunkLenMax: uint32(r.number("chunk_bytes", 4, graph.ChunkLenMax)),
		documents:   r.truth("documents"),
		stream:      r.truth("stream"),
	}
	switch r.text("algorithm") {
	case "bfs":
		w.algorithm = graph.BFS
	case "dfs":
		w.algorithm = graph.DFS
	default:
		r.wrong("algorithm", "want bfs or dfs")
	}
	return w, r.err
}

// query is the workload's query from one root.
func (w workload) query(root uint32) graph.Query {
	return graph.Query{
		Root: root, Algorithm: w.algorithm, DepthMax: w.depthMax, ResultsMax: w.resultsMax,
		ChunkLenMax: w.chunkLenMax, Documents: w.documents,
	}
}

// paramReader keeps the first error.
type paramReader struct {
	params map[string]string
	err    error
}

func (r *paramReader) wrong(key, why string) {
	if r.err == nil {
		r.err = fmt.Errorf("workload.params.%s is %q: %s", key, r.params[key], why)
	}
}

func (r *paramReader) text(key string) string { return r.params[key] }

// number reads a whole number; tenants may be absent, as a source has them elsewhere.
func (r *paramReader) number(key string, least, most uint64) uint64 {
	text, given := r.params[key]
	if !given && least == 0 {
		return 0
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n < least || n > most {
		r.wrong(key, fmt.Sprintf("want a whole number from %d to %d", least, most))
	}
	return n
}

func (r *paramReader) truth(key string) bool {
	switch r.params[key] {
	case "true":
		return true
	case "false", "":
	default:
		r.wrong(key, "want true or false")
	}
	return false
}

// corpus is the graphs of a workload.
type corpus struct {
	graphs []graph.Reference
}

type corpusKey struct {
	nodes, graphs int
	seed          uint64
}

var (
	corporaMu sync.Mutex
	corpora   = map[corpusKey]*corpus{}
)

// corpusOf makes a workload's graphs, the same in every process; it keeps them,
// as many trials ask for the same.
func corpusOf(w workload) (*corpus, error) {
	key := corpusKey{w.nodes, w.graphs, w.seed}
	corporaMu.Lock()
	defer corporaMu.Unlock()
	if c := corpora[key]; c != nil {
		return c, nil
	}
	c := &corpus{}
	for i := range w.graphs {
		r, err := graphstore.Generate(graphstore.PostsShape(w.nodes, w.seed+uint64(i)))
		if err != nil {
			return nil, fmt.Errorf("make graph %d of %d nodes: %w", i, w.nodes, err)
		}
		c.graphs = append(c.graphs, r)
	}
	corpora[key] = c
	return c, nil
}

// of is a tenant's graph.
func (c *corpus) of(tenant uint32) graph.Reference { return c.graphs[int(tenant)%len(c.graphs)] }
