package day20

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	surrealdb "github.com/surrealdb/surrealdb.go"
	"github.com/surrealdb/surrealdb.go/pkg/models"

	"github.com/nexuscore-labs/nexus/bpf/rocksprobe"
	"github.com/nexuscore-labs/nexus/components/delta"
	"github.com/nexuscore-labs/nexus/components/host"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/scenarios"
	"github.com/nexuscore-labs/nexus/systems/cdc/surrealsource"
	"github.com/nexuscore-labs/nexus/systems/surreal"
)

// checks are the lab's experiments beside the trials, in the order they run.
func checks() []scenarios.Check {
	return []scenarios.Check{
		{Name: "ledger", Doc: "cancelled and thrown transactions: what a probe on Put alone would have published, and what this one did", Run: checkLedger},
		{Name: "read", Doc: "a record's value from the batch, and by its id from the store", Run: checkRead},
		{Name: "judge", Doc: "starting a Wasm guest that judges changes", Run: checkJudge},
		{Name: "claims-trials", Doc: "claims that the trials decide", Run: checkTrialClaims},
	}
}

func claim(id, verdict, evidence string, args ...any) reports.ClaimResult {
	return reports.ClaimResult{ID: id, Verdict: verdict, Evidence: fmt.Sprintf(evidence, args...)}
}

// verdictOf is held or refuted.
func verdictOf(held bool) string {
	if held {
		return scenarios.ClaimHeld
	}
	return scenarios.ClaimRefuted
}

// watched are the stores of a check with a probe on the source.
func watched(ctx context.Context, dir string, options rocksprobe.Options) (*stores, *rocksprobe.Probe, error) {
	s, err := openStores(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	target, err := rocksprobe.Resolve(s.surreal.Library)
	if err != nil {
		return nil, nil, errors.Join(err, s.close())
	}
	options.Process = s.surreal.Process
	p, err := rocksprobe.Open(target, options)
	if err != nil {
		return nil, nil, errors.Join(err, s.close())
	}
	return s, p, nil
}

// published reads the changes of records until none came for a while.
func published(p *rocksprobe.Probe, visit func(*rocksprobe.Change) error) error {
	for {
		var c rocksprobe.Change
		err := p.Read(&c, time.Now().Add(200*time.Millisecond))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		if !surreal.IsRecord(c.Key) {
			continue
		}
		if err := visit(&c); err != nil {
			return err
		}
	}
}

// checkLedger runs transactions that don't commit, and some that do.
func checkLedger(ctx context.Context, env scenarios.CheckEnv) (found scenarios.CheckResult, err error) {
	s, p, err := watched(ctx, env.Dir, rocksprobe.Options{Census: true})
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, p.Close(), s.close()) }()
	n := int(env.Params["transactions"])
	for i := range n {
		for _, end := range []string{"CANCEL", "THROW 'no'; COMMIT"} {
			if _, err := surrealdb.Query[any](ctx, s.db, fmt.Sprintf("BEGIN; CREATE %s SET n = %d; %s", table, i, end), nil); err == nil {
				return found, errCommitted
			}
		}
		env.Progress(i+1, n)
	}
	const committed = 10
	for range committed {
		if _, err := surrealdb.Query[any](ctx, s.db, "CREATE "+table+" SET n = 1", nil); err != nil {
			return found, fmt.Errorf("write a record: %w", err)
		}
	}
	changes := 0
	if err := published(p, func(*rocksprobe.Change) error { changes++; return nil }); err != nil {
		return found, err
	}
	counters, err := p.Counters()
	if err != nil {
		return found, err
	}
	found.Metrics = []reports.Metric{
		{Name: "put_alone_publishes_count", Value: float64(counters.Puts), Unit: "count", Doc: fmt.Sprintf("calls of WriteBatch::Put during %d transactions that did not commit and %d that did", 2*n, committed)},
		{Name: "probe_publishes_count", Value: float64(changes), Unit: "count", Doc: "changes of records that the probe published of the same"},
	}
	found.Oracle.Checked = uint64(2*n + committed)
	if changes != committed {
		found.Oracle.Phantom = uint64(max(0, changes-committed))
		found.Oracle.Lost = uint64(max(0, committed-changes))
		found.Oracle.Note = fmt.Sprintf("%d changes were published of %d commits", changes, committed)
	}
	found.Claims = []reports.ClaimResult{claim("put-is-the-write", verdictOf(counters.Puts <= counters.Records),
		"%d puts fired where %d records were committed, by %d commits beside %d rollbacks; the probe on the write of the batch published %d", counters.Puts,
		counters.Records, counters.Commits, counters.Rollbacks, changes)}
	return found, nil
}

