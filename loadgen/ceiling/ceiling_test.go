package ceiling

import (
	"testing"
	"time"

	"github.com/nexuscore-labs/nexus/loadgen"
)

// Every point also runs small.
func TestPointsRun(t *testing.T) {
	for _, p := range Points() {
		t.Run(p.String(), func(t *testing.T) {
			c, err := Measure(t.Context(), p, CPUs{-1, -1}, 20*time.Millisecond, 2)
			if err != nil {
				t.Fatal(err)
			}
			if c.Runs == 0 || c.PerCPUSecond <= 0 || c.PerSecond <= 0 {
				t.Errorf("%+v", c)
			}
		})
	}
}

// The source notices a wrong answer.
func TestSourceVerifies(t *testing.T) {
	for _, name := range []string{"frame", "http1", "resp"} {
		s := NewSource(name)
		var op loadgen.Op
		s.Next(3, &op)
		if got := s.Check(3, op.Token, &loadgen.Reply{Body: []byte("no, wrong")}); got != loadgen.Wrong {
			t.Errorf("%s: %v", name, got)
		}
		if got := s.Check(3, op.Token, &loadgen.Reply{Status: 1}); got != loadgen.Refused {
			t.Errorf("%s: %v", name, got)
		}
	}
}
