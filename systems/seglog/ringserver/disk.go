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

// commitsMax is how many commits may be out: while one is being made durable,
// the disk takes the next.
const commitsMax = 2

// commit is a batch being made durable.
type commit struct {
	seglog.Commit
	done   int // bytes written
	wrote  int32
	synced int32
	out    int // completions to come
}

// disk is the state of the commits that are out.
type disk struct {
	commits [commitsMax + 1]commit // by staging buffer
	order   []int                  // their buffers, the oldest first
	err     error                  // of any of them: no more is submitted until all have ended
	file    seglog.File            // in the ring's file slot; all that are out go to it
	direct  bool                   // it bypasses the page cache
}

// startCommit writes and syncs the open batch if it is time to.
func (s *server) startCommit() {
	d := &s.disk
	if d.err != nil || len(d.order) > 0 && !s.worthSecond() {
		return
	}
	k, ok := s.e.Cut()
	if !ok {
		return
	}
	if len(d.order) > 0 {
		s.counts.commitsOverlapped++
	}
	d.order = append(d.order, k.Buffer)
	d.commits[k.Buffer] = commit{Commit: k}
	if k.File != d.file {
		if d.err = s.useFile(k.File); d.err != nil {
			return
		}
	}
	s.submitCommit(&d.commits[k.Buffer])
}

// worthSecond says whether the open batch should follow one that is out: when it
// has at least half of that one's records or bytes. Submitting whatever is there
// makes smaller batches of the same load.
func (s *server) worthSecond() bool {
	d := &s.disk
	if !d.direct {
		return false // see seglog.Direct
	}
	before := &d.commits[d.order[len(d.order)-1]]
	records, bytes := s.e.Staged()
	return 2*records >= before.Records || 2*bytes >= before.Bytes
}

// useFile puts a segment into the ring's file slot. No commit is out then: the
// engine never has two segments in flight.
func (s *server) useFile(f seglog.File) error {
	fd, ok := seglog.Descriptor(f)
	if !ok {
		return fmt.Errorf("%T has no descriptor", f)
	}
	if err := s.ring.UpdateFiles(0, []int32{int32(fd)}); err != nil {
		return err
	}
	s.disk.file, s.disk.direct = f, seglog.Direct(f)
	return nil
}

// submitCommit submits the write of what is left and the sync linked to it.
func (s *server) submitCommit(k *commit) {
	if err := s.ring.Reserve(2); err != nil {
		s.disk.err = err
		return
	}
	p := s.staging[k.Buffer][k.done:k.Bytes]
	write := s.ring.SQE().WriteFixed(0, p, uint64(k.Offset)+uint64(k.done), k.Buffer).Data(tag(opWrite, k.Buffer))
	if !s.o.Disk.Linked {
		write.With(uring.FixedFile).RWFlags(unix.RWF_DSYNC)
		k.out, k.synced = 1, 0
		return
	}
	write.With(uring.FixedFile | uring.Link)
	s.ring.SQE().Fdatasync(0).With(uring.FixedFile).Data(tag(opSync, k.Buffer))
	k.out = 2
}

func (s *server) committed(op, buffer int, res int32) {
	k := &s.disk.commits[buffer]
	if op == opWrite {
		k.wrote = res
	} else {
		k.synced = res
	}
	k.out--
	if k.out > 0 {
		return
	}
	if err := k.ended(); err != nil && s.disk.err == nil {
		s.disk.err = err
	}
	if s.disk.err == nil && k.done < k.Bytes { // the link was broken: go on with the rest
		s.submitCommit(k)
	}
	s.finishCommits()
}

// ended takes the results of one submission.
func (k *commit) ended() error {
	switch {
	case k.wrote < 0:
		return fmt.Errorf("write %d bytes at %d: %w", k.Bytes-k.done, k.Offset+int64(k.done), syscall.Errno(-k.wrote))
	case k.wrote == 0:
		return io.ErrShortWrite
	}
	k.done += int(k.wrote)
	if k.done == k.Bytes && k.synced < 0 {
		return fmt.Errorf("fdatasync: %w", syscall.Errno(-k.synced))
	}
	return nil
}

// finishCommits finishes what is durable, in the order of the log. An error
// waits until nothing is out, and then fails all: also an older commit that
// ended well, as a disk that failed the later one may have lost more.
func (s *server) finishCommits() {
	d := &s.disk
	for len(d.order) > 0 {
		if d.err != nil && s.commitsOut() {
			return
		}
		k := &d.commits[d.order[0]]
		if d.err == nil && (k.out > 0 || k.done < k.Bytes) {
			return
		}
		s.finish(k.Buffer)
	}
}

func (s *server) commitsOut() bool {
	for _, buffer := range s.disk.order {
		if s.disk.commits[buffer].out > 0 {
			return true
		}
	}
	return false
}

// finish answers the oldest commit's records and goes on with what waited for room.
func (s *server) finish(buffer int) {
	d := &s.disk
	out := s.e.Finish(d.err)
	d.order = d.order[:copy(d.order, d.order[1:])]
	if d.err != nil {
		d.order, d.err = d.order[:0], nil
	}
	s.answer(buffer, out.Err)
	for _, b := range out.AlsoFailed {
		s.answer(b, out.Err)
	}
	s.startCommit() // before more input: the disk should not wait for it
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
