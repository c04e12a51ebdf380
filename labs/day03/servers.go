package day03

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"github.com/nexuscore-labs/nexus/components/graph"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/scenarios"
	"github.com/nexuscore-labs/nexus/systems/graphstore"
	"github.com/nexuscore-labs/nexus/systems/graphstore/graphserver"
	"github.com/nexuscore-labs/nexus/systems/graphstore/pggraph"
	"github.com/nexuscore-labs/nexus/systems/graphstore/redisgraph"
	"github.com/nexuscore-labs/nexus/systems/realserver"
)

// opened is a store's opener and what closes its server.
type opened struct {
	open   func(tenant uint32, r graph.Reference) (graph.Engine, error)
	settle func() error // when all tenants are there
	close  func() error
}

// serverContenders keep their graphs in real servers, which the contender starts
// beside itself, on its own CPUs, or finds by URL.
func serverContenders() []scenarios.Contender {
	return []scenarios.Contender{
		{
			Name: "redis-adjacency", Role: reports.RolePeer, Durability: inMemory,
			Doc:     "Redis with a packed row and a document for each node; each level of a search is one MGET",
			Version: func() string { return "Redis, go-redis " + moduleVersion("github.com/redis/go-redis/v9") },
			Serve:   serveServer(openRedis),
		},
		{
			Name: "postgres-cte", Role: reports.RoleBaseline, Durability: "graphs are loaded before the trial; queries store nothing",
			Doc:     "PostgreSQL with a table of edges and a recursive common table expression",
			Version: func() string { return "PostgreSQL, pgx " + moduleVersion("github.com/jackc/pgx/v5") },
			Serve:   serveServer(openPostgres),
		},
	}
}

func openRedis(ctx context.Context) (opened, error) {
	server, err := realserver.Redis(ctx)
	if err != nil {
		return opened{}, err
	}
	options, err := redis.ParseURL(server.URL)
	if err != nil {
		return opened{}, errors.Join(errors.New("the address of Redis can't be read"), server.Close())
	}
	client := redis.NewClient(options)
	return opened{
		open: func(tenant uint32, r graph.Reference) (graph.Engine, error) {
			return redisgraph.New(ctx, client, tenant, r, cursors)
		},
		settle: func() error { return nil },
		close:  func() error { return errors.Join(client.Close(), server.Close()) },
	}, nil
}

func openPostgres(ctx context.Context) (opened, error) {
	server, err := realserver.Postgres(ctx, "shared_buffers=256MB", "jit=off") // compiling costs more than these queries
	if err != nil {
		return opened{}, err
	}
	pool, err := pgxpool.New(ctx, server.URL)
	if err != nil {
		return opened{}, errors.Join(err, server.Close())
	}
	closeAll := func() error { pool.Close(); return server.Close() }
	if err := pggraph.Prepare(ctx, pool); err != nil {
		return opened{}, errors.Join(err, closeAll())
	}
	return opened{
		open: func(tenant uint32, r graph.Reference) (graph.Engine, error) {
			return pggraph.New(ctx, pool, tenant, r, cursors)
		},
		settle: func() error { return pggraph.Settle(ctx, pool) },
		close:  closeAll,
	}, nil
}

// serveServer loads every tenant's graph into a server and serves them.
func serveServer(start func(context.Context) (opened, error)) func(context.Context, scenarios.ServeEnv) error {
	return func(ctx context.Context, env scenarios.ServeEnv) (err error) {
		w, err := workloadOf(env.Params)
		if err != nil {
			return err
		}
		graphs, err := corpusOf(w)
		if err != nil {
			return err
		}
		o, err := start(context.WithoutCancel(ctx))
		if err != nil {
			return fmt.Errorf("start the server: %w", err)
		}
		defer func() { err = errors.Join(err, o.close()) }()
		store := graphstore.NewTenants(w.tenants, func(tenant uint32) (graph.Engine, error) {
			return o.open(tenant, graphs.of(tenant))
		})
		for tenant := range w.tenants {
			if err := store.Start(uint32(tenant)); err != nil {
				return errors.Join(err, store.Close())
			}
		}
		if err := o.settle(); err != nil {
			return errors.Join(err, store.Close())
		}
		return serveStore(ctx, env, w, store, graphserver.Options{PerRequest: true})
	}
}
