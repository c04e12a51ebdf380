package day10

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/nexuscore-labs/nexus/bpf/projcache"
	"github.com/nexuscore-labs/nexus/scenarios"
	"github.com/nexuscore-labs/nexus/systems/projection"
	"github.com/nexuscore-labs/nexus/systems/projection/drivercache"
	"github.com/nexuscore-labs/nexus/systems/projection/sourceserver"
)

const (
	slotsMin = 1024
	// missWorkers rebuild what the driver did not have.
	missWorkers = 8
)

// serveXDP is the subject.
func serveXDP(ctx context.Context, env scenarios.ServeEnv) (err error) {
	d, err := dataOf(env)
	if err != nil {
		return err
	}
	device, err := net.InterfaceByName(env.Device)
	if err != nil {
		return fmt.Errorf("find the interface to serve (workload.network: veth): %w", err)
	}
	engine, err := d.openEngine(ctx, env.Dir, projection.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	cache, err := projcache.Open(projcache.Options{Slots: max(slotsMin, 2*d.tenants*len(d.projections)), Tenants: d.tenants})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cache.Close()) }()
	publisher := drivercache.New(engine, cache)
	err = d.all(func(tenant, number uint32) error {
		_, err := publisher.Rebuild(ctx, tenant, number)
		return err
	})
	if err != nil {
		return fmt.Errorf("fill the cache: %w", err)
	}
	conn, err := listenUDP(env.Host)
	if err != nil {
		return err
	}
	address := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	program, err := cache.Load(projcache.Service{Port: address.Port(), IPv4: address.Addr().Unmap()})
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	defer func() { err = errors.Join(err, program.Close()) }()
	attachment, err := cache.Attach(program, device.Index)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	defer func() { err = errors.Join(err, attachment.Close()) }()
	if err := env.Ready(address.String()); err != nil {
		return errors.Join(err, conn.Close())
	}
	updating, stop := context.WithCancel(ctx)
	updated := make(chan error, 1)
	go func() { updated <- d.update(updating, env.Params[paramUpdates], engine, publisher) }()
	var stats sourceserver.Stats
	served := sourceserver.Serve(ctx, conn, publisher, missWorkers, &stats)
	stop()
	if ctx.Err() != nil && errors.Is(served, ctx.Err()) {
		served = nil
	}
	if err := errors.Join(served, <-updated); err != nil {
		return err
	}
	return tell(env, cache, attachment, &stats)
}

// tell reports the counters.
func tell(env scenarios.ServeEnv, cache *projcache.Cache, a *projcache.Attachment, stats *sourceserver.Stats) error {
	counts, err := cache.Counts()
	if err != nil {
		return err
	}
	hits, misses := float64(counts.Packets[projcache.Answered]), float64(stats.Answered.Load())
	env.Stat("driver_answers", hits)
	env.Stat("userspace_answers", misses)
	if hits+misses > 0 {
		env.Stat("driver_hit_ratio", hits/(hits+misses))
	}
	env.Stat("reads_repeated", float64(counts.ReadAgain))
	env.Stat("evicted_values", float64(cache.Stats().Evicted))
	native := 0.0
	if a.Mode == projcache.ModeNative {
		native = 1
	}
	env.Stat("native_xdp", native)
	return nil
}

// update appends one event after the other and publishes what it changes, so many a
// second, over all tenants in turn, until each has had its share.
func (d data) update(ctx context.Context, perS string, engine *projection.Engine, publisher *drivercache.Publisher) error {
	if perS == "" || d.more == 0 {
		return nil
	}
	var rate float64
	if _, err := fmt.Sscan(perS, &rate); err != nil || rate <= 0 {
		return fmt.Errorf("workload.params.%s: %q is no rate", paramUpdates, perS)
	}
	ticker := time.NewTicker(time.Duration(float64(time.Second) / rate))
	defer ticker.Stop()
	for n := d.base; n < d.base+d.more; n++ {
		for tenant := range uint32(d.tenants) {
			select {
			case <-ctx.Done():
				return nil
			case <-ticker.C:
			}
			if err := d.publish(ctx, engine, publisher, tenant, n); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return err
			}
		}
	}
	return nil
}

func (d data) publish(ctx context.Context, engine *projection.Engine, publisher *drivercache.Publisher, tenant uint32, n int) error {
	if err := d.append(ctx, engine, tenant, n, n+1); err != nil {
		return err
	}
	for _, number := range d.projections {
		if _, err := publisher.Rebuild(ctx, tenant, number); err != nil {
			return err
		}
	}
	return nil
}
