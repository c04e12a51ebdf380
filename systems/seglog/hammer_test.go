package seglog

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestHammer appends, reads, tails and retires at the same time, and compares
// every record with what its number says it must be.
func TestHammer(t *testing.T) {
	l := openTest(t, t.TempDir(), DirOptions{Reserve: true}, Options{
		SegmentBytes: 128 << 10, BatchBytes: 32 << 10, RetainBytes: 192 << 10, RecordBytesMax: 4 << 10,
	})
	const tenants, each = 6, 120
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var running sync.WaitGroup
	var acked [tenants]atomic.Uint64
	for tenant := range uint32(tenants) {
		running.Go(func() { hammerAppend(t, l, tenant, each, &acked[tenant]) })
		running.Go(func() { hammerTail(ctx, t, l, tenant, each) })
		running.Go(func() { hammerRead(t, l, tenant, each, &acked[tenant]) })
	}
	running.Wait()
	if l.Stats().Retired == 0 {
		t.Error("nothing was retired")
	}
	closeTest(t, l)
	if _, err := l.Append(ctx, 1, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("append after close: %v", err)
	}
}

func hammerAppend(t *testing.T, l *Log, tenant uint32, each uint64, acked *atomic.Uint64) {
	for i := uint64(1); i <= each; i++ {
		seq, err := l.Append(context.Background(), tenant, testPayload(tenant, i))
		if err != nil || seq != i {
			t.Errorf("tenant %d: append %d: sequence %d, error %v", tenant, i, seq, err)
			return
		}
		acked.Store(seq)
		if i%10 == 0 {
			if err := l.Retain(); err != nil {
				t.Error(err)
			}
		}
	}
}

func hammerTail(ctx context.Context, t *testing.T, l *Log, tenant uint32, each uint64) {
	tail := l.Tail(tenant, 1)
	for {
		seq, p, err := tail.Next(ctx)
		if errors.Is(err, ErrRetired) {
			tail.Skip()
			continue
		}
		if err != nil || !bytes.Equal(p, testPayload(tenant, seq)) {
			t.Errorf("tail of tenant %d at %d: error %v", tenant, seq, err)
			return
		}
		if seq == each {
			return
		}
	}
}

func hammerRead(t *testing.T, l *Log, tenant uint32, each uint64, acked *atomic.Uint64) {
	rng := rand.New(rand.NewPCG(uint64(tenant), 1))
	for acked.Load() < each && !t.Failed() {
		last := acked.Load()
		seq := 1 + rng.Uint64N(last+1)
		p, err := l.Read(tenant, seq)
		switch {
		case errors.Is(err, ErrRetired):
		case errors.Is(err, ErrNotFound) && seq > last:
		case err != nil || !bytes.Equal(p, testPayload(tenant, seq)):
			t.Errorf("tenant %d: read %d of %d: error %v", tenant, seq, last, err)
			return
		}
	}
}

// TestAgainstMap compares random operations, reopening included, with a map.
func TestAgainstMap(t *testing.T) {
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 2))
		dir := t.TempDir()
		o := Options{SegmentBytes: 64 << 10, BatchBytes: 16 << 10, RetainBytes: 100 << 10}
		l := openTest(t, dir, DirOptions{}, o)
		model := map[uint32][][]byte{}
		for range 250 {
			tenant := rng.Uint32N(4)
			records := model[tenant]
			switch rng.IntN(20) {
			case 0:
				closeTest(t, l)
				l = openTest(t, dir, DirOptions{}, o)
			case 1:
				if err := l.Retain(); err != nil {
					t.Fatal(err)
				}
			case 2, 3, 4, 5:
				seq := rng.Uint64N(uint64(len(records)) + 3)
				first, last := l.Range(tenant)
				p, err := l.Read(tenant, seq)
				switch {
				case seq >= first && seq <= last && (err != nil || !bytes.Equal(p, records[seq-1])):
					t.Fatalf("seed %d: tenant %d: read %d: error %v", seed, tenant, seq, err)
				case seq > 0 && seq < first && !errors.Is(err, ErrRetired):
					t.Fatalf("seed %d: read %d below %d: %v", seed, seq, first, err)
				case (seq == 0 || seq > last) && !errors.Is(err, ErrNotFound):
					t.Fatalf("seed %d: read %d above %d: %v", seed, seq, last, err)
				case last != uint64(len(records)):
					t.Fatalf("seed %d: tenant %d ends at %d, want %d", seed, tenant, last, len(records))
				}
			default:
				p := make([]byte, rng.IntN(6000))
				binary.LittleEndian.PutUint64(append(p, make([]byte, 8)...), rng.Uint64())
				seq, err := l.Append(context.Background(), tenant, p)
				if err != nil || seq != uint64(len(records))+1 {
					t.Fatalf("seed %d: append: sequence %d, error %v", seed, seq, err)
				}
				model[tenant] = append(records, p)
			}
		}
		closeTest(t, l)
	}
}

