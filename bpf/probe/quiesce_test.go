package probe

import (
	"testing"

	"golang.org/x/sys/unix"
)

// Both ways have to be accepted; that they wait is the kernel's promise.
func TestQuiesce(t *testing.T) {
	if unix.Geteuid() != 0 {
		t.Skip("making BPF maps needs root")
	}
	if err := Quiesce(); err != nil {
		t.Error(err)
	}
	if err := quiesceByMap(); err != nil {
		t.Error(err)
	}
}
