package day07

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nexuscore-labs/nexus/labs/day07/convoy"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/reports/quantity"
	"github.com/nexuscore-labs/nexus/reports/stats"
	"github.com/nexuscore-labs/nexus/scenarios"
	"github.com/nexuscore-labs/nexus/systems/seglog"
)

// checks are the lab's experiments beside the trials, in the order they run.
func checks() []scenarios.Check {
	return []scenarios.Check{
		{Name: "crash", Doc: "power cuts, injected errors and kill -9 at seeded moments; then recovery and the oracle", Run: checkCrash},
		{Name: "recovery", Doc: "how fast a page-cached log is read, checked and indexed on start", Run: checkRecovery},
		{Name: "append-allocations", Doc: "heap allocations per appended record", Run: checkAllocations},
		{Name: "wasm", Doc: "validating and framing records in the tenant's own guest, beside the same in Go", Run: checkWasm},
		{Name: "claims-trials", Doc: "claims that the trials decide", Run: checkTrialClaims},
		{Name: "claims-fsync", Doc: "what the lesson says of fsync", Run: checkFsyncClaims},
		{Name: "claims-convoy", Doc: "what the lesson says of the inode lock", Run: checkConvoyClaims},
		{Name: "claims-kernel", Doc: "what the lesson takes for granted about the kernel", Run: checkKernelClaims},
		{Name: "claims-scale", Doc: "a hundred thousand tenants that append at the same time", Run: checkScaleClaim},
	}
}

// recoveryRounds are how often the log is opened; each gives one rate.
const recoveryRounds = 5

// checkRecovery writes a log of the asked-for size and opens it several times
// from the page cache.
func checkRecovery(ctx context.Context, env scenarios.CheckEnv) (scenarios.CheckResult, error) {
	var found scenarios.CheckResult
	dir := filepath.Join(env.Dir, storeName)
	if err := fillLog(ctx, dir, int64(env.Params["log_bytes"]), env.Seed); err != nil {
		return found, err
	}
	var rates []float64
	for round := range recoveryRounds + 1 {
		log, err := seglog.Open(dir, seglog.Options{})
		if err != nil {
			return found, fmt.Errorf("recover the log: %w", err)
		}
		recovery := log.Recovery()
		if err := log.Close(); err != nil {
			return found, fmt.Errorf("close the recovered log: %w", err)
		}
		if round > 0 { // the first one filled the page cache
			rates = append(rates, float64(recovery.Bytes)/recovery.Elapsed.Seconds())
		}
		env.Progress(round+1, recoveryRounds+1)
	}
	rate := stats.MedianCI(rates, env.Seed)
	found.Metrics = append(found.Metrics, reports.Metric{
		Name: "recovery_bytes_per_s", Value: rate.Center, CI: rate.Ptr(), Unit: "bytes_per_s",
		Doc: fmt.Sprintf("log bytes read, checked and indexed per second of recovery, %s log in the page cache", quantity.Bytes.Format(env.Params["log_bytes"])),
	})
	return found, nil
}

// fillWriters append side by side while a log is filled, so that batches are
// as large as under load.
const fillWriters = 256

// fillLog appends the lab's records until the log holds so many bytes.
func fillLog(ctx context.Context, dir string, bytes int64, seed uint64) error {
	log, err := seglog.Open(dir, seglog.Options{})
	if err != nil {
		return fmt.Errorf("make a log to recover: %w", err)
	}
	shape := recordShape{seed: seed, lenMin: 100, lenMax: 4096}
	share := bytes / fillWriters
	errs := make([]error, fillWriters)
	var writers sync.WaitGroup
	for writer := range uint32(fillWriters) {
		writers.Go(func() {
			var record []byte
			for n, written := uint64(0), int64(0); written < share && errs[writer] == nil; n++ {
				record = shape.append(record[:0], writer, n)
				_, errs[writer] = log.Append(ctx, writer, record)
				written += int64(len(record))
			}
		})
	}
	writers.Wait()
	for _, err := range errs {
		if err != nil {
			return fmt.Errorf("fill a log to recover: %w", err)
		}
	}
	return log.Close()
}

// checkAllocations counts heap allocations of the append path.
func checkAllocations(ctx context.Context, env scenarios.CheckEnv) (scenarios.CheckResult, error) {
	log, err := seglog.Open(filepath.Join(env.Dir, storeName), seglog.Options{})
	if err != nil {
		return scenarios.CheckResult{}, err
	}
	record := recordShape{seed: env.Seed, lenMin: 256, lenMax: 256}.append(nil, 0, 0)
	var failed error
	allocs := testing.AllocsPerRun(int(env.Params["records"]), func() {
		if _, err := log.Append(ctx, 1, record); err != nil && failed == nil {
			failed = err
		}
	})
	if failed == nil {
		failed = log.Close()
	}
	if failed != nil {
		return scenarios.CheckResult{}, fmt.Errorf("append: %w", failed)
	}
	return scenarios.CheckResult{Metrics: []reports.Metric{{
		Name: "append_allocs_per_op", Value: allocs, Unit: "count",
		Doc: fmt.Sprintf("heap allocations of one durable append, whole process, mean of %.0f appends rounded down", env.Params["records"]),
	}}}, nil
}

// checkScaleClaim has a hundred thousand tenants append at the same time, each
// waiting for its own record, through the log's Go API.
func checkScaleClaim(ctx context.Context, env scenarios.CheckEnv) (scenarios.CheckResult, error) {
	tenants := int(env.Params["tenants"])
	log, err := seglog.Open(filepath.Join(env.Dir, storeName), seglog.Options{})
	if err != nil {
		return scenarios.CheckResult{}, err
	}
	tookNs := make([]float64, tenants)
	errs := make([]error, tenants)
	shape := recordShape{seed: env.Seed, lenMin: 100, lenMax: 256}
	var writers, ready sync.WaitGroup
	start := make(chan struct{})
	ready.Add(tenants)
	for tenant := range tenants {
		writers.Go(func() {
			record := shape.append(nil, uint32(tenant), 0)
			ready.Done()
			<-start
			began := time.Now()
			_, errs[tenant] = log.Append(ctx, uint32(tenant), record)
			tookNs[tenant] = float64(time.Since(began))
		})
	}
	ready.Wait()
	runtime.GC() // the goroutines' stacks, before the clock runs
	began := time.Now()
	close(start)
	writers.Wait()
	whole := time.Since(began)
	for _, err := range append(errs, log.Close()) {
		if err != nil {
			return scenarios.CheckResult{}, fmt.Errorf("%d tenants at once: %w", tenants, err)
		}
	}
	return scenarios.CheckResult{Claims: []reports.ClaimResult{scaleClaim(tookNs, whole)}}, nil
}

// scaleClaim judges the p99 from the moment each tenant called Append, and
// states the time from the common start, which no scheduler can flatter.
func scaleClaim(tookNs []float64, whole time.Duration) reports.ClaimResult {
	p99 := quantile(tookNs, 0.99)
	verdict := convoy.Refuted
	if p99 < 1e6 {
		verdict = convoy.Held
	}
	return claim("hundred-thousand-writers", verdict, "%d tenants that appended at once were all durable after %s; each waited %s at the median, %s at p99",
		len(tookNs), quantity.Ns.Format(float64(whole)), quantity.Ns.Format(quantile(tookNs, 0.5)), quantity.Ns.Format(p99))
}

// quantile is the q-quantile by the nearest rank; it sorts values.
func quantile(values []float64, q float64) float64 {
	slices.Sort(values)
	return values[min(len(values)-1, int(q*float64(len(values))))]
}
