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

// checkConvoyClaims tests what the lesson says of the inode lock.
func checkConvoyClaims(ctx context.Context, env scenarios.CheckEnv) (scenarios.CheckResult, error) {
	var found scenarios.CheckResult
	result, err := convoy.Writers(ctx, sized(env.Mode, convoy.QuickWriters(env.Dir), convoy.FullWriters(env.Dir)))
	if err != nil {
		return found, err
	}
	shared := stats.MedianCI(result.Growth(convoy.SharedFile, 8, 64, 0.99), env.Seed)
	own := stats.MedianCI(result.Growth(convoy.OwnFiles, 8, 64, 0.99), env.Seed)
	found.Claims = append(found.Claims, claim("convoy-p99-linear", convoy.VerdictLinear(rangeOf(shared), rangeOf(own)),
		"from 8 to 64 writers p99 grows %s on one file and %s on files of their own, which share no inode lock", times(shared), times(own)))
	if result.LocksErr != nil {
		found.Claims = append(found.Claims, unmeasured("o-append-takes-inode-lock", result.LocksErr), unmeasured("inode-lock-is-fifo", result.LocksErr))
		return found, nil
	}
	together, apart := result.Locks(convoy.SharedFile, 2), result.Locks(convoy.OwnFiles, 2)
	found.Claims = append(found.Claims,
		claim("o-append-takes-inode-lock", convoy.VerdictInodeLock(together, apart),
			"%d of %d writes to one file slept on its inode lock (%s), and %d of %d to files of their own",
			together.InodeWaits, together.Writes, medianWait(together), apart.InodeWaits, apart.Writes),
		claim("inode-lock-is-fifo", convoy.VerdictFIFO(together), "%s", overtaking(together)))
	return found, nil
}

func medianWait(l convoy.Locks) string {
	if l.InodeWaitNs.Count() == 0 {
		return "so there is no wait to time"
	}
	return quantity.Of("ns").Format(l.InodeWaitNs.Quantile(0.5)) + " each at the median"
}

func overtaking(l convoy.Locks) string {
	if l.InodeWaits == 0 {
		return "no write waited for the inode lock"
	}
	share := convoy.OvertakenShare(l)
	return fmt.Sprintf("at least %d of %d waiters were overtaken by a write that began later (95%% CI %.1f%% to %.1f%%)",
		l.Overtaken, l.InodeWaits, 100*share.Lo, 100*share.Hi)
}

// checkKernelClaims tests what the lesson takes for granted about the kernel.
func checkKernelClaims(ctx context.Context, env scenarios.CheckEnv) (scenarios.CheckResult, error) {
	var found scenarios.CheckResult
	probing, err := kprobeClaim(env.Dir)
	if err != nil {
		return found, err
	}
	queue, err := queueClaim(env.Dir)
	if err != nil {
		return found, err
	}
	found.Claims = append(found.Claims, probing, queue)
	rates, err := convoy.SwitchRate(ctx, sized(env.Mode, convoy.QuickSwitchRate(), convoy.FullSwitchRate()))
	if err != nil {
		return found, err
	}
	found.Claims = append(found.Claims, claim("switch-budget", convoy.VerdictSwitchBudget(rates),
		"one core makes at best %s switches between threads and %s between processes; the sum needs %s",
		bestRate(rates, convoy.Threads), bestRate(rates, convoy.Processes), quantity.Of("per_s").Format(convoy.SwitchBudgetPerS)))
	return found, nil
}

func kprobeClaim(dir string) (reports.ClaimResult, error) {
	const id = "kprobe-inode-lock"
	symbols, err := convoy.InodeLockSymbol()
	switch {
	case errors.Is(err, convoy.ErrNotMeasurable):
		return unmeasured(id, err), nil
	case err != nil:
		return reports.ClaimResult{}, err
	}
	kprobes, path := "are not", "is not shown"
	if symbols.Kprobes {
		kprobes = "are"
	}
	if names := symbols.OnPath(convoy.FilesystemType(dir)); len(names) > 0 {
		path = "is " + strings.Join(names, ", ")
	}
	return claim(id, convoy.VerdictKprobe(symbols), "of %d kernel symbols %d are functions called inode_lock; kprobes %s compiled in; what an append does pass %s",
		symbols.Symbols, len(symbols.Exact), kprobes, path), nil
}

func queueClaim(dir string) (reports.ClaimResult, error) {
	const id = "ncq-depth-32"
	queue, err := convoy.DiskQueueDepth(dir)
	switch {
	case errors.Is(err, convoy.ErrNotMeasurable):
		return unmeasured(id, err), nil
	case err != nil:
		return reports.ClaimResult{}, err
	}
	return claim(id, convoy.VerdictQueueDepth(queue.Depth), "the queue of %s (driver %s) holds %d commands", queue.Disk, queue.Driver, queue.Depth), nil
}

func bestRate(r convoy.SwitchRateResult, space convoy.Space) string {
	best := r.Best(space)
	if best == nil {
		return "not measured"
	}
	return fmt.Sprintf("%s (%s)", quantity.Of("per_s").Format(best.Max()), best.Method)
}
