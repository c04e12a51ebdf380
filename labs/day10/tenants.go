package day10

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	fold "github.com/nexuscore-labs/nexus/components/projection"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/scenarios"
	"github.com/nexuscore-labs/nexus/systems/projection/tenancy"
)

// TenantChildCommand is the command of this binary that runs tenancy.ChildMain: one
// tenant's process.
const TenantChildCommand = "tenant-child"

// tenancyRounds are how often each fleet is asked all its requests; the median
// round counts.
const tenancyRounds = 5

// fleetCost is what a number of tenants costs in one of the three ways.
type fleetCost struct {
	perRequestNs   float64
	bytesPerTenant float64
}

// checkTenants keeps 10, 1,000 and more tenants, each with state of its own, as
// guests of one process, as goroutines, and as processes, and asks them at random:
// each request folds an event and encodes.
func checkTenants(ctx context.Context, env scenarios.CheckEnv) (scenarios.CheckResult, error) {
	var found scenarios.CheckResult
	costs := map[string]fleetCost{}
	guestsMost, processesMost := int(env.Params["guests"]), int(env.Params["processes"])
	sizes := []int{10, 1000, int(env.Params["tenants"])}
	fleets := []struct {
		kind  string
		sizes []int
	}{
		{tenancy.KindGuests, append([]int{guestsMost}, sizes...)},
		{tenancy.KindGoroutines, sizes},
		{tenancy.KindProcesses, []int{10, processesMost}},
	}
	for i, f := range fleets {
		for _, tenants := range f.sizes {
			key := fmt.Sprintf("%s_%d", f.kind, tenants)
			if _, done := costs[key]; done || tenants == 0 || f.kind == tenancy.KindProcesses && tenants > processesMost {
				continue
			}
			cost, err := costOf(ctx, env, f.kind, tenants)
			if err != nil {
				return found, fmt.Errorf("%d tenants as %s: %w", tenants, f.kind, err)
			}
			costs[key] = cost
			found.Metrics = append(found.Metrics,
				metric("tenants_"+key+"_ns", "ns", cost.perRequestNs, "time of a request to one of %d tenants, asked at random, each in its own %s", tenants, singular[f.kind]),
				metric("tenants_"+key+"_bytes", "bytes", cost.bytesPerTenant, "memory that each of %d tenants takes, shared pages divided", tenants))
		}
		env.Progress(i+1, len(fleets))
	}
	found.Claims = []reports.ClaimResult{
		manyGuestsClaim(costs, guestsMost),
		processClaim(costs, processesMost),
	}
	return found, nil
}

var singular = map[string]string{
	tenancy.KindGuests: "guest, all in one process", tenancy.KindGoroutines: "goroutine", tenancy.KindProcesses: "process",
}

func costOf(ctx context.Context, env scenarios.CheckEnv, kind string, tenants int) (cost fleetCost, err error) {
	empty, err := tenancy.New(ctx, tenancy.KindGoroutines, 0, nil)
	if err != nil {
		return cost, err
	}
	before, err := tenancy.MemoryBytes(empty)
	if err != nil {
		return cost, err
	}
	fleet, err := tenancy.New(ctx, kind, tenants, []string{env.Self, TenantChildCommand})
	if err != nil {
		return cost, err
	}
	// Every tenant has folded something when its memory is looked at.
	for tenant := range tenants {
		if _, err := fleet.Ask(tenant, fold.Event{Kind: fold.Placed, Product: 1, Quantity: 1}); err != nil {
			return cost, closeAfter(fleet, err)
		}
	}
	after, err := tenancy.MemoryBytes(fleet)
	if err != nil {
		return cost, closeAfter(fleet, err)
	}
	if kind == tenancy.KindProcesses {
		before = 0 // theirs is all their tenants'
	}
	cost.bytesPerTenant = float64(after-before) / float64(tenants)
	cost.perRequestNs, err = askAtRandom(fleet, tenants, int(env.Params["requests"])/tenancyRounds, env.Seed)
	return cost, closeAfter(fleet, err)
}

func closeAfter(fleet tenancy.Fleet, err error) error {
	if closed := fleet.Close(); err == nil {
		return closed
	}
	return err
}

// askAtRandom returns the time of a request in the median round.
func askAtRandom(fleet tenancy.Fleet, tenants, requests int, seed uint64) (float64, error) {
	random := rand.New(rand.NewPCG(seed, 3))
	var rounds []time.Duration
	for range tenancyRounds {
		began := time.Now()
		for n := range requests {
			event := fold.Event{TimeMs: uint64(n), Kind: fold.Placed, Order: uint32(n), Product: uint32(n % 100), Quantity: 1}
			if _, err := fleet.Ask(random.IntN(tenants), event); err != nil {
				return 0, err
			}
		}
		rounds = append(rounds, time.Since(began))
	}
	slices.Sort(rounds)
	return float64(rounds[len(rounds)/2]) / float64(max(1, requests)), nil
}

// manyGuestsClaim is about the most guests that the mode keeps.
func manyGuestsClaim(costs map[string]fleetCost, most int) reports.ClaimResult {
	const id = "many-tenants-one-process"
	few, many := costs[tenancy.KindGuests+"_10"], costs[fmt.Sprintf("%s_%d", tenancy.KindGuests, most)]
	if most < 50_000 {
		return undecided(id, "this mode keeps %d guests; full mode keeps 50,000", most)
	}
	return decide(id, many.perRequestNs <= 2*few.perRequestNs,
		"a request to one of %d guests takes %.0f ns, to one of 10 %.0f ns; each takes %.0f bytes",
		most, many.perRequestNs, few.perRequestNs, many.bytesPerTenant)
}

// processClaim is about the most processes that the mode starts.
func processClaim(costs map[string]fleetCost, most int) reports.ClaimResult {
	const id = "process-per-tenant"
	processes, ok := costs[fmt.Sprintf("%s_%d", tenancy.KindProcesses, most)]
	guests := costs[tenancy.KindGuests+"_1000"]
	goroutines := costs[tenancy.KindGoroutines+"_1000"]
	if !ok {
		return undecided(id, "no process was started")
	}
	worse := processes.perRequestNs >= 2*guests.perRequestNs && processes.bytesPerTenant >= 2*guests.bytesPerTenant
	return decide(id, worse && goroutines.perRequestNs >= 2*guests.perRequestNs,
		"with %d processes a request takes %.0f ns and a tenant %.0f bytes; with 1,000 guests %.0f ns and %.0f bytes; with 1,000 goroutines %.0f ns and %.0f bytes",
		most, processes.perRequestNs, processes.bytesPerTenant, guests.perRequestNs, guests.bytesPerTenant, goroutines.perRequestNs, goroutines.bytesPerTenant)
}
