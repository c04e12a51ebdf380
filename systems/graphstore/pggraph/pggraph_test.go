package pggraph

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/nexuscore-labs/nexus/components/graph"
	"github.com/nexuscore-labs/nexus/systems/graphstore/enginetest"
	"github.com/nexuscore-labs/nexus/systems/realserver"
)

func TestEngine(t *testing.T) {
	server, err := realserver.Postgres(t.Context(), "fsync=off")
	if errors.Is(err, realserver.ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	pool, err := pgxpool.New(t.Context(), server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if err := Prepare(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	tenant := uint32(0)
	enginetest.Run(t, enginetest.Rounds{Graphs: 4, NodesMax: 120, Queries: 80, BFSOnly: true}, func(t *testing.T, r graph.Reference) graph.Engine {
		tenant++
		s, err := New(t.Context(), pool, tenant, r, 3)
		if err != nil {
			t.Fatal(err)
		}
		if err := Settle(t.Context(), pool); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Query(graph.Query{DepthMax: 1, Algorithm: graph.DFS}, nil); !errors.Is(err, ErrNoDFS) {
			t.Errorf("depth first: error %v", err)
		}
		return s
	})
	pool.Close()
	s := &Store{pool: pool, nodes: 1}
	if _, err := s.Query(graph.Query{DepthMax: 1}, nil); err == nil {
		t.Error("a query was answered without PostgreSQL")
	}
}
