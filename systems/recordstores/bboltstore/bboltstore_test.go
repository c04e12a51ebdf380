package bboltstore

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nexuscore-labs/nexus/systems/recordserver"
	"github.com/nexuscore-labs/nexus/systems/recordstores/storetest"
)

var kind = storetest.Kind{
	Open: func(dir string) (recordserver.Store, error) { return Open(dir) },
	Scan: Scan,
}

func TestMain(m *testing.M) { storetest.Main(m, kind) }

func TestStore(t *testing.T) { storetest.Run(t, kind) }

// BenchmarkBatchDelay is why batchDelay is what it is: 256 appenders.
func BenchmarkBatchDelay(b *testing.B) {
	for _, delay := range []time.Duration{200 * time.Microsecond, time.Millisecond, 3 * time.Millisecond, 10 * time.Millisecond} {
		b.Run(delay.String(), func(b *testing.B) {
			store, err := Open(b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			defer store.Close()
			store.db.MaxBatchDelay = delay
			b.SetParallelism(128) // times GOMAXPROCS
			var tenant atomic.Uint32
			payload := make([]byte, 256)
			b.RunParallel(func(pb *testing.PB) {
				own := tenant.Add(1)
				for pb.Next() {
					if _, err := store.Append(context.Background(), own, payload); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
