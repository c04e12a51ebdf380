package uring

import "testing"

func TestProbe(t *testing.T) {
	s, err := Probe()
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range []string{"nop", "read", "write", "fsync", "send", "recv", "accept", "connect"} {
		if !s.Ops[op] {
			t.Errorf("operation %s is unknown to this kernel", op)
		}
	}
	if len(s.Features) != len(trials) {
		t.Errorf("%d features of %d trials", len(s.Features), len(trials))
	}
	for _, f := range s.Features {
		if f.Detail == "" {
			t.Errorf("%s: no detail", f.Name)
		}
		t.Logf("%-18s %-5v %s", f.Name, f.Supported, f.Detail)
	}
	// A feature that its operation needs cannot work without it.
	if s.Has("multishot_recv") && !s.Ops["recv"] || s.Has("send_zc") && !s.Ops["send_zc"] {
		t.Errorf("features without their operation: %+v", s)
	}
	if s.Has("no such feature") {
		t.Error("an unknown feature is supported")
	}
}
