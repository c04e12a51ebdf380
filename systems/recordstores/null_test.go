package recordstores_test

import (
	"context"
	"sync"
	"testing"

	"github.com/nexuscore-labs/nexus/systems/recordserver"
)

// countingStore numbers records and keeps none: what the front alone can do.
type countingStore struct {
	mu   sync.Mutex
	last map[uint32]uint64
}

func (s *countingStore) Append(_ context.Context, tenant uint32, _ []byte) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last[tenant]++
	return s.last[tenant], nil
}

func (s *countingStore) Close() error { return nil }

// BenchmarkFront is the network front's ceiling, client included.
func BenchmarkFront(b *testing.B) {
	counting := &countingStore{last: make(map[uint32]uint64)}
	elapsed, err := measure(store{
		name: "front",
		open: func(string) (recordserver.Store, error) { return counting, nil },
		scan: func(_ string, fn func(uint32, uint64, []byte) error) error {
			for tenant, last := range counting.last {
				for seq := range last {
					if err := fn(tenant, seq+1, nil); err != nil {
						return err
					}
				}
			}
			return nil
		},
	}, int64(b.N))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/elapsed.Seconds(), "records/s")
}
