package day10

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"

	"github.com/nexuscore-labs/nexus/bpf/projcache"
	fold "github.com/nexuscore-labs/nexus/components/projection"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/scenarios"
	"github.com/nexuscore-labs/nexus/systems/projection"
	"github.com/nexuscore-labs/nexus/systems/projection/drivercache"
)

const (
	rollbackTenants = 4
	// headersLen are a packet's Ethernet, IPv4, UDP and frame headers.
	headersLen = 14 + 20 + 8 + 24
	// rollbackNumber is a projection that a packet of rollbackBody bytes has room for.
	rollbackNumber, rollbackBody = 3, 600
)

// rolling is an engine with its cache in the driver, and what the oracle knows.
type rolling struct {
	engine    *projection.Engine
	publisher *drivercache.Publisher
	program   *projcache.Program
	random    *rand.Rand
	plain     [rollbackTenants]fold.Native
	events    [rollbackTenants]int
	dead      [rollbackTenants]map[uint32]bool // versions that were rolled back or replaced
	current   [rollbackTenants]uint32
	asked     uint64
	wrong     uint64
}

// checkRollback rolls tenants back at random while the driver's program serves them.
// An answer of a version that is no longer the tenant's, or that is not the plain
// fold, counts.
func checkRollback(ctx context.Context, env scenarios.CheckEnv) (found scenarios.CheckResult, err error) {
	cache, err := projcache.Open(projcache.Options{Slots: 1024, Tenants: rollbackTenants})
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, cache.Close()) }()
	program, err := cache.Load(projcache.Service{Port: portOfTests})
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, program.Close()) }()
	r := &rolling{program: program, random: rand.New(rand.NewPCG(env.Seed, 5))}
	var published error
	options := projection.Options{
		SnapshotEvents: 1 << 30, SnapshotRecords: 1 << 30, // only those that a step takes
		Versioned: func(tenant, version uint32) {
			published = errors.Join(published, r.publisher.Versioned(tenant, version))
		},
	}
	if r.engine, err = projection.Open(filepath.Join(env.Dir, "rollback"), options); err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, r.engine.Close()) }()
	r.publisher = drivercache.New(r.engine, cache)
	for tenant := range r.dead {
		r.dead[tenant] = map[uint32]bool{}
	}
	steps := int(env.Params["steps"])
	for n := range steps {
		if err := r.step(ctx, uint32(r.random.IntN(rollbackTenants))); err != nil {
			return found, fmt.Errorf("step %d: %w", n, err)
		}
		env.Progress(n+1, steps)
	}
	found.Oracle = reports.OracleResult{Checked: r.asked, Wrong: r.wrong}
	rollbacks := r.engine.Stats().Rollbacks.Load()
	found.Metrics = []reports.Metric{metric("rolled_back_served", "count", float64(r.wrong),
		"answers of the driver from a version that was rolled back, or that are not the fold of all events, in %d requests around %d rollbacks", r.asked, rollbacks)}
	found.Claims = []reports.ClaimResult{decide("rolled-back-never-served", r.wrong == 0 && rollbacks > 0,
		"%d of %d answers around %d rollbacks were of a version that was rolled back, or wrong", r.wrong, r.asked, rollbacks)}
	return found, published
}

// step changes a tenant in one way, and asks the driver right before and after.
func (r *rolling) step(ctx context.Context, tenant uint32) error {
	if err := r.feed(ctx, tenant, 1+r.random.IntN(20)); err != nil {
		return err
	}
	if _, err := r.publisher.Rebuild(ctx, tenant, rollbackNumber); err != nil {
		return err
	}
	if err := r.ask(tenant); err != nil {
		return err
	}
	if r.random.IntN(2) == 0 {
		if _, err := r.engine.Snapshot(tenant); err != nil {
			return err
		}
		return r.ask(tenant)
	}
	kept, err := r.engine.Snapshots(tenant)
	if err != nil {
		return err
	}
	target := uint32(0)
	if pick := r.random.IntN(len(kept) + 1); pick > 0 {
		target = kept[pick-1].Version
	}
	if _, err := r.engine.Rollback(tenant, target); err != nil {
		return err
	}
	return r.ask(tenant)
}

func (r *rolling) feed(ctx context.Context, tenant uint32, count int) error {
	d := data{dataset: dataset{seed: 10}}
	from := r.events[tenant]
	if err := d.append(ctx, r.engine, tenant, from, from+count); err != nil {
		return err
	}
	r.events[tenant] += count
	_, err := r.plain[tenant].Apply(d.events(tenant, from, from+count))
	return err
}

// ask has the program answer a request, if it can, and judges the answer.
func (r *rolling) ask(tenant uint32) error {
	version, err := r.engine.Version(tenant)
	if err != nil {
		return err
	}
	if version != r.current[tenant] {
		r.dead[tenant][r.current[tenant]] = true
		r.current[tenant] = version
	}
	action, out, err := r.program.Run(getPacket(tenant, rollbackNumber, rollbackBody))
	if err != nil {
		return err
	}
	r.asked++
	if r.dead[tenant][version] {
		r.wrong++ // a version came back
	}
	if action != projcache.ActionTX {
		return nil
	}
	view, _ := fold.ViewOf(rollbackNumber)
	view.Version = uint64(version)
	encoded, err := r.plain[tenant].Encode(nil, view)
	if err != nil {
		return err
	}
	want := answer(binary.LittleEndian.Uint64(out[headersLen:]), version, encoded)
	if len(out) < headersLen+len(want) || string(out[headersLen:headersLen+len(want)]) != string(want) {
		r.wrong++
	}
	return nil
}
