package day10

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	fold "github.com/nexuscore-labs/nexus/components/projection"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/scenarios"
	"github.com/nexuscore-labs/nexus/systems/projection"
	"github.com/nexuscore-labs/nexus/systems/projection/udpcache"
	"golang.org/x/sys/unix"
)

// Names of the contenders.
const (
	nameXDP       = "xdp-cache"
	nameUDP       = "udp-reuseport"
	nameRedis     = "redis"
	nameAside     = "redis-cache-aside"
	nameAggregate = "postgres-aggregate"
)

// contenders are all of the lab's. Each holds the same events and gives the same
// bytes.
func contenders() []scenarios.Contender {
	return []scenarios.Contender{
		{
			Name: nameXDP, Role: reports.RoleSubject, AnswersInDriver: true, Serve: serveXDP,
			Doc:        "answers in the network driver (XDP), from slots in shared memory; what is not there is rebuilt in a Wasm guest and answered from user space",
			Durability: "reads only", Version: func() string { return "projcache, layout 1" },
		},
		{
			Name: nameUDP, Role: reports.RolePeer, Serve: serveUDP,
			Doc:        "the same projections in a map in user space, behind SO_REUSEPORT sockets, 64 datagrams a system call",
			Durability: "reads only", Version: func() string { return "recvmmsg, sendmmsg" },
		},
		{
			Name: nameRedis, Role: reports.RolePeer, Serve: serveRedis,
			Doc:        "the same projections in Redis, asked for by GET over TCP",
			Durability: "reads only", Version: redisVersion,
		},
		{
			Name: nameAside, Role: reports.RoleBaseline, Serve: serveAside,
			Doc:        "a service that asks Redis, and PostgreSQL for what is not there",
			Durability: "reads only", Version: redisVersion,
		},
		{
			Name: nameAggregate, Role: reports.RoleBaseline, Serve: serveAggregate,
			Doc:        "a service that aggregates the tenant's events in PostgreSQL for each request",
			Durability: "reads only", Version: postgresVersion,
		},
	}
}

// data is what a contender is to hold.
type data struct {
	dataset
	projections []uint32
}

func dataOf(env scenarios.ServeEnv) (data, error) {
	tenants, err := strconv.Atoi(env.Params[scenarios.ParamTenants])
	if err != nil {
		return data{}, fmt.Errorf("the number of tenants: %w", err)
	}
	d, projections, err := shape(env.Params, tenants)
	return data{d, projections}, err
}

// all calls visit for every projection of every tenant.
func (d data) all(visit func(tenant, number uint32) error) error {
	for tenant := range uint32(d.tenants) {
		for _, number := range d.projections {
			if err := visit(tenant, number); err != nil {
				return err
			}
		}
	}
	return nil
}

// openEngine makes an engine in the contender's folder that holds everybody's events.
func (d data) openEngine(ctx context.Context, dir string, options projection.Options) (*projection.Engine, error) {
	path := filepath.Join(dir, "engine")
	if err := os.Mkdir(path, 0o755); err != nil {
		return nil, fmt.Errorf("make the engine's folder: %w", err)
	}
	engine, err := projection.Open(path, options)
	if err != nil {
		return nil, err
	}
	for tenant := range uint32(d.tenants) {
		if err := d.append(ctx, engine, tenant, 0, d.base); err != nil {
			return nil, errors.Join(err, engine.Close())
		}
	}
	return engine, nil
}

func (d data) append(ctx context.Context, engine *projection.Engine, tenant uint32, from, to int) error {
	for from < to {
		n := min(to-from, projection.EventsMax)
		events := make([]fold.Event, n)
		for i := range events {
			events[i] = d.event(tenant, from+i)
		}
		if _, err := engine.Append(ctx, tenant, events...); err != nil {
			return fmt.Errorf("append events of tenant %d: %w", tenant, err)
		}
		from += n
	}
	return nil
}

// serveUDP is the peer in user space: one socket for each CPU that it has.
func serveUDP(ctx context.Context, env scenarios.ServeEnv) (err error) {
	d, err := dataOf(env)
	if err != nil {
		return err
	}
	engine, err := d.openEngine(ctx, env.Dir, projection.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	server, err := udpcache.Listen("udp4", net.JoinHostPort(env.Host, "0"), engine, udpcache.Options{Sockets: cpus()})
	if err != nil {
		return err
	}
	err = d.all(func(tenant, number uint32) error {
		r, err := engine.Rebuild(ctx, tenant, number)
		if err == nil {
			server.Cache().Put(tenant, number, r)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("fill the cache: %w", err)
	}
	if err := env.Ready(server.Addr().String()); err != nil {
		return err
	}
	err = server.Serve(ctx)
	env.Stat("cache_hits", float64(server.Stats().Hits.Load()))
	return err
}

// cpus counts the CPUs that the process may use; GOMAXPROCS may say more.
func cpus() int {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return runtime.NumCPU()
	}
	return max(1, set.Count())
}

func listenUDP(host string) (*net.UDPConn, error) {
	conn, err := net.ListenPacket("udp4", net.JoinHostPort(host, "0"))
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return conn.(*net.UDPConn), nil
}
