package uring

import (
	"fmt"
	"reflect"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/pawelgaczynski/giouring"
	"golang.org/x/sys/unix"
)

const (
	enterAbsTimer = 1 << 5 // IORING_ENTER_ABS_TIMER, kernel 6.12 (2b8e976b9842)

	featExtArg     = giouring.FeatExtArg
	featMinTimeout = 1 << 15 // IORING_FEAT_MIN_TIMEOUT, kernel 6.12
)

// submission is this side of the shared submission queue.
type submission struct {
	head, tail, flags *uint32
	entries           unsafe.Pointer
	mask              uint32
	local             uint32 // tail not yet published
}

// completion is this side of the shared completion queue.
type completion struct {
	head, tail, overflow *uint32
	entries              unsafe.Pointer
	mask                 uint32
}

// waitArg mirrors struct io_uring_getevents_arg. It and the timespec it points
// to live in the ring, since the kernel reads them by address.
type waitArg struct {
	sigmask   uint64
	sigmaskSz uint32
	minWaitUs uint32
	ts        uint64
	timespec  unix.Timespec
}

// waitArgLen is the part of waitArg that the kernel knows.
const waitArgLen = 24

// bind takes the ring's shared pointers out of giouring's unexported fields, by
// name, so that a changed giouring is noticed here and not as corruption.
func (r *Ring) bind() error {
	ring := reflect.ValueOf(r.ring).Elem()
	sq, cq := ring.FieldByName("sqRing"), ring.FieldByName("cqRing")
	if !sq.IsValid() || !cq.IsValid() {
		return fmt.Errorf("uring: this giouring has no sqRing and cqRing")
	}
	pointer := func(queue reflect.Value, name string) unsafe.Pointer {
		field := queue.Elem().FieldByName(name)
		if !field.IsValid() || field.Kind() != reflect.Pointer {
			return nil
		}
		return field.UnsafePointer()
	}
	r.sq = submission{
		head:    (*uint32)(pointer(sq, "head")),
		tail:    (*uint32)(pointer(sq, "tail")),
		flags:   (*uint32)(pointer(sq, "flags")),
		entries: pointer(sq, "sqes"),
	}
	r.cq = completion{
		head:     (*uint32)(pointer(cq, "head")),
		tail:     (*uint32)(pointer(cq, "tail")),
		overflow: (*uint32)(pointer(cq, "overflow")),
		entries:  pointer(cq, "cqes"),
	}
	sqMask, cqMask := (*uint32)(pointer(sq, "ringMask")), (*uint32)(pointer(cq, "ringMask"))
	for _, p := range []unsafe.Pointer{
		unsafe.Pointer(r.sq.head), unsafe.Pointer(r.sq.tail), unsafe.Pointer(r.sq.flags), r.sq.entries,
		unsafe.Pointer(r.cq.head), unsafe.Pointer(r.cq.tail), unsafe.Pointer(r.cq.overflow), r.cq.entries,
		unsafe.Pointer(sqMask), unsafe.Pointer(cqMask),
	} {
		if p == nil {
			return fmt.Errorf("uring: this giouring keeps its queue pointers elsewhere")
		}
	}
	r.sq.mask, r.cq.mask = *sqMask, *cqMask
	r.sq.local = atomic.LoadUint32(r.sq.tail)
	return nil
}

// Room returns how many entries SQE gives before the queue is full.
func (r *Ring) Room() int {
	return int(r.sq.mask + 1 - (r.sq.local - atomic.LoadUint32(r.sq.head)))
}

// Pending returns how many entries were taken and not yet submitted.
func (r *Ring) Pending() int { return int(r.sq.local - atomic.LoadUint32(r.sq.head)) }

// SQE takes the next submission entry, zeroed. When the queue is full it
// submits first; nil means that the kernel took nothing (completions must be
// read before more is submitted). Requests linked to each other need Reserve.
func (r *Ring) SQE() *SQE {
	if r.Room() == 0 {
		if _, err := r.Submit(); err != nil || r.Room() == 0 {
			return nil
		}
	}
	s := (*SQE)(unsafe.Add(r.sq.entries, uintptr(r.sq.local&r.sq.mask)*unsafe.Sizeof(SQE{})))
	// giouring's prepare functions leave the last 16 bytes as they were, which
	// newer kernels read as attributes of a read or write.
	*s = SQE{}
	r.sq.local++
	return s
}

// Reserve makes room for n entries that must be submitted together, such as a
// linked chain: a submission between them would cut the chain.
func (r *Ring) Reserve(n int) error {
	if n > r.Entries() {
		return fmt.Errorf("uring: %d linked requests exceed the queue of %d", n, r.Entries())
	}
	if r.Room() >= n {
		return nil
	}
	if _, err := r.Submit(); err != nil {
		return err
	}
	if r.Room() < n {
		return ErrFull
	}
	return nil
}

