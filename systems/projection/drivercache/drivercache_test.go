package drivercache

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/bpf/projcache"
	"github.com/nexuscore-labs/nexus/systems/projection"
)

type scripted struct {
	result projection.Result
	err    error
}

func (s *scripted) Rebuild(context.Context, uint32, uint32) (projection.Result, error) {
	return s.result, s.err
}

// What is rebuilt is what the driver answers; of a rolled-back version nothing is.
func TestPublishes(t *testing.T) {
	if unix.Geteuid() != 0 {
		t.Skip("BPF maps need root")
	}
	cache, err := projcache.Open(projcache.Options{Slots: 16, Tenants: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer cache.Close()
	source := &scripted{}
	p := New(source, cache)
	served := func() (uint64, bool) {
		body, found := cache.Get(nil, projcache.Key{Tenant: 2, Projection: 1, Snapshot: cache.Snapshot(2)})
		if !found {
			return 0, false
		}
		return binary.LittleEndian.Uint64(body), true
	}
	for _, step := range []struct {
		version uint32
		seq     uint64
		served  uint64
	}{{1, 10, 10}, {1, 11, 11}, {3, 9, 9}, {2, 12, 9}, {4, 13, 13}} {
		source.result = projection.Result{Version: step.version, Seq: step.seq, Data: []byte("x")}
		if _, err := p.Rebuild(t.Context(), 2, 1); err != nil {
			t.Fatal(err)
		}
		if got, found := served(); !found || got != step.served {
			t.Errorf("after version %d, sequence %d: served %d (%v), want %d", step.version, step.seq, got, found, step.served)
		}
	}
	if err := p.Versioned(2, 5); err != nil {
		t.Fatal(err)
	}
	if seq, found := served(); found {
		t.Errorf("sequence %d is served though its version was rolled back", seq)
	}
	source.err = errors.New("the log is gone")
	if _, err := p.Rebuild(t.Context(), 2, 1); !errors.Is(err, source.err) {
		t.Errorf("a failed rebuild: %v", err)
	}
	source.err = nil
	if _, err := p.Rebuild(t.Context(), 9, 1); err == nil {
		t.Error("a tenant beyond the driver's table was published")
	}
}
