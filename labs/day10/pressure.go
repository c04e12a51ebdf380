package day10

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/nexuscore-labs/nexus/bpf/projcache"
	"github.com/nexuscore-labs/nexus/loadgen/keys"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/scenarios"
)

// pressureShare is how many more values there are than slots.
const pressureShare = 4

// checkPressure asks a cache for four times as many values as it holds, with the
// usual popularity. What misses is put in, as a server in user space does.
func checkPressure(_ context.Context, env scenarios.CheckEnv) (scenarios.CheckResult, error) {
	var found scenarios.CheckResult
	slots := int(env.Params["slots"])
	cache, err := projcache.Open(projcache.Options{Slots: slots, Tenants: 2})
	if err != nil {
		return found, err
	}
	defer cache.Close()
	if err := cache.SetSnapshot(1, 1); err != nil {
		return found, err
	}
	program, err := cache.Load(projcache.Service{Port: portOfTests})
	if err != nil {
		return found, err
	}
	defer program.Close()
	popular, err := keys.NewZipf(uint64(pressureShare*slots), 0.99, rand.New(rand.NewPCG(env.Seed, 1)))
	if err != nil {
		return found, err
	}
	requests := int(env.Params["requests"])
	hits := 0
	for range requests {
		number := uint32(popular.Pick())
		action, _, err := program.Run(getPacket(1, number, 64))
		if err != nil {
			return found, err
		}
		if action == projcache.ActionTX {
			hits++
			continue
		}
		key := projcache.Key{Tenant: 1, Projection: number, Snapshot: 1}
		if err := cache.Put(key, 1, fmt.Appendf(nil, "%d", number)); err != nil {
			return found, err
		}
	}
	evicted := cache.Stats().Evicted
	found.Metrics = []reports.Metric{
		metric("pressure_hit_ratio", "ratio", float64(hits)/float64(requests), "requests that the driver answered with %d slots for %d values, zipf(0.99)", slots, pressureShare*slots),
		metric("pressure_evicted", "count", float64(evicted), "values that made room for others meanwhile"),
	}
	return found, nil
}
