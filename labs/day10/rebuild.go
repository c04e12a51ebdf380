package day10

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nexuscore-labs/nexus/components/host"
	fold "github.com/nexuscore-labs/nexus/components/projection"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/scenarios"
	"github.com/nexuscore-labs/nexus/systems/projection"
)

// rebuildProjection has totals, best sellers and the newest orders.
const rebuildProjection = 5

// rebuildDelta are the events that come between two timed rebuilds, in records of 16.
const rebuildDelta = 160

// checkRebuild times cold rebuilds of tenants with long histories: a guest, the
// newest snapshot from its file, the events behind it from the log. Each result is
// held against the plain fold of all events.
func checkRebuild(ctx context.Context, env scenarios.CheckEnv) (scenarios.CheckResult, error) {
	var found scenarios.CheckResult
	sizes := []struct {
		param, name string
		limit       time.Duration
		claim       string
	}{
		{"events", "rebuild_p99_ns", 2 * time.Millisecond, "rebuild-2ms"},
		{"events_million", "rebuild_p99_ns_million", 5 * time.Millisecond, "rebuild-5ms-million"},
		{"events_ten_million", "rebuild_p99_ns_ten_million", 10 * time.Millisecond, "rebuild-10ms-ten-million"},
	}
	for i, size := range sizes {
		events := int(env.Params[size.param])
		if events == 0 {
			found.Claims = append(found.Claims, undecided(size.claim, "this mode does not run it; full mode does"))
			continue
		}
		times, wrong, err := rebuilds(ctx, filepath.Join(env.Dir, size.param), events, int(env.Params["rebuilds"]))
		if err != nil {
			return found, fmt.Errorf("rebuild at %d events: %w", events, err)
		}
		found.Oracle.Checked += uint64(len(times))
		found.Oracle.Wrong += wrong
		p50, p99 := quantile(times, 0.5), quantile(times, 0.99)
		found.Metrics = append(found.Metrics, metric(size.name, "ns", float64(p99.Nanoseconds()),
			"p99 of %d cold rebuilds of a tenant with %d events, from its snapshot (median %s)", len(times), events, p50))
		found.Claims = append(found.Claims, decide(size.claim, p99 < size.limit && wrong == 0,
			"p99 of %d cold rebuilds at %d events is %s, the median %s; %d were wrong", len(times), events, p99, p50, wrong))
		env.Progress(i+1, len(sizes))
	}
	return found, nil
}

func rebuilds(ctx context.Context, dir string, events, count int) (times []time.Duration, wrong uint64, err error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, 0, fmt.Errorf("make the engine's folder: %w", err)
	}
	engine, err := projection.Open(dir, projection.Options{})
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	d := data{dataset: dataset{seed: 10, tenants: 1}}
	var plain fold.Native
	feed := func(from, to, record int) error {
		for ; from < to; from += record {
			n := min(record, to-from)
			if err := d.append(ctx, engine, 0, from, from+n); err != nil {
				return err
			}
			if _, err := plain.Apply(d.events(0, from, from+n)); err != nil {
				return err
			}
		}
		return nil
	}
	if err := feed(0, events, projection.EventsMax); err != nil {
		return nil, 0, err
	}
	if _, err := engine.Snapshot(0); err != nil {
		return nil, 0, err
	}
	for range count {
		if err := feed(events, events+rebuildDelta, 16); err != nil {
			return nil, 0, err
		}
		events += rebuildDelta
		if err := engine.Evict(0); err != nil {
			return nil, 0, err
		}
		began := time.Now()
		r, err := engine.Rebuild(ctx, 0, rebuildProjection)
		if err != nil {
			return nil, 0, err
		}
		times = append(times, time.Since(began))
		same, err := equalsFold(&plain, r)
		if err != nil {
			return nil, 0, err
		}
		if !same {
			wrong++
		}
	}
	slices.Sort(times)
	return times, wrong, nil
}

func equalsFold(plain *fold.Native, r projection.Result) (bool, error) {
	view, _ := fold.ViewOf(rebuildProjection)
	view.Version = uint64(r.Version)
	want, err := plain.Encode(nil, view)
	if err != nil {
		return false, fmt.Errorf("encode the plain fold: %w", err)
	}
	return slices.Equal(want, r.Data), nil
}

// checkGuest times starts of guests and encodings.
func checkGuest(ctx context.Context, env scenarios.CheckEnv) (scenarios.CheckResult, error) {
	var found scenarios.CheckResult
	runtime, err := host.New(ctx, filepath.Join(env.Dir, "compiled"))
	if err != nil {
		return found, err
	}
	defer runtime.Close(ctx)
	engine, err := fold.NewEngine(ctx, runtime, guestPool)
	if err != nil {
		return found, err
	}
	defer engine.Close()
	starts, encodes, err := guestTimes(ctx, engine, int(env.Params["starts"]))
	if err != nil {
		return found, err
	}
	start, encode := quantile(starts, 0.99), quantile(encodes, 0.99)
	found.Metrics = []reports.Metric{
		metric("guest_start_p99_ns", "ns", float64(start.Nanoseconds()), "p99 of %d starts of a guest, from the pool or new (median %s)", len(starts), quantile(starts, 0.5)),
		metric("encode_p99_ns", "ns", float64(encode.Nanoseconds()), "p99 of encoding a projection as a FlatBuffer in the guest (median %s)", quantile(encodes, 0.5)),
	}
	found.Claims = []reports.ClaimResult{
		decide("cold-start-400us", start < 400*time.Microsecond, "p99 of %d starts is %s, the median %s", len(starts), start, quantile(starts, 0.5)),
		decide("encode-80us", encode < 80*time.Microsecond, "p99 of %d encodings is %s, the median %s", len(encodes), encode, quantile(encodes, 0.5)),
	}
	return found, nil
}

const guestPool = 16

func guestTimes(ctx context.Context, engine *fold.Engine, count int) (starts, encodes []time.Duration, err error) {
	d := dataset{seed: 10}
	events := d.events(0, 0, 300)
	view, _ := fold.ViewOf(rebuildProjection)
	var buffer []byte
	for range count {
		began := time.Now()
		guest, err := engine.Start(ctx)
		if err != nil {
			return nil, nil, err
		}
		starts = append(starts, time.Since(began))
		if _, err := guest.Apply(events); err != nil {
			return nil, nil, errors.Join(err, guest.Close())
		}
		began = time.Now()
		buffer, err = guest.Encode(buffer[:0], view)
		encodes = append(encodes, time.Since(began))
		if err = errors.Join(err, guest.Close()); err != nil {
			return nil, nil, err
		}
	}
	slices.Sort(starts)
	slices.Sort(encodes)
	return starts, encodes, nil
}
