package graphstore

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"testing"

	"github.com/nexuscore-labs/nexus/components/graph"
)

func TestGenerateIsSeededAndSkewed(t *testing.T) {
	const nodes = 20_000
	a, err := Generate(PostsShape(nodes, 7))
	if err != nil {
		t.Fatal(err)
	}
	b, err := Generate(PostsShape(nodes, 7))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(a, b) {
		t.Fatal("equal shapes gave two graphs")
	}
	edges, degrees := 0, make([]int, nodes)
	for n, targets := range a.Edges {
		edges += len(targets)
		for _, to := range targets {
			degrees[to]++
		}
		d := a.Documents[n]
		if len(d) < 32 || len(d) > 192 || !json.Valid(d) {
			t.Fatalf("node %d: document %q", n, d)
		}
	}
	slices.Sort(degrees)
	top := 0
	for _, d := range degrees[nodes-nodes/100:] {
		top += d
	}
	if mean := float64(edges) / nodes; mean < 6 || mean > 12 {
		t.Errorf("%.2f edges a node", mean)
	}
	// The power law gives the first hundredth of the nodes 0.01^(1-1/1.5) = 0.22 of the edges.
	if share := float64(top) / float64(edges); share < 0.17 || share > 0.27 {
		t.Errorf("%.2f of the edges lead to the first hundredth of the nodes", share)
	}
	image, err := graph.Build(a.Edges, a.Documents)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d edges, image of %d bytes", edges, len(image))
}

func TestGenerateRefuses(t *testing.T) {
	for _, s := range []Shape{{}, {Nodes: 1, DegreeMean: -1}, {Nodes: 1, DocumentLenMin: 2, DocumentLenMax: 1}, {Nodes: 1, DocumentLenMax: graph.DocumentLenMax + 1}} {
		if _, err := Generate(s); err == nil {
			t.Errorf("%+v was generated", s)
		}
	}
}

func TestShortDocuments(t *testing.T) {
	r, err := Generate(Shape{Nodes: 100, DegreeMean: 1, DocumentLenMax: 5, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range r.Documents {
		if len(d) > 5 || bytes.IndexByte(d, 0) >= 0 {
			t.Fatalf("document %q", d)
		}
	}
}
