package day07

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nexuscore-labs/nexus/components/host"
	"github.com/nexuscore-labs/nexus/components/logframe"
	"github.com/nexuscore-labs/nexus/labs/day07/convoy"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/reports/quantity"
	"github.com/nexuscore-labs/nexus/reports/stats"
	"github.com/nexuscore-labs/nexus/scenarios"
)

// wasmRounds pairs the guest with plain Go; wasmBatch records go in each call.
const (
	wasmRounds = 11
	wasmBatch  = 64
)

// checkWasm holds the tenant's guest against the same work in Go: the same
// bytes, and at what price.
func checkWasm(ctx context.Context, env scenarios.CheckEnv) (found scenarios.CheckResult, err error) {
	runtime, err := host.New(ctx, "")
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, runtime.Close(context.WithoutCancel(ctx))) }()
	engine, err := logframe.NewEngine(ctx, runtime, 1)
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	state := logframe.State{NextSeq: 1}
	guest, err := engine.Tenant(1, logframe.Policy{}, state)
	if err != nil {
		return found, err
	}
	defer guest.Close()
	native, err := logframe.NewNative(1, logframe.Policy{}, state)
	if err != nil {
		return found, err
	}
	batches := wasmBatches(env.Seed)
	compared, unequal, err := unequalFrames(guest, native, batches)
	if err != nil {
		return found, err
	}
	guestNs, nativeNs, err := pairedFraming(guest, native, batches, int(env.Params["records"])/wasmRounds)
	if err != nil {
		return found, err
	}
	ratio := stats.RatioCI(guestNs, nativeNs, env.Seed)
	perRecord := stats.MedianCI(guestNs, env.Seed)
	found.Metrics = append(found.Metrics,
		reports.Metric{Name: "wasm_frame_ns_per_record", Value: perRecord.Center, CI: perRecord.Ptr(), Unit: "ns",
			Doc: fmt.Sprintf("validating and framing one record of 100 B to 4 KiB in the tenant's guest, %d a call", wasmBatch)},
		reports.Metric{Name: "wasm_frame_ratio", Value: ratio.Center, CI: ratio.Ptr(), Unit: "ratio",
			Doc: "the same against plain Go with the CPU's CRC32 instruction, which Wasm lacks"})
	found.Claims = append(found.Claims, wasmClaim(env, unequal, compared, perRecord, ratio))
	return found, nil
}

// wasmBatches are records of the scenario's default sizes, wasmBatch in each.
func wasmBatches(seed uint64) [][][]byte {
	shape := recordShape{seed: seed, sizes: sizesLogUniform, lenMin: 100, lenMax: 4096}
	batches := make([][][]byte, 8)
	for b := range batches {
		for n := range uint64(wasmBatch) {
			batches[b] = append(batches[b], shape.append(nil, uint32(b), n))
		}
	}
	return batches
}

// unequalFrames counts the records that it compared and those whose frames differ.
func unequalFrames(guest, native logframe.Framer, batches [][][]byte) (compared, unequal int, err error) {
	ours, theirs := make([]logframe.Verdict, wasmBatch), make([]logframe.Verdict, wasmBatch)
	for _, records := range batches {
		if err := errors.Join(guest.Frame(records, theirs), native.Frame(records, ours)); err != nil {
			return 0, 0, fmt.Errorf("frame a batch: %w", err)
		}
		compared += len(records)
		for i := range records {
			if ours[i].Seq != theirs[i].Seq || ours[i].Refusal != theirs[i].Refusal || !bytes.Equal(ours[i].Framed, theirs[i].Framed) {
				unequal++
			}
		}
	}
	return compared, unequal, nil
}

// pairedFraming measures both sides in turn, ns per record and round.
func pairedFraming(guest, native logframe.Framer, batches [][][]byte, recordsPerRound int) (guestNs, nativeNs []float64, err error) {
	verdicts := make([]logframe.Verdict, wasmBatch)
	measure := func(f logframe.Framer) (float64, error) {
		calls := max(1, recordsPerRound/wasmBatch)
		began := time.Now()
		for call := range calls {
			if err := f.Frame(batches[call%len(batches)], verdicts); err != nil {
				return 0, fmt.Errorf("frame a batch: %w", err)
			}
		}
		return float64(time.Since(began)) / float64(calls*wasmBatch), nil
	}
	for round := range wasmRounds {
		sides := []struct {
			framer logframe.Framer
			ns     *[]float64
		}{{guest, &guestNs}, {native, &nativeNs}}
		if round%2 == 1 {
			slices.Reverse(sides)
		}
		for _, side := range sides {
			ns, err := measure(side.framer)
			if err != nil {
				return nil, nil, err
			}
			*side.ns = append(*side.ns, ns)
		}
	}
	return guestNs, nativeNs, nil
}

// wasmClaim judges by equal bytes and by the throughput of the whole path.
func wasmClaim(env scenarios.CheckEnv, unequal, compared int, perRecord, ratio stats.Interval) reports.ClaimResult {
	const id = "shared-nothing-wasm"
	subject, baseline := pairedThroughput(env.Result, "seglog-wasm", "fsync-append", pointSaturation)
	throughput := stats.RatioCI(subject, baseline, env.Seed)
	evidence := fmt.Sprintf("%d of %d frames differ from plain Go's; framing takes %s a record, %s plain Go; the whole path makes %s as many records durable as fsync per append",
		unequal, compared, quantity.Ns.Format(perRecord.Center), times(ratio), times(throughput))
	verdict := convoy.Inconclusive
	switch b := rangeOf(throughput); {
	case unequal > 0 || b.Hi < 20:
		verdict = convoy.Refuted
	case b.Lo >= 20:
		verdict = convoy.Held
	}
	return claim(id, verdict, "%s", evidence)
}
