package uring

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Waker ends a ring's wait from any goroutine: an eventfd that the ring reads.
// Wakes between two arms of the read collapse into one completion.
type Waker struct {
	fd  int
	buf *[8]byte
}

// NewWaker makes a waker that nothing listens to until Arm.
func NewWaker() (*Waker, error) {
	// Not EFD_NONBLOCK: io_uring fails a read of a nonblocking file with EAGAIN
	// instead of waiting for it.
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("uring: create an eventfd: %w", err)
	}
	return &Waker{fd: fd, buf: new([8]byte)}, nil
}

// Arm prepares the read whose completion says that Wake was called. Arm again
// after each completion, before looking at what the waker announced.
func (w *Waker) Arm(s *SQE) *SQE { return s.Read(w.fd, w.buf[:], 0) }

// Wake may be called from any goroutine, at any time before Close.
func (w *Waker) Wake() error {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	if _, err := unix.Write(w.fd, one[:]); err != nil {
		return fmt.Errorf("uring: write the eventfd: %w", err)
	}
	return nil
}

// Close frees the waker; the ring that reads it must be closed first.
func (w *Waker) Close() error { return unix.Close(w.fd) }
