// Package graphstore makes, keeps and serves tenants' document graphs: the
// engines of components/graph behind a server, and the designs that they are
// compared with in the folders below.
package graphstore

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"

	"github.com/nexuscore-labs/nexus/components/graph"
)

// Shape says what a generated graph is like. Equal shapes give equal graphs.
type Shape struct {
	Nodes int
	// DegreeMean is the mean number of edges that leave a node.
	DegreeMean float64
	// DocumentLenMin and Max bound the documents; lengths are log-uniform, bytes.
	DocumentLenMin, DocumentLenMax int
	Seed                           uint64
}

// Exponents of the power laws: how many edges leave a node and how many lead to
// one. Social networks have between 2 and 3.
const (
	leavingExponent = 2.7
	leadingExponent = 2.5
)

// degreeMax bounds the edges that leave a node: a post refers to so many others at
// most. Without a bound a few nodes of each graph lead to all of it, and a mean
// over queries is the mean of those that meet them.
const degreeMax = 1000

// PostsShape is the default for graphs of posts: 8 edges a node, documents of 32
// to 192 bytes.
func PostsShape(nodes int, seed uint64) Shape {
	return Shape{Nodes: nodes, DegreeMean: 8, DocumentLenMin: 32, DocumentLenMax: 192, Seed: seed}
}

// Generate makes a graph whose degrees follow power laws. Node numbers say
// nothing about degrees: hubs are anywhere.
func Generate(s Shape) (graph.Reference, error) {
	if s.Nodes < 1 || s.DegreeMean < 0 || s.DocumentLenMin < 0 || s.DocumentLenMax < s.DocumentLenMin || s.DocumentLenMax > graph.DocumentLenMax {
		return graph.Reference{}, fmt.Errorf("graphstore: shape %+v out of range", s)
	}
	rng := rand.New(rand.NewPCG(s.Seed, uint64(s.Nodes)))
	r := graph.Reference{Edges: make([][]uint32, s.Nodes), Documents: make([][]byte, s.Nodes)}
	names := rng.Perm(s.Nodes) // rank of popularity → node
	leastDegree := s.DegreeMean * (leavingExponent - 2) / (leavingExponent - 1)
	for n := range s.Nodes {
		degree := min(int(pareto(rng, leastDegree, leavingExponent)+rng.Float64()), s.Nodes, degreeMax)
		r.Edges[n] = make([]uint32, degree)
		for i := range r.Edges[n] {
			r.Edges[n][i] = uint32(names[popularRank(rng, s.Nodes)])
		}
		r.Documents[n] = document(rng, n, documentLen(rng, s))
	}
	return r, nil
}

// pareto draws from a power law with the given exponent, from least on.
func pareto(rng *rand.Rand, least, exponent float64) float64 {
	return least * math.Pow(1-rng.Float64(), -1/(exponent-1))
}

// popularRank draws a rank so that the number of edges that lead to a node
// follows a power law: the node of rank k gets a share of k^(-1/(exponent-1)).
func popularRank(rng *rand.Rand, nodes int) int {
	const skew = 1 / (leadingExponent - 1)
	u := math.Pow(rng.Float64(), 1/(1-skew)) // inverse of the share's integral
	return min(int(u*float64(nodes)), nodes-1)
}

func documentLen(rng *rand.Rand, s Shape) int {
	low, high := math.Log(float64(s.DocumentLenMin+1)), math.Log(float64(s.DocumentLenMax+2))
	return min(int(math.Exp(low+rng.Float64()*(high-low)))-1, s.DocumentLenMax)
}

var words = []string{"append", "the", "cold", "segment", "a", "tenant", "reads", "of", "its", "pages", "and", "never", "waits", "for", "another"}

// document is a post as JSON would have it, cut or filled to n bytes.
func document(rng *rand.Rand, node, n int) []byte {
	d := make([]byte, 0, n+16)
	d = append(d, `{"id":`...)
	d = strconv.AppendInt(d, int64(node), 10)
	d = append(d, `,"text":"`...)
	for len(d) < n-2 {
		d = append(append(d, words[rng.IntN(len(words))]...), ' ')
	}
	if n < 2 {
		return d[:n:n]
	}
	return append(d[:max(0, n-2)], `"}`...)[:n:n]
}
