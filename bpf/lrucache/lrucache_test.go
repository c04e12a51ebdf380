package lrucache

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/bpf/attach"
	"github.com/nexuscore-labs/nexus/bpf/bpftest"
)

// Known values, known counts: whole ones, one that is planted torn, one that is
// not there.
func TestCounts(t *testing.T) {
	if unix.Geteuid() != 0 {
		t.Skip("BPF programs need root")
	}
	c, err := Open(16)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	info, err := c.program.Info()
	if err != nil {
		t.Fatal(err)
	}
	verified, _ := info.VerifiedInstructions()
	bpftest.Record(t, attach.Program{Name: programName, Target: "test packets", Rung: "xdp", VerifiedInstructions: verified})
	torn := bytes.Repeat([]byte("eightbyt"), 40)
	torn[len(torn)-1]++
	for projection, value := range [][]byte{bytes.Repeat([]byte("eightbyt"), 1), bytes.Repeat([]byte("eightbyt"), 384), torn} {
		if err := c.Put(Key{1, uint32(projection)}, 1, value); err != nil {
			t.Fatal(err)
		}
	}
	for projection, repeat := range []int{7, 11, 13, 17} {
		for range repeat { // a signal begins a run of several anew, and counts some twice
			if err := c.Get(Key{1, uint32(projection)}, 1); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got, err := c.Counts(); err != nil || got != (Counts{Answered: 31, Missed: 17, Torn: 13}) {
		t.Errorf("%+v, error %v", got, err)
	}
}
