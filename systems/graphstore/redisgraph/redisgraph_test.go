package redisgraph

import (
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/nexuscore-labs/nexus/components/graph"
	"github.com/nexuscore-labs/nexus/systems/graphstore/enginetest"
	"github.com/nexuscore-labs/nexus/systems/realserver"
)

func TestEngine(t *testing.T) {
	server, err := realserver.Redis(t.Context())
	if errors.Is(err, realserver.ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	options, err := redis.ParseURL(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	defer client.Close()
	tenant := uint32(0)
	enginetest.Run(t, enginetest.Rounds{Graphs: 4, NodesMax: 150, Queries: 80}, func(t *testing.T, r graph.Reference) graph.Engine {
		tenant++
		s, err := New(t.Context(), client, tenant, r, 3)
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	s := &Store{client: client, nodes: 1}
	if _, err := s.Query(graph.Query{DepthMax: 1}, nil); err == nil {
		t.Error("a query was answered without Redis")
	}
	if err := s.Update(0, nil); err == nil {
		t.Error("an update was taken without Redis")
	}
}
