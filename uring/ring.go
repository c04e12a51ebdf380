// Package uring is a thin, allocation-free wrapper of giouring, and the only
// package of the project that imports it.
//
// giouring sets a ring up, lays out submission entries and tears it down. The
// hot path (publishing submissions, entering the kernel, walking completions)
// and everything giouring gets wrong or lacks (64-bit file tables, timeouts by
// pointer to pointer, 16-bit overflow in buffer rings, kernel flags since 6.6)
// is done here, after io_uring_enter(2) and io_uring_register(2).
//
// A Ring belongs to one goroutine, which must be locked to its OS thread before
// New when Options.SingleIssuer is in effect. Only Waker may be used from
// another goroutine.
package uring

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"github.com/pawelgaczynski/giouring"
	"golang.org/x/sys/unix"
)

// EntriesMax is the kernel's bound of a submission queue (IORING_MAX_ENTRIES).
const EntriesMax = 32768

// Setup flags in the order in which New gives them up, see Ring.Flags.
const (
	flagCQSize       = giouring.SetupCQSize
	flagSubmitAll    = giouring.SetupSubmitAll
	flagCoopTaskrun  = giouring.SetupCoopTaskrun
	flagSingleIssuer = giouring.SetupSingleIssuer
	flagDeferTaskrun = giouring.SetupDeferTaskrun
)

// Options describe a ring.
type Options struct {
	Entries   uint32 // submission queue; a power of two is taken upwards; 0 means 256
	CQEntries uint32 // completion queue; 0 means twice Entries
	// SingleIssuer asks for SINGLE_ISSUER|DEFER_TASKRUN (kernel 6.1), with
	// COOP_TASKRUN (5.19) and then nothing as fallback. The calling goroutine
	// must be locked to its thread and stay the only user of the ring.
	SingleIssuer bool
	// RegisterRing spares the file lookup of each enter. It needs a locked
	// thread too; where the kernel lacks it the ring works without.
	RegisterRing bool
}

// CQE is one completion. It must not be kept after the callback of ForEach.
type CQE = giouring.CompletionQueueEvent

// Completion flags, see io_uring_enter(2).
const (
	CQEBuffer       = giouring.CQEFBuffer // a provided buffer was used, see BufferID
	CQEMore         = giouring.CQEFMore   // the multishot request will post more
	CQESockNonempty = giouring.CQEFSockNonempty
)

// Err returns what a completion failed with, or nil.
func Err(c *CQE) error {
	if c.Res >= 0 {
		return nil
	}
	return unix.Errno(-c.Res)
}

// BufferID returns the provided buffer that a completion with CQEBuffer names.
func BufferID(c *CQE) uint16 { return uint16(c.Flags >> giouring.CQEBufferShift) }

// ErrFull says that the submission queue has no room and that the kernel took
// nothing when it was asked to.
var ErrFull = errors.New("uring: submission queue is full")

// Ring is one io_uring instance.
type Ring struct {
	ring     *giouring.Ring
	sq       submission
	cq       completion
	flags    uint32
	features uint32
	fd       int
	enterFd  uintptr // the ring's descriptor, or its index in the task's ring table
	enterFlg uint32  // added to every enter
	absTimer bool
	extra    *waitArg
	unmap    []func() error
}

// rawParams mirrors struct io_uring_params, whose fields giouring hides. The
// layout is the kernel's ABI.
type rawParams struct {
	sqEntries, cqEntries, flags, sqThreadCPU, sqThreadIdle, features, wqFd uint32
	rest                                                                   [unsafe.Sizeof(giouring.Params{}) - 28]byte
}

// New creates a ring. It gives up setup flags that the kernel doesn't know one
// after the other; Ring.Flags names those in effect.
func New(o Options) (*Ring, error) {
	if o.Entries == 0 {
		o.Entries = 256
	}
	if o.Entries > EntriesMax || o.CQEntries > 2*EntriesMax {
		return nil, fmt.Errorf("uring: %d entries with %d completions exceed the kernel's %d", o.Entries, o.CQEntries, EntriesMax)
	}
	attempts := []uint32{flagSubmitAll | flagCoopTaskrun, flagCoopTaskrun, 0}
	if o.SingleIssuer {
		attempts = append([]uint32{flagSubmitAll | flagSingleIssuer | flagDeferTaskrun, flagSubmitAll | flagSingleIssuer | flagCoopTaskrun}, attempts...)
	}
	var err error
	for _, flags := range attempts {
		var r *Ring
		r, err = setup(o, flags)
		if err == nil {
			return r, nil
		}
		if !errors.Is(err, unix.EINVAL) {
			break
		}
	}
	return nil, fmt.Errorf("uring: set up a ring of %d entries: %w", o.Entries, err)
}

func setup(o Options, flags uint32) (*Ring, error) {
	params := &giouring.Params{}
	raw := (*rawParams)(unsafe.Pointer(params))
	raw.flags = flags
	if o.CQEntries > 0 {
		raw.flags |= flagCQSize
		raw.cqEntries = o.CQEntries
	}
	g := giouring.NewRing()
	if err := g.QueueInitParams(o.Entries, params); err != nil {
		return nil, err
	}
	r := &Ring{ring: g, flags: raw.flags, features: raw.features, fd: g.RingFd(), extra: &waitArg{}}
	r.enterFd = uintptr(r.fd)
	if err := r.bind(); err != nil {
		g.QueueExit()
		return nil, err
	}
	if o.RegisterRing {
		r.registerSelf()
	}
	r.absTimer = r.tryAbsTimer()
	return r, nil
}

// Fd returns the ring's file descriptor, for MsgRing of another ring.
func (r *Ring) Fd() int { return r.fd }

// Flags names the setup flags in effect, lower case as in io_uring_setup(2).
func (r *Ring) Flags() []string {
	var names []string
	for _, f := range []struct {
		bit  uint32
		name string
	}{{flagSingleIssuer, "single_issuer"}, {flagDeferTaskrun, "defer_taskrun"}, {flagCoopTaskrun, "coop_taskrun"}} {
		if r.flags&f.bit != 0 {
			names = append(names, f.name)
		}
	}
	if r.enterFlg&giouring.EnterRegisteredRing != 0 {
		names = append(names, "registered_ring")
	}
	if r.absTimer {
		names = append(names, "abs_timer")
	}
	return names
}

// Entries returns the size of the submission queue.
func (r *Ring) Entries() int { return int(r.sq.mask + 1) }

// Close cancels what is in flight, waits for it (at most a second) so that the
// kernel no longer writes into the caller's buffers, and frees the ring. With
// SingleIssuer it must run on the ring's own thread.
func (r *Ring) Close() error {
	if r.ring == nil {
		return nil
	}
	err := r.cancelAll(time.Second)
	r.unregisterSelf()
	r.ring.QueueExit()
	r.ring = nil
	for _, unmap := range r.unmap {
		err = errors.Join(err, unmap())
	}
	return err
}

// cancelAll is IORING_REGISTER_SYNC_CANCEL (6.0) of every request; older
// kernels cancel when the ring is closed.
func (r *Ring) cancelAll(limit time.Duration) error {
	reg := &giouring.SyncCancelReg{
		Fd:      -1,
		Flags:   giouring.AsyncCancelAny | giouring.AsyncCancelAll,
		Timeout: unix2syscall(limit),
	}
	_, err := r.ring.RegisterSyncCancel(reg)
	if err == nil || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	return fmt.Errorf("uring: cancel what is in flight: %w", err)
}
