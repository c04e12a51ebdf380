package seglog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
)

// TestReplayGivesWhatReadGives compares every way in which records can stand:
// close together, far apart between other tenants' records, and too large for a
// window; over several segments, from any sequence on, while others append.
func TestReplayGivesWhatReadGives(t *testing.T) {
	l := openTest(t, t.TempDir(), DirOptions{}, Options{SegmentBytes: 4 << 20})
	defer closeTest(t, l)
	rng := rand.New(rand.NewPCG(1, 1))
	var wg sync.WaitGroup
	// Tenant 1 is dense, 2 is between large records of 3.
	for tenant, size := range map[uint32]int{1: 60, 2: 40, 3: 200_000} {
		count := 1500
		if tenant == 3 {
			count = 60
		}
		wg.Go(func() {
			for i := range count {
				if _, err := l.Append(context.Background(), tenant, bytes.Repeat([]byte{byte(i)}, size+i%7)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	stop := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				l.Append(context.Background(), 1, []byte("later"))
			}
		}
	})
	for tenant := uint32(1); tenant <= 3; tenant++ {
		_, last := l.Range(tenant)
		for range 20 {
			checkReplay(t, l, tenant, 1+rng.Uint64N(last))
		}
		checkReplay(t, l, tenant, 1)
		checkReplay(t, l, tenant, last)
	}
	close(stop)
	wg.Wait()
}

func checkReplay(t *testing.T, l *Log, tenant uint32, from uint64) {
	t.Helper()
	_, last := l.Range(tenant)
	want := from
	next, err := l.Replay(tenant, from, func(seq uint64, payload []byte) error {
		read, err := l.Read(tenant, seq)
		if err != nil || seq != want || !bytes.Equal(read, payload) {
			return fmt.Errorf("sequence %d, want %d: %d bytes, read %d, error %v", seq, want, len(payload), len(read), err)
		}
		want++
		return nil
	})
	if err != nil || next != want || next <= last {
		t.Fatalf("tenant %d from %d: next %d of %d, error %v", tenant, from, next, last, err)
	}
}

func TestReplayEnds(t *testing.T) {
	l := openTest(t, t.TempDir(), DirOptions{}, Options{})
	for range 5 {
		if _, err := l.Append(context.Background(), 1, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	never := func(uint64, []byte) error { t.Error("visited"); return nil }
	if next, err := l.Replay(1, 6, never); next != 6 || err != nil {
		t.Fatalf("behind the end: next %d, error %v", next, err)
	}
	if next, err := l.Replay(2, 1, never); next != 1 || err != nil {
		t.Fatalf("unknown tenant: next %d, error %v", next, err)
	}
	if _, err := l.Replay(1, 0, never); !errors.Is(err, ErrRetired) {
		t.Fatalf("sequence 0: error %v", err)
	}
	enough := errors.New("enough")
	if next, err := l.Replay(1, 2, func(seq uint64, _ []byte) error {
		if seq == 4 {
			return enough
		}
		return nil
	}); next != 4 || err != enough {
		t.Fatalf("next %d, error %v", next, err)
	}
	closeTest(t, l)
	if _, err := l.Replay(1, 1, never); !errors.Is(err, ErrClosed) {
		t.Fatalf("closed: error %v", err)
	}
}

// BenchmarkReplay reads 10,000 records of one tenant that stand close together.
func BenchmarkReplay(b *testing.B) {
	const records = 10_000
	l := openTest(b, b.TempDir(), DirOptions{}, Options{})
	defer closeTest(b, l)
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			for range records / 100 {
				if _, err := l.Append(context.Background(), 1, make([]byte, 32)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.Run("Replay", func(b *testing.B) {
		for b.Loop() {
			if _, err := l.Replay(1, 1, func(uint64, []byte) error { return nil }); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/records, "ns/record")
	})
	b.Run("Read", func(b *testing.B) {
		var buf []byte
		for b.Loop() {
			for seq := range uint64(records) {
				var err error
				if buf, err = l.ReadInto(buf[:0], 1, seq+1); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/records, "ns/record")
	})
}