// TestDiskFullForReal fills a small tmpfs.
func TestDiskFullForReal(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("mounting a tmpfs needs CAP_SYS_ADMIN: %v", err)
	}
	defer func() {
		deadline := time.Now().Add(20 * time.Second)
		for { // the kernel frees a closed ring's file in its own time
			err := unix.Unmount(dir, 0)
			if err == nil {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
	}()
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	l := openTest(t, filepath.Join(dir, "log"), DirOptions{}, Options{SegmentBytes: 256 << 10, BatchBytes: 64 << 10})
	payload := make([]byte, 10_000)
	var last uint64
	for {
		seq, err := l.Append(context.Background(), 1, payload)
		if errors.Is(err, ErrDiskFull) {
			break
		}
		if err != nil || last > 200 {
			t.Fatalf("append %d on a disk of 2 MiB: %v", last, err)
		}
		last = seq
	}
	if _, err := l.Read(1, last); err != nil {
		t.Errorf("read while the disk is full: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		seq, err := l.Append(context.Background(), 1, payload)
		if err == nil {
			if seq != last+1 {
				t.Errorf("sequence %d after %d", seq, last)
			}
			break
		}
		if !errors.Is(err, ErrDiskFull) || time.Now().After(deadline) {
			t.Fatalf("append after space came back: %v", err)
		}
	}
	closeTest(t, l)
}

func TestCancelledAppendAndTail(t *testing.T) {
	l := openTest(t, t.TempDir(), DirOptions{}, Options{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := l.Append(ctx, 1, []byte("x")); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("append: %v", err)
	}
	if _, _, err := l.Tail(9, 1).Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("tail: %v", err)
	}
	done := make(chan error)
	go func() {
		_, _, err := l.Tail(9, 1).Next(context.Background())
		done <- err
	}()
	closeTest(t, l)
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Errorf("tail of a closed log: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	l := openTest(t, dir, DirOptions{}, Options{RecordBytesMax: 100, TenantsMax: 1})
	if _, err := l.Append(context.Background(), 1, make([]byte, 101)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("large record: %v", err)
	}
	if _, err := l.Append(context.Background(), 1, make([]byte, 100)); err != nil {
		t.Errorf("largest record: %v", err)
	}
	if _, err := l.Append(context.Background(), 2, nil); !errors.Is(err, ErrTenants) {
		t.Errorf("second tenant: %v", err)
	}
	if _, err := Open(dir, Options{}); err == nil {
		t.Error("a log was opened twice")
	}
	closeTest(t, l)
	for _, o := range []Options{{SegmentBytes: 1000}, {BatchBytes: 5000}, {RecordBytesMax: 64 << 20}, {Linger: -1}} {
		if _, err := Open(t.TempDir(), o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
	blocked := filepath.Join(dir, "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(blocked, "log"), Options{}); err == nil {
		t.Error("a log below a file was opened")
	}
}

// TestLinger: with a linger a second record joins the first one's commit.
func TestLinger(t *testing.T) {
	l := openTest(t, t.TempDir(), DirOptions{}, Options{Linger: 200 * time.Millisecond})
	var wg sync.WaitGroup
	for tenant := range uint32(8) {
		wg.Go(func() {
			if _, err := l.Append(context.Background(), tenant, []byte("x")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if s := l.Stats(); s.Records != 8 || s.Batches > 4 {
		t.Errorf("%d records in %d batches", s.Records, s.Batches)
	}
	closeTest(t, l)
}

// TestRetentionByAge removes what is old by the clock it is given.
func TestRetentionByAge(t *testing.T) {
	var now atomic.Int64
	now.Store(time.Now().UnixNano())
	l := openTest(t, t.TempDir(), DirOptions{}, Options{
		SegmentBytes: 64 << 10, BatchBytes: 16 << 10, RetainAge: time.Hour,
		Now: func() time.Time { return time.Unix(0, now.Load()) },
	})
	for range 40 {
		if _, err := l.Append(context.Background(), 1, make([]byte, 6000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Retain(); err != nil {
		t.Fatal(err)
	}
	if first, _ := l.Range(1); first != 1 {
		t.Errorf("records of this hour are gone up to %d", first)
	}
	now.Add(int64(2 * time.Hour))
	if err := l.Retain(); err != nil {
		t.Fatal(err)
	}
	first, last := l.Range(1)
	if first == 1 || first > last || last != 40 {
		t.Errorf("after two hours: %d to %d", first, last)
	}
	if _, err := l.Read(1, first-1); !errors.Is(err, ErrRetired) {
		t.Errorf("read below the watermark: %v", err)
	}
	closeTest(t, l)
}

// TestRetainFrom: segments below a sequence go, as long as one tenant alone
// wrote them, and what is kept is read as before.
func TestRetainFrom(t *testing.T) {
	dir := t.TempDir()
	o := Options{SegmentBytes: 64 << 10, BatchBytes: 16 << 10}
	l := openTest(t, dir, DirOptions{}, o)
	write := func(tenant uint32, n int) (last uint64) {
		for range n {
			seq, err := l.Append(context.Background(), tenant, make([]byte, 3000))
			if err != nil {
				t.Fatal(err)
			}
			last = seq
		}
		return last
	}
	last := write(1, 100)
	if err := l.RetainFrom(1, last-20); err != nil {
		t.Fatal(err)
	}
	first, _ := l.Range(1)
	if first == 1 || first > last-20 {
		t.Fatalf("kept from %d on, want above 1 and at most %d", first, last-20)
	}
	if _, err := l.Read(1, first); err != nil {
		t.Fatal(err)
	}
	write(2, 1)
	last = write(1, 100)
	if err := l.RetainFrom(1, last); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Read(2, 1); err != nil {
		t.Fatalf("another tenant's record is gone: %v", err)
	}
	closeTest(t, l)
	l = openTest(t, dir, DirOptions{}, o)
	if _, got := l.Range(1); got != last {
		t.Fatalf("the last sequence is %d after reopening, want %d", got, last)
	}
	closeTest(t, l)
}
