package qemu

import (
	"os"
	"testing"
)

// The probe must come to an answer anywhere; which one, only the machine knows.
func TestProbeKVM(t *testing.T) {
	err := ProbeKVM()
	if _, missing := os.Stat("/dev/kvm"); missing != nil && err == nil {
		t.Error("a guest ran without /dev/kvm")
	}
	t.Logf("KVM: %v", err)
}
