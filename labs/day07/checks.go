package day07

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"

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

// fillLog appends records of the scenario's default sizes until the log holds so many bytes.
func fillLog(ctx context.Context, dir string, bytes int64, seed uint64) error {
	log, err := seglog.Open(dir, seglog.Options{})
	if err != nil {
		return fmt.Errorf("make a log to recover: %w", err)
	}
	shape := recordShape{seed: seed, sizes: sizesLogUniform, lenMin: 100, lenMax: 4096}
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