// Submit hands all taken entries to the kernel, runs pending completion work
// and doesn't wait. It returns how many entries the kernel consumed.
func (r *Ring) Submit() (int, error) {
	n := r.publish()
	for {
		// Nothing here can block, so the Go scheduler needn't hear of it: a raw
		// call saves handing the processor over and back.
		got, _, errno := syscall.RawSyscall6(unix.SYS_IO_URING_ENTER, r.enterFd, uintptr(n), 0,
			uintptr(giouring.EnterGetEvents|r.enterFlg), 0, 0)
		if errno == 0 {
			return int(got), nil
		}
		if errno != unix.EINTR {
			return 0, enterError(errno)
		}
	}
}

// SubmitAndWait submits and waits until at least n completions can be read or
// the timeout passed (0: wait without limit). The timeout is not an error, and
// neither is a signal: the caller looks at what ForEach finds.
func (r *Ring) SubmitAndWait(n int, timeout time.Duration) (int, error) {
	if timeout <= 0 {
		return r.wait(n, nil, 0)
	}
	ts := unix.NsecToTimespec(int64(timeout))
	return r.wait(n, &ts, 0)
}

// SubmitAndWaitUntil is SubmitAndWait with a deadline on CLOCK_MONOTONIC in ns.
func (r *Ring) SubmitAndWaitUntil(n int, deadlineNs int64) (int, error) {
	if r.absTimer {
		ts := unix.NsecToTimespec(max(deadlineNs, 1))
		return r.wait(n, &ts, enterAbsTimer)
	}
	left := deadlineNs - Now()
	if left <= 0 {
		return r.Submit()
	}
	return r.SubmitAndWait(n, time.Duration(left))
}

func (r *Ring) wait(n int, ts *unix.Timespec, flags uint32) (int, error) {
	submit := r.publish()
	flags |= giouring.EnterGetEvents | r.enterFlg
	var arg unsafe.Pointer
	var argLen uintptr
	if ts != nil {
		r.extra.timespec = *ts
		r.extra.ts = uint64(uintptr(unsafe.Pointer(&r.extra.timespec)))
		arg, argLen = unsafe.Pointer(r.extra), waitArgLen
		flags |= giouring.EnterExtArg
	}
	got, _, errno := syscall.Syscall6(unix.SYS_IO_URING_ENTER, r.enterFd, uintptr(submit), uintptr(n),
		uintptr(flags), uintptr(arg), argLen)
	runtime.KeepAlive(r)
	if errno == 0 || errno == unix.ETIME || errno == unix.EINTR {
		return int(got), nil
	}
	return 0, enterError(errno)
}

// enterError keeps EBUSY and EAGAIN recognisable: completions have to be read,
// or memory is short, and a later attempt may succeed.
func enterError(errno syscall.Errno) error { return fmt.Errorf("io_uring_enter: %w", errno) }

// publish makes the taken entries visible and returns how many are waiting.
func (r *Ring) publish() uint32 {
	atomic.StoreUint32(r.sq.tail, r.sq.local)
	return r.sq.local - atomic.LoadUint32(r.sq.head)
}

// Ready returns how many completions can be read without entering the kernel.
func (r *Ring) Ready() int { return int(atomic.LoadUint32(r.cq.tail) - *r.cq.head) }

// Overflowed says that completions wait in the kernel because the completion
// queue was full; the next Submit or wait brings them.
func (r *Ring) Overflowed() bool { return atomic.LoadUint32(r.sq.flags)&giouring.SQCQOverflow != 0 }

// TaskrunPending says that the kernel has completion work for this thread.
func (r *Ring) TaskrunPending() bool {
	return atomic.LoadUint32(r.sq.flags)&(giouring.SQTaskrun|giouring.SQCQOverflow) != 0
}

// ForEach calls f for each completion that is there and gives each back to the
// kernel after f returns. f may take submission entries and submit. It returns how many
// there were. Passing a method value or closure made once keeps it free of
// allocation.
func (r *Ring) ForEach(f func(*CQE)) int {
	head := *r.cq.head
	first := head
	tail := atomic.LoadUint32(r.cq.tail)
	for head != tail {
		entry := (*CQE)(unsafe.Add(r.cq.entries, uintptr(head&r.cq.mask)*unsafe.Sizeof(CQE{})))
		f(entry)
		head++
		atomic.StoreUint32(r.cq.head, head)
	}
	return int(head - first)
}

// tryAbsTimer asks the kernel by waiting for a moment long past.
func (r *Ring) tryAbsTimer() bool {
	if r.features&featExtArg == 0 {
		return false
	}
	ts := unix.Timespec{Nsec: 1}
	_, err := r.wait(1, &ts, enterAbsTimer)
	return err == nil
}
