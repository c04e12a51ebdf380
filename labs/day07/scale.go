package day07

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/nexuscore-labs/nexus/labs/day07/convoy"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/reports/quantity"
	"github.com/nexuscore-labs/nexus/reports/stats"
	"github.com/nexuscore-labs/nexus/scenarios"
	"github.com/nexuscore-labs/nexus/systems/seglog"
)

// scaleRounds are how often the tenants append at once, each time to a new log.
// The p99 is a hundred times the limit, so one round shows it.
func scaleRounds(mode string) int { return sized(mode, 1, 3) }

// scaleRound is one repetition, all from the common start, ns.
type scaleRound struct {
	p50Ns, p99Ns, allNs float64
}

// checkScaleClaim has a hundred thousand tenants append at the same time, each
// waiting for its own record, through the log's Go API.
func checkScaleClaim(ctx context.Context, env scenarios.CheckEnv) (scenarios.CheckResult, error) {
	tenants := int(env.Params["tenants"])
	var rounds []scaleRound
	wanted := scaleRounds(env.Mode)
	for n := range wanted {
		round, err := appendAtOnce(ctx, filepath.Join(env.Dir, fmt.Sprintf("%s-%d", storeName, n)), tenants, env.Seed)
		if err != nil {
			return scenarios.CheckResult{}, fmt.Errorf("%d tenants at once: %w", tenants, err)
		}
		rounds = append(rounds, round)
		env.Progress(n+1, wanted)
	}
	return scenarios.CheckResult{Claims: []reports.ClaimResult{scaleClaim(tenants, rounds)}}, nil
}

// appendAtOnce starts every tenant at the same moment and takes how long after
// it each one's record is durable, so that waiting for a turn of the scheduler counts.
func appendAtOnce(ctx context.Context, dir string, tenants int, seed uint64) (scaleRound, error) {
	if tenants < 1 {
		return scaleRound{}, errors.New("no tenants")
	}
	log, err := seglog.Open(dir, seglog.Options{})
	if err != nil {
		return scaleRound{}, err
	}
	tookNs := make([]float64, tenants)
	errs := make([]error, tenants)
	shape := recordShape{seed: seed, lenMin: 100, lenMax: 256}
	var began time.Time // set before start is closed
	var writers, ready sync.WaitGroup
	start := make(chan struct{})
	ready.Add(tenants)
	for tenant := range tenants {
		writers.Go(func() {
			record := shape.append(nil, uint32(tenant), 0)
			ready.Done()
			<-start
			_, errs[tenant] = log.Append(ctx, uint32(tenant), record)
			tookNs[tenant] = float64(time.Since(began))
		})
	}
	ready.Wait()
	runtime.GC() // the goroutines' stacks, before the clock runs
	began = time.Now()
	close(start)
	writers.Wait()
	errs = append(errs, log.Close())
	for _, err := range errs {
		if err != nil {
			return scaleRound{}, err
		}
	}
	slices.Sort(tookNs)
	return scaleRound{p50Ns: quantile(tookNs, 0.5), p99Ns: quantile(tookNs, 0.99), allNs: tookNs[tenants-1]}, nil
}

// scaleClaim judges the median of the rounds' p99.
func scaleClaim(tenants int, rounds []scaleRound) reports.ClaimResult {
	median := func(of func(scaleRound) float64) float64 {
		var values []float64
		for _, round := range rounds {
			values = append(values, of(round))
		}
		return stats.Median(values)
	}
	p99 := median(func(r scaleRound) float64 { return r.p99Ns })
	verdict := convoy.Refuted
	if p99 < 1e6 {
		verdict = convoy.Held
	}
	repetitions := "one repetition"
	if len(rounds) != 1 {
		repetitions = fmt.Sprintf("medians of %d repetitions", len(rounds))
	}
	return claim("hundred-thousand-writers", verdict,
		"%d goroutines, one for each tenant, appended at once through the log's Go API (no server, no socket); from their common start a record was durable after %s at the median and %s at p99, all after %s (%s)",
		tenants, quantity.Ns.Format(median(func(r scaleRound) float64 { return r.p50Ns })), quantity.Ns.Format(p99),
		quantity.Ns.Format(median(func(r scaleRound) float64 { return r.allNs })), repetitions)
}

// quantile is the q-quantile of sorted values by the nearest rank.
func quantile(sorted []float64, q float64) float64 {
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}
