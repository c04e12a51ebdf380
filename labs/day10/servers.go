package day10

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/redis/go-redis/v9"

	fold "github.com/nexuscore-labs/nexus/components/projection"
	"github.com/nexuscore-labs/nexus/scenarios"
	"github.com/nexuscore-labs/nexus/systems/projection"
	"github.com/nexuscore-labs/nexus/systems/projection/pgaggregate"
	"github.com/nexuscore-labs/nexus/systems/projection/rediscache"
	"github.com/nexuscore-labs/nexus/systems/projection/sourceserver"
	"github.com/nexuscore-labs/nexus/systems/realserver"
)

// serviceWorkers are the requests that a service in front of a database works on at
// the same time, and its connections.
const serviceWorkers = 32

func redisVersion() string    { return "the system's redis-server" }
func postgresVersion() string { return "the system's PostgreSQL" }

// ownServer makes a real server be started here: one that is named by URL is on
// another network, and its CPU time is nobody's to count.
func ownServer() {
	os.Unsetenv(realserver.RedisURLVariable)
	os.Unsetenv(realserver.PostgresURLVariable)
}

// startRedis starts a server that clients in the other namespace reach, too.
func startRedis(ctx context.Context, host string) (*realserver.Server, error) {
	ownServer()
	return realserver.Redis(ctx, "--bind", host, "127.0.0.1", "--protected-mode", "no", "--io-threads", "1")
}

// serveRedis is the peer whose clients speak to Redis itself.
func serveRedis(ctx context.Context, env scenarios.ServeEnv) (err error) {
	d, err := dataOf(env)
	if err != nil {
		return err
	}
	engine, err := d.openEngine(ctx, env.Dir, projection.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	server, err := startRedis(ctx, env.Host)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	if err := fillRedis(ctx, server.URL, d, engine); err != nil {
		return err
	}
	at, err := netip.ParseAddrPort(server.Address)
	if err != nil {
		return fmt.Errorf("find Redis' port: %w", err)
	}
	host, err := netip.ParseAddr(env.Host)
	if err != nil {
		return fmt.Errorf("find the address to serve at: %w", err)
	}
	if err := env.Ready(netip.AddrPortFrom(host, at.Port()).String()); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case <-server.Exited():
		return fmt.Errorf("redis-server ended: %s", server.Stderr())
	}
}

func fillRedis(ctx context.Context, url string, d data, engine *projection.Engine) error {
	options, err := redis.ParseURL(url)
	if err != nil {
		return errors.New("read Redis' URL")
	}
	client := redis.NewClient(options)
	defer client.Close()
	return d.all(func(tenant, number uint32) error {
		r, err := engine.Rebuild(ctx, tenant, number)
		if err != nil {
			return err
		}
		if err := client.Set(ctx, rediscache.Key(tenant, number), rediscache.Value(r), 0).Err(); err != nil {
			return fmt.Errorf("fill Redis: %w", err)
		}
		return nil
	})
}

// openAggregate starts PostgreSQL with everybody's events.
func openAggregate(ctx context.Context, d data) (*pgaggregate.Store, *realserver.Server, error) {
	ownServer()
	server, err := realserver.Postgres(ctx, "fsync=off", "shared_buffers=128MB") // reads are measured
	if err != nil {
		return nil, nil, err
	}
	store, err := pgaggregate.Open(ctx, server.URL, serviceWorkers)
	if err != nil {
		return nil, nil, errors.Join(err, server.Close())
	}
	for tenant := range uint32(d.tenants) {
		events := make([]fold.Event, d.base)
		for n := range events {
			events[n] = d.event(tenant, n)
		}
		if err := store.Load(ctx, tenant, 1, events); err != nil {
			store.Close()
			return nil, nil, errors.Join(err, server.Close())
		}
	}
	if err := store.Settle(ctx); err != nil {
		store.Close()
		return nil, nil, errors.Join(err, server.Close())
	}
	return store, server, nil
}

func serveAggregate(ctx context.Context, env scenarios.ServeEnv) (err error) {
	d, err := dataOf(env)
	if err != nil {
		return err
	}
	store, server, err := openAggregate(ctx, d)
	if err != nil {
		return err
	}
	defer func() { store.Close(); err = errors.Join(err, server.Close()) }()
	return serveSource(ctx, env, store)
}

func serveAside(ctx context.Context, env scenarios.ServeEnv) (err error) {
	d, err := dataOf(env)
	if err != nil {
		return err
	}
	store, postgres, err := openAggregate(ctx, d)
	if err != nil {
		return err
	}
	defer func() { store.Close(); err = errors.Join(err, postgres.Close()) }()
	server, err := startRedis(ctx, env.Host)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	cache, err := rediscache.Open(ctx, server.URL, serviceWorkers, 0, store)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cache.Close()) }()
	return serveSource(ctx, env, cache)
}

// serveSource is the service that both baselines are.
func serveSource(ctx context.Context, env scenarios.ServeEnv, source sourceserver.Source) error {
	conn, err := listenUDP(env.Host)
	if err != nil {
		return err
	}
	if err := env.Ready(conn.LocalAddr().String()); err != nil {
		return errors.Join(err, conn.Close())
	}
	var stats sourceserver.Stats
	if err := sourceserver.Serve(ctx, conn, source, serviceWorkers, &stats); ctx.Err() == nil {
		return err
	}
	env.Stat("refused_requests", float64(stats.Refused.Load()))
	return nil
}
