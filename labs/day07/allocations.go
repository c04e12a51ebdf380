package day07

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/scenarios"
	"github.com/nexuscore-labs/nexus/systems/seglog"
)

// allocationWriters append side by side while allocations are counted.
const allocationWriters = 256

// allocationRounds are counted one by one, and the fewest allocations stand:
// what the rest of the process allocates meanwhile only ever adds to them.
const allocationRounds = 5

// checkAllocations counts heap allocations of the append path.
func checkAllocations(ctx context.Context, env scenarios.CheckEnv) (scenarios.CheckResult, error) {
	log, err := seglog.Open(filepath.Join(env.Dir, storeName), seglog.Options{})
	if err != nil {
		return scenarios.CheckResult{}, err
	}
	each := max(1, int(env.Params["records"])/allocationWriters)
	record := recordShape{seed: env.Seed, lenMin: 256, lenMax: 256}.append(nil, 0, 0)
	fewest := ^uint64(0)
	for range allocationRounds {
		var mallocs uint64
		if mallocs, err = mallocsOf(ctx, log, record, each); err != nil {
			break
		}
		fewest = min(fewest, mallocs)
	}
	if err := errors.Join(err, log.Close()); err != nil {
		return scenarios.CheckResult{}, fmt.Errorf("append: %w", err)
	}
	appends := allocationWriters * each
	return scenarios.CheckResult{Metrics: []reports.Metric{{
		Name: "append_allocs_per_op", Value: float64(fewest) / float64(appends), Unit: "count",
		Doc: fmt.Sprintf("heap allocations per durable append through the log's Go API, without server and socket: all of the process, fewest of %d rounds, each the mean of %d appends by %d concurrent writers after one each to warm up",
			allocationRounds, appends, allocationWriters),
	}}}, nil
}

// mallocsOf counts the allocations of the whole process while each writer
// appends so many records, after one that is not counted.
func mallocsOf(ctx context.Context, log *seglog.Log, record []byte, each int) (uint64, error) {
	errs := make([]error, allocationWriters)
	var warm, writers sync.WaitGroup
	start := make(chan struct{})
	warm.Add(allocationWriters)
	for writer := range uint32(allocationWriters) {
		writers.Go(func() {
			_, errs[writer] = log.Append(ctx, writer, record)
			warm.Done()
			<-start
			for n := 0; n < each && errs[writer] == nil; n++ {
				_, errs[writer] = log.Append(ctx, writer, record)
			}
		})
	}
	warm.Wait()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	close(start)
	writers.Wait()
	runtime.ReadMemStats(&after)
	return after.Mallocs - before.Mallocs, errors.Join(errs...)
}