// checkRead measures both ways to a record's vector.
func checkRead(ctx context.Context, env scenarios.CheckEnv) (found scenarios.CheckResult, err error) {
	s, p, err := watched(ctx, env.Dir, rocksprobe.Options{})
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, p.Close(), s.close()) }()
	const dim = 384
	n := int(env.Params["records"])
	for i := range n {
		vars := map[string]any{"record": models.NewRecordID(table, i), "v": change{id: uint64(i), n: 1, meaning: 1}.vector(dim)}
		if _, err := surrealdb.Query[any](ctx, s.db, "CREATE $record SET v = $v, n = 1", vars); err != nil {
			return found, fmt.Errorf("write a record: %w", err)
		}
	}
	records := surrealsource.Records{DB: s.db, Vector: fieldV, Payload: []string{fieldN}}
	var decode, reread []float64
	var buffer []float32
	err = published(p, func(c *rocksprobe.Change) error {
		began := time.Now()
		vector, there, _, err := surreal.Project(buffer[:0], c.Value, fieldV, []string{fieldN})
		decode = append(decode, float64(time.Since(began)))
		if err != nil || !there {
			return fmt.Errorf("read a value of %d bytes: %w", len(c.Value), err)
		}
		buffer = vector
		key, err := surreal.ParseKey(c.Key)
		if err != nil {
			return err
		}
		point, err := surrealsource.PointKey(&key)
		if err != nil {
			return err
		}
		began = time.Now()
		again, err := records.Reread(ctx, "c", point)
		reread = append(reread, float64(time.Since(began)))
		found.Oracle.Checked++
		if err != nil || !slices.Equal(again.Vector, vector) {
			found.Oracle.Wrong++
			found.Oracle.Note = fmt.Sprintf("record %s: the batch and the store differ: %v", point, err)
		}
		return nil
	})
	if err != nil || len(decode) != n {
		return found, errors.Join(fmt.Errorf("%d of %d records were published", len(decode), n), err)
	}
	found.Metrics = []reports.Metric{
		{Name: "decode_p50_ns", Value: quantile(decode, 0.5), Unit: "ns", Doc: "a vector of 384 read from the batch's value, median"},
		{Name: "reread_p50_ns", Value: quantile(reread, 0.5), Unit: "ns", Doc: "the same asked of the store by id through its client, median"},
	}
	return found, nil
}

func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// coldStartNsMax is the lesson's.
const coldStartNsMax = 50_000

// checkJudge starts guests from a compiled module, as for a new collection.
func checkJudge(ctx context.Context, env scenarios.CheckEnv) (found scenarios.CheckResult, err error) {
	runtime, err := host.New(ctx, "")
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, runtime.Close(ctx)) }()
	engine, err := delta.NewEngine(ctx, runtime, host.MemoryLenMax)
	if err != nil {
		return found, err
	}
	n := int(env.Params["starts"])
	var starts []float64
	for i := range n {
		began := time.Now()
		tenant, err := engine.Tenant(delta.Options{Dim: 384, Capacity: 64})
		if err != nil {
			return found, err
		}
		starts = append(starts, float64(time.Since(began)))
		if err := tenant.Close(); err != nil {
			return found, err
		}
		env.Progress(i+1, n)
	}
	p99 := quantile(starts, 0.99)
	found.Metrics = []reports.Metric{{Name: "judge_start_p99_ns", Value: p99, Unit: "ns", Doc: "starting a guest that judges vectors of 384, from its compiled module"}}
	found.Claims = []reports.ClaimResult{claim("cold-start-50us", verdictOf(p99 < coldStartNsMax), "p99 of %d starts is %.0f µs, the median %.0f µs", n, p99/1e3, quantile(starts, 0.5)/1e3)}
	return found, nil
}
