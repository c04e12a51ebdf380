package convoy

import (
	"runtime"
	"testing"
	"time"
)

// Collections that others start while pairs run must end, and so must the pairs:
// a thread of a pair never stops for one.
func TestPairsEndWhileOthersAllocate(t *testing.T) {
	stop := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var kept [][]byte
		for {
			select {
			case <-stop:
				runtime.KeepAlive(kept)
				return
			default:
				kept = append(kept[:0], make([]byte, 1<<20))
			}
		}
	}()
	for range 20 {
		if _, err := pairRate(Futex, Threads, 0, 2*time.Millisecond); err != nil {
			t.Error(err)
			break
		}
	}
	close(stop)
	<-ended
}
