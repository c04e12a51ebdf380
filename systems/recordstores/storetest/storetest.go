// Package storetest is the conformance test of record stores: one call of Main
// and one of Run in a store's test package.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/nexuscore-labs/nexus/systems/recordserver"
)

// Kind is the store under test.
type Kind struct {
	Open func(dir string) (recordserver.Store, error)
	Scan func(dir string, fn func(tenant uint32, seq uint64, payload []byte) error) error
	// SurvivesDiskFull: an append without room is answered so and leaves nothing
	// behind, and the store goes on when room comes back.
	SurvivesDiskFull bool
}

// Run tests a store. The test binary's TestMain must call Main.
func Run(t *testing.T, kind Kind) {
	t.Run("EmptyFolder", kind.testEmptyFolder)
	t.Run("RoundTripAndReopen", kind.testRoundTripAndReopen)
	t.Run("PayloadIsCopied", kind.testPayloadIsCopied)
	t.Run("ConcurrentAppends", kind.testConcurrentAppends)
	t.Run("SameTenantConcurrently", kind.testSameTenantConcurrently)
	t.Run("Batches", kind.testBatches)
	t.Run("Read", kind.testRead)
	t.Run("AppendAfterClose", kind.testAppendAfterClose)
	t.Run("DiskFull", kind.testDiskFull)
	t.Run("KilledWriterLosesNothing", kind.testKill)
}

// payload is what record seq of tenant holds in every test: different bytes of
// different lengths, the empty record and some of several pages included.
func payload(tenant uint32, seq uint64) []byte {
	rng := rand.New(rand.NewPCG(uint64(tenant), seq))
	n := int(rng.ExpFloat64() * 300)
	if seq%17 == 0 {
		n = 0
	}
	if seq%29 == 0 {
		n = 9000 + rng.IntN(1000)
	}
	body := make([]byte, n)
	for i := range body {
		body[i] = byte(rng.Uint32())
	}
	return body
}

// scan checks that dir holds records 1..n of each tenant, in order and with
// their payloads, and returns each tenant's n.
func (k Kind) scan(dir string) (map[uint32]uint64, error) {
	last := make(map[uint32]uint64)
	err := k.Scan(dir, func(tenant uint32, seq uint64, got []byte) error {
		if seq != last[tenant]+1 {
			return fmt.Errorf("tenant %d: sequence %d after %d", tenant, seq, last[tenant])
		}
		if want := payload(tenant, seq); !bytes.Equal(got, want) {
			return fmt.Errorf("tenant %d sequence %d: %d bytes %.40x, want %d bytes %.40x", tenant, seq, len(got), got, len(want), want)
		}
		last[tenant] = seq
		return nil
	})
	return last, err
}

func (k Kind) mustScan(t *testing.T, dir string, want map[uint32]uint64) {
	t.Helper()
	got, err := k.scan(dir)
	if err != nil {
		t.Fatalf("scan: %v", err)
	}
	if len(got) != len(want) {
		t.Fatalf("scan: %d tenants, want %d", len(got), len(want))
	}
	for tenant, n := range want {
		if got[tenant] != n {
			t.Fatalf("scan: tenant %d has %d records, want %d", tenant, got[tenant], n)
		}
	}
}

func (k Kind) open(t *testing.T, dir string) recordserver.Store {
	t.Helper()
	store, err := k.Open(dir)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return store
}

