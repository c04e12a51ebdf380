package ringserver

import (
	"fmt"
	"io"
	"syscall"

	"github.com/nexuscore-labs/nexus/frame"
	"github.com/nexuscore-labs/nexus/systems/seglog"
	"github.com/nexuscore-labs/nexus/uring"
	"golang.org/x/sys/unix"
)

// commit is the batch being made durable.
type commit struct {
	seglog.Commit
	done   int // bytes written
	wrote  int32
	synced int32
	out    int // completions to come
}

// startCommit writes and syncs the open batch if none is under way.
func (s *server) startCommit() {
	k, ok := s.e.Cut()
	if !ok {
		return
	}
	s.commit = commit{Commit: k}
	if k.File != s.file {
		fd, ok := seglog.Descriptor(k.File)
		if !ok {
			s.finish(fmt.Errorf("%T has no descriptor", k.File))
			return
		}
		if err := s.ring.UpdateFiles(0, []int32{int32(fd)}); err != nil {
			s.finish(err)
			return
		}
		s.file = k.File
	}
	s.submitCommit()
}

// submitCommit submits the write of what is left and the sync linked to it.
func (s *server) submitCommit() {
	k := &s.commit
	if err := s.ring.Reserve(2); err != nil {
		s.finish(err)
		return
	}
	p := s.staging[k.Buffer][k.done:k.Bytes]
	write := s.ring.SQE().WriteFixed(0, p, uint64(k.Offset)+uint64(k.done), k.Buffer).Data(tag(opWrite, 0))
	if !s.o.Disk.Linked {
		write.With(uring.FixedFile).RWFlags(unix.RWF_DSYNC)
		k.out, k.synced = 1, 0
		return
	}
	write.With(uring.FixedFile | uring.Link)
	s.ring.SQE().Fdatasync(0).With(uring.FixedFile).Data(tag(opSync, 0))
	k.out = 2
}

func (s *server) committed(op int, res int32) {
	k := &s.commit
	if op == opWrite {
		k.wrote = res
	} else {
		k.synced = res
	}
	k.out--
	if k.out > 0 {
		return
	}
	switch {
	case k.wrote < 0:
		s.finish(fmt.Errorf("write %d bytes at %d: %w", k.Bytes-k.done, k.Offset+int64(k.done), syscall.Errno(-k.wrote)))
	case k.wrote == 0:
		s.finish(io.ErrShortWrite)
	case k.done+int(k.wrote) < k.Bytes: // the link was broken: go on with the rest
		k.done += int(k.wrote)
		s.submitCommit()
	case k.synced < 0:
		s.finish(fmt.Errorf("fdatasync: %w", syscall.Errno(-k.synced)))
	default:
		s.finish(nil)
	}
}

// finish answers the batch's records and goes on with what waited for room.
func (s *server) finish(err error) {
	buffer := s.commit.Buffer
	out := s.e.Finish(err)
	s.answer(buffer, out.Err)
	if out.OpenFailed {
		s.answer(1-buffer, out.Err)
	}
	s.startCommit() // before the answers: the disk should not wait for them
	s.resume()
}

func (s *server) answer(buffer int, err error) {
	status := statusOf(err)
	for i, p := range s.pending[buffer] {
		if status == frame.StatusOK {
			s.acknowledge(p)
		} else {
			s.refuse(p.to, frame.Frame{Kind: frame.KindAppend, ID: p.id, Tenant: p.tenant}, status)
		}
		s.pending[buffer][i].to = nil
	}
	s.pending[buffer] = s.pending[buffer][:0]
}

// background starts the preparation of the next segment if one is due.
func (s *server) background() {
	p := s.e.Prepare()
	if p == nil {
		return
	}
	s.jobs.Go(func() {
		p.Run()
		s.post(func() {
			s.e.Prepared(p)
			s.resume()
		})
	})
}

// retire removes old segments if it is time to.
func (s *server) retire() {
	if s.counts.retiring {
		return
	}
	r := s.e.Retire()
	if r == nil {
		return
	}
	s.counts.retiring = true
	s.jobs.Go(func() {
		err := r.Run()
		s.post(func() {
			s.counts.retiring = false
			if err != nil {
				s.counts.retireErrors++
				return
			}
			s.e.Retired(r)
			s.jobs.Go(func() {
				if err := r.Remove(); err != nil {
					s.post(func() { s.counts.retireErrors++ })
				}
			})
		})
	})
}
