package day07

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nexuscore-labs/nexus/labs/day07/convoy"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/reports/quantity"
	"github.com/nexuscore-labs/nexus/reports/stats"
	"github.com/nexuscore-labs/nexus/scenarios"
)

// checkFsyncClaims tests what the lesson says of fsync.
func checkFsyncClaims(ctx context.Context, env scenarios.CheckEnv) (scenarios.CheckResult, error) {
	var found scenarios.CheckResult
	scaling, err := convoy.FsyncScaling(ctx, sized(env.Mode, convoy.QuickFsyncScaling(env.Dir), convoy.FullFsyncScaling(env.Dir)))
	if err != nil {
		return found, err
	}
	env.Progress(1, 2)
	neighbour, err := convoy.FsyncNeighbour(ctx, sized(env.Mode, convoy.QuickFsyncNeighbour(env.Dir), convoy.FullFsyncNeighbour(env.Dir)))
	if err != nil {
		return found, err
	}
	ratio := stats.MedianCI(scaling.Ratios(1, 256), env.Seed)
	found.Claims = append(found.Claims,
		claim("fsync-serialises", convoy.VerdictFsyncSerialises(rangeOf(ratio)),
			"256 writers reach %s the rate of one (perfect scaling is 256×)", times(ratio)),
		flushClaim(scaling, env.Seed))
	found.Claims = append(found.Claims, neighbourClaims(neighbour, env.Seed)...)
	env.Progress(2, 2)
	return found, nil
}

// neighbourClaims judges both claims on unsynced neighbours, which speak of ext4
// with data=ordered only.
func neighbourClaims(neighbour convoy.FsyncNeighbourResult, seed uint64) []reports.ClaimResult {
	const unsynced, begun = "fsync-flushes-neighbours", "fsync-flushes-neighbours-writeback"
	filesystem, options, _ := strings.Cut(neighbour.Filesystem, " ")
	if filesystem != "ext4" || strings.Contains(options, "data=") && !strings.Contains(options, "data=ordered") {
		why := fmt.Errorf("the lab's folder is not on ext4 with data=ordered but on %q", neighbour.Filesystem)
		return []reports.ClaimResult{unmeasured(unsynced, why), unmeasured(begun, why)}
	}
	dirty := stats.MedianCI(neighbour.Ratios(), seed)
	writeback := stats.MedianCI(neighbour.WritebackRatios(), seed)
	verdict, why := convoy.VerdictFsyncNeighbour(rangeOf(dirty)), ""
	if verdict == convoy.Refuted && !strings.Contains(options, "nodelalloc") {
		why = ": ext4's delayed allocation keeps them out of the journal's commit"
	}
	return []reports.ClaimResult{
		claim(unsynced, verdict, "fsync takes %s as long beside 8 MiB of unsynced appends (%s)%s", times(dirty), neighbour.Filesystem, why),
		claim(begun, convoy.VerdictFsyncNeighbour(rangeOf(writeback)),
			"fsync takes %s as long once the writeback of the neighbour's 8 MiB has begun (%s)", times(writeback), neighbour.Filesystem),
	}
}

// flushesMin is how many flushes of each fsync the rule of one-flush-per-fsync asks for.
const flushesMin = 0.9

// flushClaim judges one-flush-per-fsync by what the disk counted. It takes a disk
// with a cache to flush, and a writer alone whose every fsync shows as a flush.
func flushClaim(scaling convoy.FsyncScalingResult, seed uint64) reports.ClaimResult {
	const id = "one-flush-per-fsync"
	if scaling.WriteCache != "write back" {
		return unmeasured(id, fmt.Errorf("the kernel sends flushes only to a disk whose write_cache is %q; here it is %q", "write back", scaling.WriteCache))
	}
	alone := stats.MedianCI(scaling.FlushesPerAppend(1), seed)
	flushes := stats.MedianCI(scaling.FlushesPerAppend(256), seed)
	switch {
	case !alone.Valid() || !flushes.Valid():
		return unmeasured(id, errors.New("the kernel does not count flushes of this file system's disk"))
	case alone.Center < flushesMin:
		return unmeasured(id, fmt.Errorf("even one writer alone shows only %s flushes for each fsync", quantity.Digits(alone.Center)))
	}
	verdict, why := convoy.Inconclusive, ""
	switch r := rangeOf(flushes); {
	case r.Lo >= flushesMin:
		verdict = convoy.Held
	case r.Hi < flushesMin:
		verdict, why = convoy.Refuted, ": the kernel lets one flush serve several fsyncs"
	}
	return claim(id, verdict, "the disk saw %s flushes for each fsync at 256 concurrent writers (95%% CI %s to %s, n=%d) and %s with one writer%s",
		quantity.Digits(flushes.Center), quantity.Digits(flushes.Lo), quantity.Digits(flushes.Hi), flushes.N, quantity.Digits(alone.Center), why)
}