func closeStore(t *testing.T, store recordserver.Store) {
	t.Helper()
	if err := store.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

// appendNext appends record seq of tenant and checks its sequence.
func appendNext(store recordserver.Store, tenant uint32, seq uint64) error {
	got, err := store.Append(context.Background(), tenant, payload(tenant, seq))
	if err != nil {
		return fmt.Errorf("append tenant %d sequence %d: %w", tenant, seq, err)
	}
	if got != seq {
		return fmt.Errorf("append tenant %d: got sequence %d, want %d", tenant, got, seq)
	}
	return nil
}

func (k Kind) testEmptyFolder(t *testing.T) {
	dir := t.TempDir()
	k.mustScan(t, dir, nil)
	closeStore(t, k.open(t, dir))
	k.mustScan(t, dir, nil)
}

func (k Kind) testRoundTripAndReopen(t *testing.T) {
	dir := t.TempDir()
	want := make(map[uint32]uint64)
	rng := rand.New(rand.NewPCG(7, 7))
	for range 3 {
		store := k.open(t, dir)
		for range 60 {
			tenant := []uint32{0, 1, 2, 77, 1 << 20, ^uint32(0)}[rng.IntN(6)]
			want[tenant]++
			if err := appendNext(store, tenant, want[tenant]); err != nil {
				t.Fatal(err)
			}
		}
		closeStore(t, store)
		k.mustScan(t, dir, want)
	}
}

func (k Kind) testPayloadIsCopied(t *testing.T) {
	dir := t.TempDir()
	store := k.open(t, dir)
	buf := make([]byte, 0, 32<<10)
	for seq := uint64(1); seq <= 40; seq++ {
		buf = append(buf[:0], payload(3, seq)...)
		if _, err := store.Append(context.Background(), 3, buf); err != nil {
			t.Fatal(err)
		}
		for i := range buf {
			buf[i] = 0xee
		}
	}
	closeStore(t, store)
	k.mustScan(t, dir, map[uint32]uint64{3: 40})
}

func (k Kind) testConcurrentAppends(t *testing.T) {
	const tenants, each = 32, 20
	dir := t.TempDir()
	store := k.open(t, dir)
	errs := make([]error, tenants)
	want := make(map[uint32]uint64)
	var wg sync.WaitGroup
	for tenant := range uint32(tenants) {
		want[tenant] = each
		wg.Go(func() {
			for seq := uint64(1); seq <= each && errs[tenant] == nil; seq++ {
				errs[tenant] = appendNext(store, tenant, seq)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	closeStore(t, store)
	k.mustScan(t, dir, want)
}

// testSameTenantConcurrently has many appenders of one tenant: sequences must
// come out once each, and each must hold the payload that got it.
func (k Kind) testSameTenantConcurrently(t *testing.T) {
	const writers, each = 8, 20
	dir := t.TempDir()
	store := k.open(t, dir)
	var mu sync.Mutex
	acked := make(map[uint64]string)
	var wg sync.WaitGroup
	for writer := range writers {
		wg.Go(func() {
			for i := range each {
				body := fmt.Sprintf("writer %d record %d", writer, i)
				seq, err := store.Append(context.Background(), 5, []byte(body))
				mu.Lock()
				if _, twice := acked[seq]; err != nil || twice {
					t.Errorf("append: sequence %d, given before: %v, error %v", seq, twice, err)
				}
				acked[seq] = body
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	closeStore(t, store)
	last := uint64(0)
	err := k.Scan(dir, func(tenant uint32, seq uint64, got []byte) error {
		if tenant != 5 || seq != last+1 || acked[seq] != string(got) {
			return fmt.Errorf("tenant %d sequence %d after %d holds %q, acknowledged %q", tenant, seq, last, got, acked[seq])
		}
		last = seq
		return nil
	})
	if err != nil || last != writers*each {
		t.Fatalf("scan ended at %d of %d: %v", last, writers*each, err)
	}
}

func (k Kind) testBatches(t *testing.T) {
	dir := t.TempDir()
	store := k.open(t, dir)
	batcher, ok := store.(recordserver.Batcher)
	if !ok {
		closeStore(t, store)
		t.Skip("this store appends one record at a time")
	}
	want := map[uint32]uint64{1: 0, 2: 0}
	for _, n := range []int{1, 2, 64, 200} {
		for tenant := range want {
			payloads := make([][]byte, n)
			for i := range payloads {
				payloads[i] = payload(tenant, want[tenant]+uint64(i)+1)
			}
			results := make([]recordserver.Result, n)
			batcher.AppendBatch(context.Background(), tenant, payloads, results)
			for i, r := range results {
				if r.Err != nil || r.Seq != want[tenant]+uint64(i)+1 {
					t.Fatalf("record %d of %d: sequence %d, error %v", i, n, r.Seq, r.Err)
				}
			}
			want[tenant] += uint64(n)
		}
	}
	closeStore(t, store)
	k.mustScan(t, dir, want)
}

func (k Kind) testRead(t *testing.T) {
	dir := t.TempDir()
	store := k.open(t, dir)
	defer closeStore(t, store)
	reader, ok := store.(recordserver.Reader)
	if !ok {
		t.Skip("this store has no reads")
	}
	for seq := uint64(1); seq <= 40; seq++ {
		if err := appendNext(store, 9, seq); err != nil {
			t.Fatal(err)
		}
	}
	for seq := uint64(1); seq <= 40; seq++ {
		got, err := reader.Read(context.Background(), 9, seq)
		if err != nil || !bytes.Equal(got, payload(9, seq)) {
			t.Fatalf("read %d: %x, error %v", seq, got, err)
		}
	}
	for _, absent := range []struct {
		tenant uint32
		seq    uint64
	}{{9, 0}, {9, 41}, {9, ^uint64(0)}, {8, 1}, {10, 1}, {^uint32(0), 1}} {
		if _, err := reader.Read(context.Background(), absent.tenant, absent.seq); !errors.Is(err, recordserver.ErrUnknown) {
			t.Fatalf("read of absent %+v: error %v", absent, err)
		}
	}
}

func (k Kind) testAppendAfterClose(t *testing.T) {
	store := k.open(t, t.TempDir())
	closeStore(t, store)
	if seq, err := store.Append(context.Background(), 1, []byte("late")); err == nil {
		t.Fatalf("append after close: sequence %d and no error", seq)
	}
}
