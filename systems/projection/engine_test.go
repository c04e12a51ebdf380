package projection

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	fold "github.com/nexuscore-labs/nexus/components/projection"
)

var ctx = context.Background()

func openTest(t testing.TB, dir string, o Options) *Engine {
	t.Helper()
	if o.Log.SegmentBytes == 0 {
		o.Log.SegmentBytes = 4 << 20
	}
	e, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func closeTest(t testing.TB, e *Engine) {
	t.Helper()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

// testEvents are a tenant's events from one sequence to another, the same ones
// each time.
func testEvents(tenant uint32, from, to uint64) []fold.Event {
	var events []fold.Event
	for seq := from; seq <= to; seq++ {
		rng := rand.New(rand.NewPCG(uint64(tenant), seq))
		events = append(events, fold.Event{
			TimeMs: seq, Kind: fold.Kind(1 + rng.Uint32N(6)), Order: rng.Uint32N(300), Product: rng.Uint32N(200),
			Amount: rng.Uint32N(1 << 20), Quantity: uint16(rng.Uint32N(9)),
		})
	}
	return events
}

func appendTest(t testing.TB, e *Engine, tenant uint32, from, to uint64) {
	t.Helper()
	for ; from <= to; from += EventsMax {
		end := min(to, from+EventsMax-1)
		if last, err := e.Append(ctx, tenant, testEvents(tenant, from, end)...); last != end || err != nil {
			t.Fatalf("append up to %d: last %d, error %v", end, last, err)
		}
	}
}

// checkRebuild holds every projection of the tenant against the oracle.
func checkRebuild(t testing.TB, e *Engine, tenant uint32, seq uint64) (version uint32) {
	t.Helper()
	oracle := &fold.Oracle{}
	for _, event := range testEvents(tenant, 1, seq) {
		oracle.Apply(event)
	}
	for n, view := range fold.Views {
		r, err := e.Rebuild(ctx, tenant, uint32(n+1))
		if err != nil {
			t.Fatal(err)
		}
		view.Version = uint64(r.Version)
		got, err := fold.Decode(r.Data)
		if want := oracle.Contents(view); err != nil || r.Seq != seq || !reflect.DeepEqual(got, want) {
			t.Fatalf("tenant %d projection %d at %d, want %d, error %v:\ngot  %+v\nwant %+v", tenant, n+1, r.Seq, seq, err, got, want)
		}
		version = r.Version
	}
	return version
}

func waitFor(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestRebuildsEqualTheOracle(t *testing.T) {
	dir := t.TempDir()
	options := Options{SnapshotEvents: 500, WarmMax: 2}
	e := openTest(t, dir, options)
	ends := map[uint32]uint64{1: 1, 2: 499, 3: 500, 4: 5000, 5: 77}
	for tenant, end := range ends {
		appendTest(t, e, tenant, 1, end)
	}
	waitFor(t, "snapshots", func() bool { return e.Stats().Snapshots.Load() >= 2 })
	for range 2 {
		for tenant, end := range ends {
			checkRebuild(t, e, tenant, end)
			// More events, then incrementally in the kept guest.
			appendTest(t, e, tenant, end+1, end+3)
			ends[tenant] = end + 3
			checkRebuild(t, e, tenant, end+3)
		}
		closeTest(t, e)
		e = openTest(t, dir, options)
	}
	for tenant, end := range ends {
		checkRebuild(t, e, tenant, end)
	}
	s := e.Stats()
	if s.FromSnapshot.Load() < 2 || s.FromStart.Load() < 2 || s.Evicted.Load() < 3 || s.Warm.Load() == 0 {
		t.Fatalf("%d from snapshots, %d from start, %d evicted, %d warm", s.FromSnapshot.Load(), s.FromStart.Load(), s.Evicted.Load(), s.Warm.Load())
	}
	closeTest(t, e)
}

// Only what came after the snapshot is replayed, in whatever batches it came.
func TestSnapshotsBoundTheReplay(t *testing.T) {
	e := openTest(t, t.TempDir(), Options{SnapshotEvents: 1000, SnapshotRecords: 50})
	defer closeTest(t, e)
	appendTest(t, e, 1, 1, 20_000)
	newest := func() uint64 {
		kept, err := e.Snapshots(1)
		if err != nil {
			t.Fatal(err)
		}
		if len(kept) == 0 {
			return 0
		}
		return kept[len(kept)-1].Seq
	}
	waitFor(t, "a snapshot by events", func() bool { return newest() == 20_000 })
	for n := uint64(1); n <= 60; n++ {
		appendTest(t, e, 1, 20_000+n, 20_000+n)
	}
	waitFor(t, "a snapshot by records", func() bool { return newest() >= 20_050 })
	if err := e.Evict(1); err != nil {
		t.Fatal(err)
	}
	before := e.Stats().EventsReplayed.Load()
	checkRebuild(t, e, 1, 20_060)
	if n := e.Stats().EventsReplayed.Load() - before; n > 10 {
		t.Fatalf("%d events replayed", n)
	}
}

// What was built from a snapshot that was rolled back is never served: not by the
// engine, and under no version that a cache would still find.
func TestRollback(t *testing.T) {
	dir := t.TempDir()
	var told atomic.Uint32
	options := Options{Versioned: func(_, version uint32) { told.Store(version) }}
	e := openTest(t, dir, options)
	seen := map[uint32]bool{}
	fresh := func(version uint32) {
		t.Helper()
		if seen[version] || told.Load() != version {
			t.Fatalf("version %d was there before, or not told: %d", version, told.Load())
		}
		seen[version] = true
	}
	fresh(checkedVersion(t, e, 0))
	for n := uint64(1); n <= 3; n++ {
		appendTest(t, e, 1, 100*n-99, 100*n)
		version, err := e.Snapshot(1)
		if err != nil {
			t.Fatal(err)
		}
		fresh(version)
		checkRebuild(t, e, 1, 100*n)
	}
	kept, err := e.Snapshots(1)
	if err != nil || len(kept) != 3 {
		t.Fatalf("%v kept, error %v", kept, err)
	}
	poison(t, e, 1) // what the rolled back code made: wrong
	if right := e.rightly(t, 1, 300); right {
		t.Fatal("the poisoned snapshot was not used: this test shows nothing")
	}
	version, err := e.Rollback(1, kept[0].Version)
	if err != nil {
		t.Fatal(err)
	}
	fresh(version)
	if got := checkRebuild(t, e, 1, 300); got != version {
		t.Fatalf("version %d, want %d", got, version)
	}
	closeTest(t, e)
	e = openTest(t, dir, options)
	if got := checkRebuild(t, e, 1, 300); got != version {
		t.Fatalf("version %d after a restart, want %d", got, version)
	}
	if _, err := e.Rollback(1, kept[2].Version); !errors.Is(err, ErrVersion) {
		t.Fatalf("rolled on to a version that was rolled back: error %v", err)
	}
	if version, err = e.Rollback(1, 0); err != nil {
		t.Fatal(err)
	}
	fresh(version)
	if checkRebuild(t, e, 1, 300); e.Stats().FromStart.Load() != 1 {
		t.Fatal("a rollback to nothing did not replay everything")
	}
	closeTest(t, e)
}

func checkedVersion(t *testing.T, e *Engine, after uint64) uint32 {
	t.Helper()
	appendTest(t, e, 9, after+1, after+1)
	version, err := e.Version(9)
	if err != nil {
		t.Fatal(err)
	}
	return version
}

// poison makes the tenant's later snapshots wrong, as a bad release would have.
func poison(t *testing.T, e *Engine, id uint32) {
	t.Helper()
	tenant := e.tenant(id, false)
	tenant.run.Lock()
	defer tenant.run.Unlock()
	if err := tenant.load(); err != nil {
		t.Fatal(err)
	}
	wrong := tenant.checkpoint.snapshots[0].state
	for i := range tenant.checkpoint.snapshots[1:] {
		state := bytes.Clone(wrong)
		copy(state[8:], tenant.checkpoint.snapshots[i+1].state[8:16]) // their sequence
		tenant.checkpoint.snapshots[i+1].state = state
	}
	e.forget(tenant)
	if err := errors.Join(e.checkpoints.store(id, &tenant.checkpoint), tenant.drop()); err != nil {
		t.Fatal(err)
	}
}

// rightly says whether the tenant's largest projection is right.
func (e *Engine) rightly(t *testing.T, id uint32, seq uint64) bool {
	t.Helper()
	oracle := &fold.Oracle{}
	for _, event := range testEvents(id, 1, seq) {
		oracle.Apply(event)
	}
	r, err := e.Rebuild(ctx, id, 8)
	if err != nil {
		t.Fatal(err)
	}
	view, _ := fold.ViewOf(8)
	view.Version = uint64(r.Version)
	got, err := fold.Decode(r.Data)
	if err != nil {
		t.Fatal(err)
	}
	return reflect.DeepEqual(got, oracle.Contents(view))
}

func TestCorruptCheckpoints(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"empty":     func(b []byte) []byte { return nil },
		"cut":       func(b []byte) []byte { return b[:len(b)-1] },
		"header":    func(b []byte) []byte { b[16] ^= 1; return b },
		"newest":    func(b []byte) []byte { b[len(b)-100] ^= 1; return b },
		"oldest":    func(b []byte) []byte { b[checkpointHeaderLen+100] ^= 1; return b },
		"too long":  func(b []byte) []byte { return append(b, 0) },
		"no longer": func(b []byte) []byte { b[0] ^= 1; return b },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			e := openTest(t, dir, Options{})
			appendTest(t, e, 1, 1, 100)
			e.Snapshot(1)
			appendTest(t, e, 1, 101, 200)
			old, err := e.Snapshot(1)
			if err != nil {
				t.Fatal(err)
			}
			closeTest(t, e)
			file := folder(dir + "/checkpoints").name(1)
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, damage(data), 0o644); err != nil {
				t.Fatal(err)
			}
			for round := range 2 {
				e = openTest(t, dir, Options{})
				if version := checkRebuild(t, e, 1, 200); version <= old {
					t.Fatalf("version %d is not after %d", version, old)
				}
				if n := e.Stats().CheckpointsWrong.Load(); n != uint64(1-round) {
					t.Fatalf("round %d: %d wrong checkpoints", round, n)
				}
				closeTest(t, e)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	e := openTest(t, t.TempDir(), Options{})
	defer closeTest(t, e)
	appendTest(t, e, 1, 1, 1)
	tests := map[string]struct{ err, want error }{
		"no events":          {second(e.Append(ctx, 1)), ErrEvents},
		"too many events":    {second(e.Append(ctx, 1, make([]fold.Event, EventsMax+1)...)), ErrEvents},
		"unknown tenant":     {second(e.Rebuild(ctx, 2, 1)), ErrTenant},
		"no projection":      {second(e.Rebuild(ctx, 1, 0)), ErrProjection},
		"unknown projection": {second(e.Rebuild(ctx, 1, 9)), ErrProjection},
		"rollback":           {second(e.Rollback(1, 77)), ErrVersion},
		"rollback of nobody": {second(e.Rollback(2, 0)), ErrTenant},
		"snapshot of nobody": {second(e.Snapshot(2)), ErrTenant},
	}
	for name, test := range tests {
		if !errors.Is(test.err, test.want) {
			t.Errorf("%s: error %v, want %v", name, test.err, test.want)
		}
	}
	if len(e.tenants) != 1 {
		t.Errorf("%d tenants after questions for unknown ones", len(e.tenants))
	}
	if _, err := Open(t.TempDir(), Options{SnapshotsKept: 17}); err == nil {
		t.Error("options out of range were taken")
	}
}

func second[T any](_ T, err error) error { return err }

// TestHammer appends, rebuilds, evicts, snapshots and rolls back at once. A rebuild
// must have all that was durable when it began.
func TestHammer(t *testing.T) {
	for _, native := range []bool{false, true} {
		t.Run(fmt.Sprintf("native=%v", native), func(t *testing.T) { hammer(t, native) })
	}
}

func hammer(t *testing.T, native bool) {
	e := openTest(t, t.TempDir(), Options{SnapshotEvents: 50, WarmMax: 2, PoolSize: 2, Native: native})
	const tenants, each = 5, 120
	var durable [tenants]atomic.Uint64
	var appenders, others sync.WaitGroup
	done := make(chan struct{})
	for id := range uint32(tenants) {
		appenders.Go(func() {
			for seq := uint64(1); seq <= each; seq++ {
				if _, err := e.Append(ctx, id, testEvents(id, seq, seq)...); err != nil {
					t.Error(err)
					return
				}
				durable[id].Store(seq)
			}
		})
	}
	for worker := range uint64(6) {
		others.Go(func() {
			rng := rand.New(rand.NewPCG(worker, 1))
			for {
				select {
				case <-done:
					return
				default:
				}
				id := rng.Uint32N(tenants)
				if err := disturb(e, rng, id, durable[id].Load()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	appenders.Wait()
	close(done)
	others.Wait()
	for id := range uint32(tenants) {
		checkRebuild(t, e, id, each)
	}
	closeTest(t, e)
}

// disturb does one thing to a tenant that has at least so many durable events.
func disturb(e *Engine, rng *rand.Rand, id uint32, least uint64) error {
	if least == 0 {
		return nil
	}
	switch rng.IntN(20) {
	case 0:
		return e.Evict(id)
	case 1:
		return second(e.Snapshot(id))
	case 2:
		kept, err := e.Snapshots(id)
		if err != nil || len(kept) == 0 {
			return err
		}
		if err = second(e.Rollback(id, kept[rng.IntN(len(kept))].Version)); errors.Is(err, ErrVersion) {
			return nil // it went in between
		}
		return err
	}
	r, err := e.Rebuild(ctx, id, 1+rng.Uint32N(8))
	if err != nil {
		return err
	}
	contents, err := fold.Decode(r.Data)
	if err != nil {
		return err
	}
	if r.Seq < least || contents.Seq != r.Seq || contents.Version != uint64(r.Version) {
		return fmt.Errorf("tenant %d: result %d %d holds %+v, %d events were durable", id, r.Version, r.Seq, contents, least)
	}
	return nil
}

// Whatever the bytes, a checkpoint decodes or is refused, and what decodes whole
// encodes to the same bytes.
func FuzzDecodeCheckpoint(f *testing.F) {
	c := checkpoint{version: 7, snapshots: []snapshot{{5, 10, 3, make([]byte, fold.StateLen)}, {7, 20, 4, make([]byte, fold.StateLen)}}}
	f.Add(c.encode(1))
	f.Add((&checkpoint{version: 1}).encode(1))
	f.Fuzz(func(t *testing.T, src []byte) {
		c, err := decodeCheckpoint(src, 1)
		if err == nil && !bytes.Equal(c.encode(1), src) {
			t.Fatalf("%x became %x", src, c.encode(1))
		}
	})
}
