package tenantfiles

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
)

// More tenants than files may be open: files are closed and opened again, never
// more than the limit are open, and no record is lost.
func TestOpenFilesAreBounded(t *testing.T) {
	const limit, tenants, each = 3, 20, 15
	dir := t.TempDir()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	s.files = newFilePool(limit)
	var wg sync.WaitGroup
	for tenant := range uint32(tenants) {
		wg.Go(func() {
			for seq := uint64(1); seq <= each; seq++ {
				if got, err := s.Append(context.Background(), tenant, []byte("record")); got != seq || err != nil {
					t.Errorf("tenant %d: sequence %d, want %d, error %v", tenant, got, seq, err)
				}
				s.files.mu.Lock()
				if s.files.open > limit || len(s.files.entries) > limit {
					t.Errorf("%d files open", s.files.open)
				}
				s.files.mu.Unlock()
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	stored := 0
	if err := Scan(dir, func(uint32, uint64, []byte) error { stored++; return nil }); err != nil || stored != tenants*each {
		t.Fatalf("%d records, error %v", stored, err)
	}
}

func TestFilePoolPassesOpenErrorsOn(t *testing.T) {
	p := newFilePool(1)
	broken := errors.New("broken")
	for range 3 { // a failed open must give its place back
		if _, err := p.acquire(1, func() (*os.File, error) { return nil, broken }); !errors.Is(err, broken) {
			t.Fatalf("error %v", err)
		}
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for range 50 {
		id := rng.Uint32N(5)
		if _, err := p.acquire(id, func() (*os.File, error) { return os.Open(os.DevNull) }); err != nil {
			t.Fatal(err)
		}
		p.release(id)
	}
	if err := p.close(); err != nil || p.open != 0 {
		t.Fatalf("%d files open, error %v", p.open, err)
	}
}
