package machine

import (
	"testing"
	"testing/fstest"
)

// A processor that is software is told from one that a hypervisor lends.
func TestEmulatedProcessor(t *testing.T) {
	for model, want := range map[string]string{"QEMU TCG CPU version 2.5+": Emulated, "Intel(R) Xeon(R)": "qemu"} {
		root := fstest.MapFS{
			"proc/cpuinfo":                  {Data: []byte("model name\t: " + model + "\nflags\t\t: fpu hypervisor\n")},
			"sys/class/dmi/id/sys_vendor":   {Data: []byte("QEMU\n")},
			"sys/class/dmi/id/product_name": {Data: []byte("Standard PC (Q35 + ICH9, 2009)\n")},
		}
		if got := hypervisor(root); got != want {
			t.Errorf("%s: %q, want %q", model, got, want)
		}
	}
}
