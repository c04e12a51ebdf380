package seglog

import (
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/nexuscore-labs/nexus/uring"
	"golang.org/x/sys/unix"
)

// Completions of the two linked requests.
const (
	dataWrite = 1
	dataSync  = 2
)

// ringCommitter commits over an io_uring of its own with registered buffers
// and a registered file.
type ringCommitter struct {
	ring    *uring.Ring
	buffers [][]byte
	linked  bool
	file    File // in slot 0
	wrote   int32
	synced  int32
	onCQE   func(*uring.CQE)
}

func newRingCommitter(count, size int, linked bool) (*ringCommitter, error) {
	ring, err := uring.New(uring.Options{Entries: 8, SingleIssuer: true, RegisterRing: true})
	if err != nil {
		return nil, fmt.Errorf("seglog: %w", err)
	}
	c := &ringCommitter{ring: ring, linked: linked}
	c.onCQE = c.complete
	if c.buffers, err = mapBuffers(count, size); err == nil {
		err = ring.RegisterBuffers(c.buffers...)
	}
	if err == nil {
		err = ring.RegisterFilesSparse(1)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("seglog: %w", err), ring.Close(), unmapBuffers(c.buffers))
	}
	return c, nil
}

func (c *ringCommitter) Buffer(i int) []byte { return c.buffers[i] }

func (c *ringCommitter) Commit(f File, i, n int, offset int64) error {
	if f != c.file {
		fd, ok := Descriptor(f)
		if !ok {
			return fmt.Errorf("seglog: %T has no descriptor", f)
		}
		if err := c.ring.UpdateFiles(0, []int32{int32(fd)}); err != nil {
			return err
		}
		c.file = f
	}
	for done := 0; done < n; {
		if err := c.pair(c.buffers[i][done:n], uint64(offset)+uint64(done), i); err != nil {
			return err
		}
		if c.wrote <= 0 {
			return io.ErrShortWrite
		}
		done += int(c.wrote)
		if done == n && c.synced < 0 {
			return fmt.Errorf("fdatasync: %w", syscall.Errno(-c.synced))
		}
		// After a short write the kernel cancelled the linked sync; the next
		// pair writes the rest and syncs all of it.
	}
	return nil
}

// pair submits a write and the sync linked to it and waits for both.
func (c *ringCommitter) pair(p []byte, offset uint64, buffer int) error {
	write := c.ring.SQE().WriteFixed(0, p, offset, buffer).Data(dataWrite)
	want := 1
	if !c.linked {
		write.With(uring.FixedFile).RWFlags(unix.RWF_DSYNC)
		c.synced = 0
	} else {
		write.With(uring.FixedFile | uring.Link)
		c.ring.SQE().Fdatasync(0).With(uring.FixedFile).Data(dataSync)
		want = 2
	}
	for want > 0 {
		if _, err := c.ring.SubmitAndWait(want, 0); err != nil {
			return fmt.Errorf("commit: %w", err)
		}
		want -= c.ring.ForEach(c.onCQE)
	}
	if c.wrote < 0 {
		return fmt.Errorf("write %d bytes at %d: %w", len(p), offset, syscall.Errno(-c.wrote))
	}
	return nil
}

func (c *ringCommitter) complete(q *uring.CQE) {
	if q.UserData == dataWrite {
		c.wrote = q.Res
	} else {
		c.synced = q.Res
	}
}

func (c *ringCommitter) Close() error {
	_ = c.ring.UpdateFiles(0, []int32{-1}) // a ring ends in its own time, the file should not have to wait
	return errors.Join(c.ring.Close(), unmapBuffers(c.buffers))
}
