package day10

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/nexuscore-labs/nexus/bpf/projcache"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/reports/stats"
	"github.com/nexuscore-labs/nexus/scenarios"
)

// programSizes are of projections, in bytes; the first is that of the gate.
var programSizes = []int{256, 64, 1024, 3000}

// programRounds are medians' worth of runs.
const programRounds = 7

// cacheOfTests holds one projection of each size for tenant 1.
func cacheOfTests() (*projcache.Cache, error) {
	cache, err := projcache.Open(projcache.Options{Slots: 64, Tenants: 5})
	if err != nil {
		return nil, err
	}
	for tenant := uint32(1); tenant < 5; tenant++ {
		if err := cache.SetSnapshot(tenant, 1); err != nil {
			return nil, err
		}
		for i, size := range programSizes {
			value := bytes.Repeat([]byte{byte(i + 1), byte(tenant)}, size/2)
			if err := cache.Put(projcache.Key{Tenant: tenant, Projection: uint32(i), Snapshot: 1}, 1, value); err != nil {
				return nil, err
			}
		}
	}
	return cache, nil
}

// checkProgram measures the program alone by test runs that put each answer back:
// upper bounds.
func checkProgram(_ context.Context, env scenarios.CheckEnv) (scenarios.CheckResult, error) {
	var found scenarios.CheckResult
	cache, err := cacheOfTests()
	if err != nil {
		return found, err
	}
	defer cache.Close()
	r, err := cache.Rehearse(projcache.Service{Port: portOfTests}, false)
	if err != nil {
		return found, err
	}
	defer r.Close()
	runs := int(env.Params["runs"])
	costs := make([]stats.Interval, len(programSizes))
	for i, size := range programSizes {
		packet := getPacket(1, uint32(i), size+bodyHeaderLen)
		var ns []float64
		for range programRounds {
			each, err := r.Run(packet, runs)
			if err != nil {
				return found, err
			}
			ns = append(ns, float64(each.Nanoseconds()))
		}
		costs[i] = stats.MedianCI(ns, env.Seed)
		m := metric(fmt.Sprintf("program_ns_per_hit_%dB", size), "ns", costs[i].Center,
			"an answer with a projection of %d bytes by BPF_PROG_TEST_RUN, the request put back included: an upper bound", size)
		m.CI = costs[i].Ptr()
		found.Metrics = append(found.Metrics, m)
		env.Progress(i+1, len(programSizes))
	}
	counts, err := cache.Counts()
	if err != nil {
		return found, err
	}
	// A signal ends a measurement early; what ran until then counts, and it begins anew.
	all := uint64(0)
	for _, n := range counts.Packets {
		all += n
	}
	if want := uint64(runs * programRounds * len(programSizes)); all < want || counts.Packets[projcache.Answered] != all {
		return found, fmt.Errorf("%d of %d runs were answered, %d were asked for", counts.Packets[projcache.Answered], all, want)
	}
	gate := costs[0]
	found.Claims = []reports.ClaimResult{
		decide("hit-200ns", gate.Center <= 200, "an answer of 256 bytes takes the program at most %.0f ns, two map look-ups, copy and checksums included; DMA and transmission are not part of it here", gate.Center),
		decide("map-lookup-180ns", gate.Center < 180, "the whole program, with its look-ups, takes at most %.0f ns for 256 bytes (median)", gate.Center),
	}
	return found, nil
}

// checkBadInput sends hostile packets through the program and through plain Go.
func checkBadInput(_ context.Context, env scenarios.CheckEnv) (scenarios.CheckResult, error) {
	var found scenarios.CheckResult
	cache, err := cacheOfTests()
	if err != nil {
		return found, err
	}
	defer cache.Close()
	service := projcache.Service{Port: portOfTests}
	program, err := cache.Load(service)
	if err != nil {
		return found, err
	}
	defer program.Close()
	random := rand.New(rand.NewPCG(env.Seed, 10))
	outcomes := map[projcache.Outcome]int{}
	packets := int(env.Params["packets"])
	var wrong uint64
	for n := range packets {
		packet := hostilePacket(random)
		action, out, err := program.Run(packet)
		if err != nil {
			return found, err
		}
		want, outcome := projcache.Answer(packet, service, cache)
		outcomes[outcome]++
		if outcome != projcache.Answered {
			want = packet
		}
		if (action == projcache.ActionTX) != (outcome == projcache.Answered) || !bytes.Equal(out, want) {
			wrong++
		}
		if n%1000 == 0 {
			env.Progress(n, packets)
		}
	}
	found.Oracle = reports.OracleResult{Checked: uint64(packets), Wrong: wrong}
	found.Metrics = []reports.Metric{
		metric("hostile_packets_wrong", "count", float64(wrong), "packets that program and plain Go treated differently, of %d", packets),
		metric("hostile_outcomes", "count", float64(len(outcomes)), "different fates that the packets met, each counted by the program"),
	}
	return found, nil
}
