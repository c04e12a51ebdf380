package ringserver

import (
	"syscall"
	"testing"

	"github.com/nexuscore-labs/nexus/systems/seglog"
	"github.com/nexuscore-labs/nexus/systems/seglog/faultdisk"
)

// ending is the completion of the first or second of two commits that are out.
type ending struct {
	commit int
	errno  syscall.Errno
	flying int // expected afterwards
}

func TestTwoCommitsEndInAnyOrder(t *testing.T) {
	for _, test := range []struct {
		name    string
		endings []ending
		durable uint64
	}{
		{"in order", []ending{{0, 0, 1}, {1, 0, 0}}, 2},
		{"second first", []ending{{1, 0, 2}, {0, 0, 0}}, 2},
		{"first fails, then the second ends", []ending{{0, syscall.EIO, 2}, {1, 0, 0}}, 0},
		{"second ends, then the first fails", []ending{{1, 0, 2}, {0, syscall.EIO, 0}}, 0},
		{"second fails while the first is out", []ending{{1, syscall.EIO, 2}, {0, 0, 0}}, 0},
		{"second fails after the first", []ending{{0, 0, 1}, {1, syscall.EIO, 0}}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, out := twoOut(t)
			for _, e := range test.endings {
				res := int32(out[e.commit].Bytes)
				if e.errno != 0 {
					res = -int32(e.errno)
				}
				s.committed(opWrite, out[e.commit].Buffer, res)
				if got := s.e.Flying(); got != e.flying {
					t.Fatalf("after %+v: %d commits unfinished, want %d", e, got, e.flying)
				}
			}
			if _, last := s.e.Range(1); last != test.durable {
				t.Errorf("%d records durable, want %d", last, test.durable)
			}
			if s.disk.err != nil || len(s.disk.order) != 0 {
				t.Errorf("left behind: error %v, order %v", s.disk.err, s.disk.order)
			}
		})
	}
}

// twoOut is a server's log with two commits of one record each out.
func twoOut(t *testing.T) (*server, []seglog.Commit) {
	t.Helper()
	s := &server{}
	for i := range s.staging {
		s.staging[i] = make([]byte, 32<<10)
	}
	var err error
	o := seglog.Options{SegmentBytes: 64 << 10, BatchBytes: 32 << 10}
	if s.e, err = seglog.OpenEngine(faultdisk.New(faultdisk.Options{}), o, s.staging[:]); err != nil {
		t.Fatal(err)
	}
	s.firstSegment()
	var out []seglog.Commit
	for range commitsMax {
		if _, err := s.e.Stage(1, []byte("record")); err != nil {
			t.Fatal(err)
		}
		k, ok := s.e.Cut()
		if !ok {
			t.Fatal("nothing was cut")
		}
		s.disk.order = append(s.disk.order, k.Buffer)
		s.disk.commits[k.Buffer] = commit{Commit: k, out: 1}
		out = append(out, k)
	}
	return s, out
}
