package machine

import (
	"reflect"
	"testing"
	"testing/fstest"
)

func TestContenderGetsTheDisksInterrupts(t *testing.T) {
	for _, c := range []struct {
		allowed     []int
		interrupted int
		generator   []int
		contender   []int
	}{
		{[]int{0, 1}, 1, []int{0}, []int{1}},
		{[]int{0, 1}, 0, []int{1}, []int{0}},
		{[]int{0, 1}, -1, []int{1}, []int{0}},
		{[]int{0, 1, 2}, 2, []int{1}, []int{0, 2}},
		{[]int{0, 1, 2, 3}, 0, []int{3}, []int{1, 2}}, // the system's: neither's
		{[]int{0, 1, 2, 3}, 3, []int{2}, []int{1, 3}},
		{[]int{5}, 5, []int{5}, []int{5}},
	} {
		plan, err := planCPUs(c.allowed)
		if err != nil {
			t.Fatal(err)
		}
		got := plan.favourContender(c.interrupted)
		if !reflect.DeepEqual(got.Generator, c.generator) || !reflect.DeepEqual(got.Contender, c.contender) {
			t.Errorf("CPUs %v, interrupts on %d: generator %v, contender %v; want %v and %v",
				c.allowed, c.interrupted, got.Generator, got.Contender, c.generator, c.contender)
		}
	}
}

func TestInterruptCPU(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	irqs := fstest.MapFS{
		"35/virtio1-config/x":        file(""),
		"35/effective_affinity_list": file("0\n"),
		"36/virtio1-req.0/x":         file(""),
		"36/effective_affinity_list": file("1\n"),
		"40/virtio2-req.0/x":         file(""),
		"40/effective_affinity_list": file("0\n"),
		"41/virtio2-req.1/x":         file(""),
		"41/effective_affinity_list": file("1\n"),
		"50/virtio3-req.0/x":         file(""),
		"50/effective_affinity_list": file("0-3\n"),
	}
	for prefix, want := range map[string]int{"virtio1-req": 1, "virtio2-req": -1, "virtio3-req": -1, "virtio9-req": -1} {
		if got := interruptCPU(irqs, prefix); got != want {
			t.Errorf("%s: CPU %d, want %d", prefix, got, want)
		}
	}
}
