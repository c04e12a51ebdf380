// Package pggraph keeps graphs in PostgreSQL: a table of edges, a table of
// documents, and a recursive common table expression that finds what lies around a
// node, level by level.
package pggraph

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/nexuscore-labs/nexus/components/graph"
	"github.com/nexuscore-labs/nexus/systems/graphstore/cursors"
)

// ErrNoDFS says that SQL has no depth-first search that stops at nodes which were
// met before: SEARCH DEPTH FIRST walks every path.
var ErrNoDFS = errors.New("pggraph: no depth-first search")

// schema of all tenants. The order of a node's edges is part of the key, and the
// key is all that an edge consists of: lookups need the index only.
const schema = `
CREATE TABLE IF NOT EXISTS edges (
	tenant int NOT NULL, node int NOT NULL, ord int NOT NULL, target int NOT NULL,
	PRIMARY KEY (tenant, node, ord) INCLUDE (target));
CREATE TABLE IF NOT EXISTS documents (
	tenant int NOT NULL, node int NOT NULL, body bytea NOT NULL,
	PRIMARY KEY (tenant, node));`

// search finds nodes in the order of a breadth-first search: each level has each
// node once, ranked by the rank of whom it was met from and the order of the edges.
// Nodes of earlier levels come up again in later ones, where they and what is
// behind them change no rank that counts, and are dropped at the end.
const search = `
WITH RECURSIVE level (node, depth, rank) AS (
	SELECT $2::int, 0, 0::bigint
	UNION ALL
	SELECT next.node, next.depth, row_number() OVER (ORDER BY next.from_rank, next.ord)
	FROM (
		SELECT DISTINCT ON (e.target) e.target AS node, l.depth + 1 AS depth, l.rank AS from_rank, e.ord
		FROM level l JOIN edges e ON e.tenant = $1 AND e.node = l.node
		WHERE l.depth < $3
		ORDER BY e.target, l.rank, e.ord
	) next
), first AS (
	SELECT DISTINCT ON (node) node, depth, rank FROM level ORDER BY node, depth
)
SELECT node FROM first WHERE node <> $2 ORDER BY depth, rank LIMIT $4`

// Prepare makes the tables.
func Prepare(ctx context.Context, pool *pgxpool.Pool) error {
	if _, err := pool.Exec(ctx, schema); err != nil {
		return fmt.Errorf("make the tables of graphs: %w", err)
	}
	return nil
}

// Store is one tenant's graph. It may be used concurrently.
type Store struct {
	pool   *pgxpool.Pool
	tenant int32
	nodes  uint32
	unsent cursors.Kept
}

var _ graph.Engine = (*Store)(nil)

// New writes a graph of a tenant that has none yet. It keeps the results of so many
// traversals for their later chunks.
func New(ctx context.Context, pool *pgxpool.Pool, tenant uint32, r graph.Reference, kept int) (*Store, error) {
	s := &Store{pool: pool, tenant: int32(tenant), nodes: uint32(len(r.Edges)), unsent: cursors.Kept{Max: kept}}
	var edges, documents [][]any
	for n := range r.Edges {
		for ord, to := range r.Edges[n] {
			edges = append(edges, []any{s.tenant, int32(n), int32(ord), int32(to)})
		}
		documents = append(documents, []any{s.tenant, int32(n), r.Documents[n]})
	}
	for _, table := range []struct {
		name    string
		columns []string
		rows    [][]any
	}{
		{"edges", []string{"tenant", "node", "ord", "target"}, edges},
		{"documents", []string{"tenant", "node", "body"}, documents},
	} {
		if _, err := pool.CopyFrom(ctx, pgx.Identifier{table.name}, table.columns, pgx.CopyFromRows(table.rows)); err != nil {
			return nil, fmt.Errorf("write the %s of tenant %d: %w", table.name, tenant, err)
		}
	}
	return s, nil
}

