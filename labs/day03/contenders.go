package day03

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime/debug"

	"github.com/nexuscore-labs/nexus/bpf/tenantroute"
	"github.com/nexuscore-labs/nexus/components/graph"
	"github.com/nexuscore-labs/nexus/components/host"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/scenarios"
	"github.com/nexuscore-labs/nexus/systems/graphstore"
	"github.com/nexuscore-labs/nexus/systems/graphstore/graphserver"
	"github.com/nexuscore-labs/nexus/systems/graphstore/heapmap"
)

const (
	// cursors are the traversals that an engine of each design keeps for later
	// chunks.
	cursors = 8
	// guestMemoryLenMax bounds a guest: the graph of 100,000 nodes takes 16 MB, its
	// cursors 500 kB each, with the tree 3 MB.
	guestMemoryLenMax = 64 << 20
	poolSize          = 8
	inMemory          = "nothing is stored: graphs are in memory"
)

// contenders are all of the lab's.
func contenders() []scenarios.Contender {
	return append(engineContenders(), serverContenders()...)
}

// engineContenders keep their graphs in the contender's own process.
func engineContenders() []scenarios.Contender {
	return []scenarios.Contender{
		{
			Name: "wasm-csr", Role: reports.RoleSubject, Durability: inMemory,
			Doc:     "compressed sparse rows and document arena in the memory of each tenant's own Wasm guest",
			Version: guestVersion,
			Serve:   serveGuests("", graph.VisitedBitmap),
		},
		{
			Name: "wasm-csr-tree", Role: reports.RoleBaseline, Durability: inMemory,
			Doc:     "wasm-csr before the homework: a B-tree of visited nodes, made anew for each search",
			Version: guestVersion,
			Serve:   serveGuests("", graph.VisitedTree),
		},
		driverContender("wasm-csr-xdp", reports.RoleSubject, tenantroute.WaySocket,
			"wasm-csr behind the driver: an XDP program finds the tenant's slot, AF_XDP carries queries and answers"),
		driverContender("wasm-csr-ring", reports.RolePeer, tenantroute.WayRing,
			"the same with a BPF ring buffer, which copies queries; answers leave by a socket"),
		driverContender("wasm-csr-perf", reports.RolePeer, tenantroute.WayPerf,
			"the same with the lesson's perf buffer"),
		{
			Name: "native-csr", Role: reports.RolePeer, Durability: inMemory,
			Doc:     "the same rows, arena and search in plain Go: the price of the sandbox",
			Version: goVersion,
			Serve: serveEngines(false, func(r graph.Reference) (graph.Engine, error) {
				image, err := graph.Build(r.Edges, r.Documents)
				if err != nil {
					return nil, err
				}
				return graph.NewNative(image, graph.Options{Cursors: cursors})
			}),
		},
		{
			Name: "heap-map", Role: reports.RoleBaseline, Durability: inMemory,
			Doc:     "map[node][]edge on the Go heap, a visited map for each request, a goroutine for each request",
			Version: goVersion,
			Serve: serveEngines(true, func(r graph.Reference) (graph.Engine, error) {
				return heapmap.New(r, cursors), nil
			}),
		},
	}
}

// driverContender is the guests behind the driver.
func driverContender(name, role, way, doc string) scenarios.Contender {
	return scenarios.Contender{
		Name: name, Role: role, Doc: doc, Durability: inMemory, Version: guestVersion, Serve: serveGuests(way, graph.VisitedBitmap),
	}
}

func guestVersion() string {
	return "graph guest 1.0.0, wazero " + moduleVersion("github.com/tetratelabs/wazero")
}

func goVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.GoVersion
	}
	return "unknown Go"
}

// moduleVersion is the version of a module that this binary was built with.
func moduleVersion(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, m := range info.Deps {
		if m.Path == path {
			return m.Version
		}
	}
	return "unknown"
}

// address is where a contender listens: a socket in its folder, or any free
// port of its host.
func address(env scenarios.ServeEnv) string {
	if env.Network == "unix" {
		return filepath.Join(env.Dir, "s")
	}
	return env.Host + ":0"
}

// serveStore starts every tenant's engine and serves them.
func serveStore(ctx context.Context, env scenarios.ServeEnv, w workload, store *graphstore.Tenants, options graphserver.Options) error {
	for tenant := range w.tenants {
		if err := store.Start(uint32(tenant)); err != nil {
			return errors.Join(err, store.Close())
		}
	}
	options.Network, options.Address, options.Store = env.Network, address(env), store
	options.Ready, options.Stat = env.Ready, env.Stat
	return graphserver.Serve(ctx, options)
}

// serveEngines serves engines that open makes of each tenant's graph.
func serveEngines(perRequest bool, open func(graph.Reference) (graph.Engine, error)) func(context.Context, scenarios.ServeEnv) error {
	return func(ctx context.Context, env scenarios.ServeEnv) error {
		w, err := workloadOf(env.Params)
		if err != nil {
			return err
		}
		graphs, err := corpusOf(w)
		if err != nil {
			return err
		}
		store := graphstore.NewTenants(w.tenants, func(tenant uint32) (graph.Engine, error) {
			return open(graphs.of(tenant))
		})
		return serveStore(ctx, env, w, store, graphserver.Options{PerRequest: perRequest})
	}
}

// serveGuests serves Wasm guests, which take the images as they would come over
// a wire; behind the driver if a way is given.
func serveGuests(way string, visited graph.Visited) func(context.Context, scenarios.ServeEnv) error {
	return func(ctx context.Context, env scenarios.ServeEnv) (err error) {
		w, err := workloadOf(env.Params)
		if err != nil {
			return err
		}
		images, err := imagesOf(w)
		if err != nil {
			return err
		}
		background := context.WithoutCancel(ctx)
		runtime, err := host.New(background, "")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, runtime.Close(background)) }()
		guests, err := graph.NewGuestsVisited(background, runtime, visited, guestMemoryLenMax, poolSize)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, guests.Close()) }()
		store := graphstore.NewTenants(w.tenants, func(tenant uint32) (graph.Engine, error) {
			return guests.Load(background, images[int(tenant)%len(images)], graph.Options{Cursors: cursors})
		})
		options := graphserver.Options{}
		if way != "" {
			if env.Device == "" {
				return errors.Join(errors.New("behind the driver: the point needs network: veth"), store.Close())
			}
			options.Driver = &graphserver.Driver{Device: env.Device, Way: way, Tenants: w.tenants}
		}
		err = serveStore(ctx, env, w, store, options)
		env.Stat("guests_started_count", float64(store.Started()))
		env.Stat("guests_lost_count", float64(store.Failed()))
		return err
	}
}

// imagesOf builds and checks the images of a workload's graphs.
func imagesOf(w workload) ([][]byte, error) {
	graphs, err := corpusOf(w)
	if err != nil {
		return nil, err
	}
	var images [][]byte
	for i, r := range graphs.graphs {
		image, err := graph.Build(r.Edges, r.Documents)
		if err == nil {
			err = graph.Check(image)
		}
		if err != nil {
			return nil, fmt.Errorf("build graph %d: %w", i, err)
		}
		images = append(images, image)
	}
	return images, nil
}
