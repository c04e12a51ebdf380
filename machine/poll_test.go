package machine

import (
	"testing"
	"time"
)

// poll waits until done; only a hang makes it fail.
func poll(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("waited 20 s for: %s", what)
}