// Settle lets the planner know what is in the tables, when all tenants are there.
func Settle(ctx context.Context, pool *pgxpool.Pool) error {
	if _, err := pool.Exec(ctx, "VACUUM ANALYZE edges, documents"); err != nil {
		return fmt.Errorf("analyze the tables of graphs: %w", err)
	}
	return nil
}

// Query implements graph.Engine.
func (s *Store) Query(q graph.Query, dst []byte) ([]byte, error) {
	if _, err := graph.ParseQuery(graph.AppendQuery(nil, q)); err != nil {
		return dst, err
	}
	if q.Root >= s.nodes {
		return dst, graph.UnknownNode
	}
	if q.Algorithm != graph.BFS {
		return dst, ErrNoDFS
	}
	found, kept := s.unsent.Take(q)
	if !kept {
		var err error
		if found, err = s.find(q); err != nil {
			return dst, err
		}
	}
	var documents [][]byte
	first := 0
	return s.unsent.Answer(dst, q, found, func(i int) (_ []byte, err error) {
		if i < first || i >= first+len(documents) {
			first = i
			if documents, err = s.documents(found[i:min(i+documentsOnce, len(found))]); err != nil {
				return nil, err
			}
		}
		return documents[i-first], nil
	})
}

// documentsOnce are fetched together for a chunk.
const documentsOnce = 64

func (s *Store) find(q graph.Query) ([]uint32, error) {
	var limit any // NULL is no limit
	if q.ResultsMax != 0 {
		limit = int64(q.ResultsMax)
	}
	rows, err := s.pool.Query(context.Background(), search, s.tenant, int32(q.Root), int32(q.DepthMax), limit)
	if err != nil {
		return nil, fmt.Errorf("search in PostgreSQL: %w", err)
	}
	nodes, err := pgx.CollectRows(rows, pgx.RowTo[int32])
	if err != nil {
		return nil, fmt.Errorf("search in PostgreSQL: %w", err)
	}
	found := make([]uint32, len(nodes))
	for i, n := range nodes {
		found[i] = uint32(n)
	}
	return found, nil
}

// documents fetches the documents of nodes, in their order.
func (s *Store) documents(nodes []uint32) ([][]byte, error) {
	ids := make([]int32, len(nodes))
	for i, n := range nodes {
		ids[i] = int32(n)
	}
	rows, err := s.pool.Query(context.Background(), `
		SELECT d.body FROM unnest($2::int[]) WITH ORDINALITY AS wanted (node, at)
		JOIN documents d ON d.tenant = $1 AND d.node = wanted.node ORDER BY wanted.at`, s.tenant, ids)
	if err != nil {
		return nil, fmt.Errorf("fetch documents from PostgreSQL: %w", err)
	}
	documents, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		return nil, fmt.Errorf("fetch documents from PostgreSQL: %w", err)
	}
	if len(documents) != len(nodes) {
		return nil, fmt.Errorf("fetch documents from PostgreSQL: %d of %d are there", len(documents), len(nodes))
	}
	return documents, nil
}

// Update implements graph.Engine.
func (s *Store) Update(node uint32, document []byte) error {
	if node >= s.nodes {
		return graph.UnknownNode
	}
	if len(document) > graph.DocumentLenMax {
		return graph.TooLarge
	}
	if document == nil {
		document = []byte{} // nil would be NULL
	}
	_, err := s.pool.Exec(context.Background(), "UPDATE documents SET body = $3 WHERE tenant = $1 AND node = $2", s.tenant, int32(node), document)
	if err != nil {
		return fmt.Errorf("write a document to PostgreSQL: %w", err)
	}
	return nil
}

// Repack implements graph.Engine: vacuuming is PostgreSQL's own affair.
func (s *Store) Repack() error { return nil }

// Arena implements graph.Engine: there is none.
func (s *Store) Arena() (graph.Arena, error) { return graph.Arena{}, nil }

// Close implements graph.Engine. The rows stay, with the server.
func (s *Store) Close() error { return nil }
