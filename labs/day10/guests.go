package day10

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nexuscore-labs/nexus/components/host"
	"github.com/nexuscore-labs/nexus/components/host/hostile"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/scenarios"
)

const (
	hostileMemoryLenMax = 1 << 20
	hostileFuel         = 4_000_000 // as much as the projection guest has
)

// checkHostileGuests lets guests loop, recurse, trap, reach out of their memory, eat
// memory and clear it without end, each beside an honest one. Each must be stopped
// and counted, and the honest one must not notice.
func checkHostileGuests(ctx context.Context, env scenarios.CheckEnv) (found scenarios.CheckResult, err error) {
	runtime, err := host.New(ctx, "")
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, runtime.Close(ctx)) }()
	module, err := runtime.Compile(ctx, hostile.Wasm, host.Limits{MemoryLenMax: hostileMemoryLenMax, FuelPerCall: hostileFuel})
	if err != nil {
		return found, err
	}
	honest, err := module.Instantiate(ctx)
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, honest.Close(ctx)) }()
	attacks := []struct {
		export string
		param  uint64
		want   error // nil: it lives on
	}{
		{"spin", 0, host.ErrOutOfFuel}, {"tree", 200, host.ErrOutOfFuel},
		{"fill", 1 << 20, host.ErrOutOfFuel}, {"move", 1 << 20, host.ErrOutOfFuel},
		{"deep", 0, host.ErrTrapped}, {"trap", 0, host.ErrTrapped}, {"wild", 0, host.ErrTrapped}, {"grow", 0, nil},
	}
	var tookNs []time.Duration
	escaped, total := 0, int(env.Params["guests"])
	for n := range total {
		attack := attacks[n%len(attacks)]
		took, err := attackOnce(ctx, module, attack.export, attack.param)
		tookNs = append(tookNs, took)
		if !errors.Is(err, attack.want) {
			escaped++
		}
		if got, err := callGuest(ctx, honest, "add", uint64(n%1000), 3); err != nil || got != uint64(n%1000)+3 {
			return found, fmt.Errorf("the honest guest answered %d after %q, error %w", got, attack.export, err)
		}
		env.Progress(n+1, total)
	}
	slices.Sort(tookNs)
	s := runtime.Stats()
	found.Oracle = reports.OracleResult{Checked: uint64(total), Wrong: uint64(escaped)}
	found.Metrics = []reports.Metric{
		metric("hostile_guests_escaped", "count", float64(escaped), "guests of %d that misbehaved and were not stopped as they had to be (%d ran out of fuel, %d trapped, %d growths were refused)",
			total, s.OutOfFuel.Load(), s.Traps.Load(), s.GrowthsRefused.Load()),
		metric("hostile_guest_stopped_max_ns", "ns", float64(tookNs[len(tookNs)-1].Nanoseconds()), "the longest that such a guest ran"),
	}
	return found, nil
}

// attackOnce starts a guest, has it misbehave for as long as it may, and ends it.
func attackOnce(ctx context.Context, module *host.Module, export string, param uint64) (time.Duration, error) {
	guest, err := module.Instantiate(ctx)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	_, attack := callGuest(ctx, guest, export, param, 0)
	took := time.Since(began)
	if guest.Dead() != (attack != nil) {
		attack = fmt.Errorf("dead: %v, after error %w", guest.Dead(), attack)
	}
	if guest.MemoryLen() > hostileMemoryLenMax {
		attack = fmt.Errorf("it has %d bytes of memory", guest.MemoryLen())
	}
	return took, errors.Join(attack, guest.Close(ctx))
}

func callGuest(ctx context.Context, guest *host.Instance, export string, params ...uint64) (uint64, error) {
	function, err := guest.Func(export)
	if err != nil {
		return 0, err
	}
	err = function.Call(ctx, params)
	return params[0], err
}
