package uring

import (
	"time"
	"unsafe"

	"github.com/pawelgaczynski/giouring"
	"golang.org/x/sys/unix"
)

// SQE is one submission entry. Each prepare method sets the operation and
// returns the entry, so that flags and user data follow it:
//
//	ring.SQE().Write(fd, p, off).With(uring.Link).Data(7)
//
// Memory given to a prepare method must stay reachable and unchanged until the
// completion (timespecs and addresses: until it was submitted). It is forced
// to the heap, which Go's collector doesn't move.
type SQE giouring.SubmissionQueueEntry

// Flag is a set of IOSQE_ flags, see io_uring_enter(2).
type Flag uint8

const (
	FixedFile      = Flag(giouring.SqeFixedFile)  // the descriptor is an index of the registered files
	Drain          = Flag(giouring.SqeIODrain)    // start after all earlier ones
	Link           = Flag(giouring.SqeIOLink)     // the next starts when this succeeded
	HardLink       = Flag(giouring.SqeIOHardlink) // the next starts when this ended
	Async          = Flag(giouring.SqeAsync)      // go to a worker thread at once
	BufferSelect   = Flag(giouring.SqeBufferSelect)
	SkipOnSuccess  = Flag(giouring.SqeCQESkipSuccess) // no completion unless it fails
	recvPollFirst  = giouring.RecvsendPollFirst
	recvMultishot  = giouring.RecvMultishot
	recvBundle     = 1 << 4 // IORING_RECVSEND_BUNDLE, kernel 6.10
	fileIndexAlloc = giouring.FileIndexAlloc
)

func (s *SQE) g() *giouring.SubmissionQueueEntry { return (*giouring.SubmissionQueueEntry)(s) }

// escape is never set. The compiler can't know, so what is passed to it lives
// on the heap.
var escape func(unsafe.Pointer)

// address makes the memory behind p escape to the heap: a goroutine's stack
// moves when it grows, and the kernel would write to where it was.
func address(p unsafe.Pointer) uintptr {
	if escape != nil {
		escape(p)
	}
	return uintptr(p)
}

func bytesAddress(p []byte) uintptr { return address(unsafe.Pointer(unsafe.SliceData(p))) }

// With adds flags.
func (s *SQE) With(f Flag) *SQE { s.Flags |= uint8(f); return s }

// Data sets the user data that the completion brings back.
func (s *SQE) Data(userData uint64) *SQE { s.UserData = userData; return s }

// PollFirst makes a receive or send wait for readiness before its first try,
// which spares a try that is known to fail.
func (s *SQE) PollFirst() *SQE { s.IoPrio |= recvPollFirst; return s }

// Bundle lets one completion cover several provided buffers (kernel 6.10).
func (s *SQE) Bundle() *SQE { s.IoPrio |= recvBundle; return s }

// Nop does nothing but complete.
func (s *SQE) Nop() *SQE { s.g().PrepareNop(); return s }

// Read reads into p at the offset; offset ^uint64(0) means the file position.
func (s *SQE) Read(fd int, p []byte, offset uint64) *SQE {
	s.g().PrepareRead(fd, bytesAddress(p), uint32(len(p)), offset)
	return s
}

// ReadFixed is Read into a part of the registered buffer with that index.
func (s *SQE) ReadFixed(fd int, p []byte, offset uint64, index int) *SQE {
	s.g().PrepareReadFixed(fd, bytesAddress(p), uint32(len(p)), offset, index)
	return s
}

// Readv reads into the vectors, which must stay reachable like their memory.
func (s *SQE) Readv(fd int, iov []unix.Iovec, offset uint64) *SQE {
	s.g().PrepareReadv(fd, address(unsafe.Pointer(unsafe.SliceData(iov))), uint32(len(iov)), offset)
	return s
}

// Write writes p at the offset. Like pwrite(2) it may write less.
func (s *SQE) Write(fd int, p []byte, offset uint64) *SQE {
	s.g().PrepareWrite(fd, bytesAddress(p), uint32(len(p)), offset)
	return s
}

// WriteFixed is Write from a part of the registered buffer with that index.
func (s *SQE) WriteFixed(fd int, p []byte, offset uint64, index int) *SQE {
	s.g().PrepareWriteFixed(fd, bytesAddress(p), uint32(len(p)), offset, index)
	return s
}

// Writev writes the vectors, which must stay reachable like their memory.
func (s *SQE) Writev(fd int, iov []unix.Iovec, offset uint64) *SQE {
	s.g().PrepareWritev(fd, address(unsafe.Pointer(unsafe.SliceData(iov))), uint32(len(iov)), offset)
	return s
}

// RWFlags sets RWF_ flags of a read or write, such as unix.RWF_DSYNC.
func (s *SQE) RWFlags(flags uint32) *SQE { s.OpcodeFlags = flags; return s }

// Fsync is fsync(2). Alone it isn't ordered after earlier writes: link them.
func (s *SQE) Fsync(fd int) *SQE { s.g().PrepareFsync(fd, 0); return s }

// Fdatasync is fdatasync(2).
func (s *SQE) Fdatasync(fd int) *SQE { s.g().PrepareFsync(fd, giouring.FsyncDatasync); return s }

// Fallocate is fallocate(2).
func (s *SQE) Fallocate(fd int, mode int, offset, length uint64) *SQE {
	s.g().PrepareFallocate(fd, mode, offset, length)
	return s
}

// Accept accepts one connection; the completion's result is its descriptor.
func (s *SQE) Accept(fd int) *SQE {
	s.g().PrepareAccept(fd, 0, 0, unix.SOCK_CLOEXEC)
	return s
}

// AcceptMultishot accepts until it fails or is cancelled.
func (s *SQE) AcceptMultishot(fd int) *SQE {
	s.g().PrepareMultishotAccept(fd, 0, 0, unix.SOCK_CLOEXEC)
	return s
}

// Connect is connect(2); the address must stay until it was submitted.
func (s *SQE) Connect(fd int, to *Sockaddr) *SQE {
	s.OpCode, s.Fd = giouring.OpConnect, int32(fd)
	s.Addr, s.Off = uint64(address(unsafe.Pointer(&to.raw))), uint64(to.len)
	return s
}

// Recv receives into p.
func (s *SQE) Recv(fd int, p []byte) *SQE {
	s.g().PrepareRecv(fd, bytesAddress(p), uint32(len(p)), 0)
	return s
}

// RecvSelect receives once into a buffer of the provided group.
func (s *SQE) RecvSelect(fd int, group uint16) *SQE {
	s.g().PrepareRecv(fd, 0, 0, 0)
	s.BufIG = group
	return s.With(BufferSelect)
}

// RecvMultishot receives into buffers of the group until the connection ends,
// the group is empty (ENOBUFS) or it is cancelled: see CQEMore.
func (s *SQE) RecvMultishot(fd int, group uint16) *SQE {
	s.RecvSelect(fd, group)
	s.IoPrio |= recvMultishot
	return s
}

// Send is send(2); flags are MSG_ flags. With MSG_WAITALL a short send is
// continued by the kernel.
func (s *SQE) Send(fd int, p []byte, flags int) *SQE {
	s.g().PrepareSend(fd, bytesAddress(p), uint32(len(p)), flags)
	return s
}

// SendMsg is sendmsg(2). The header and all it points to stay until completion.
func (s *SQE) SendMsg(fd int, msg *unix.Msghdr, flags int) *SQE {
	s.OpCode, s.Fd, s.Len = giouring.OpSendmsg, int32(fd), 1
	s.Addr, s.OpcodeFlags = uint64(address(unsafe.Pointer(msg))), uint32(flags)
	return s
}

// RecvMsg is recvmsg(2). The header and all it points to stay until completion.
func (s *SQE) RecvMsg(fd int, msg *unix.Msghdr, flags int) *SQE {
	s.OpCode, s.Fd, s.Len = giouring.OpRecvmsg, int32(fd), 1
	s.Addr, s.OpcodeFlags = uint64(address(unsafe.Pointer(msg))), uint32(flags)
	return s
}

// Timespec converts a duration for Timeout and LinkTimeout.
func Timespec(d time.Duration) unix.Timespec { return unix.NsecToTimespec(int64(d)) }

// Timeout completes with ETIME after ts, or with 0 once count other
// completions were posted (count 0: never). absolute takes ts as a moment on
// CLOCK_MONOTONIC. ts is read when the entry is submitted.
func (s *SQE) Timeout(ts *unix.Timespec, count uint32, absolute bool) *SQE {
	s.OpCode, s.Fd, s.Len = giouring.OpTimeout, -1, 1
	s.Addr, s.Off = uint64(address(unsafe.Pointer(ts))), uint64(count)
	if absolute {
		s.OpcodeFlags = giouring.TimeoutAbs
	}
	return s
}

// LinkTimeout bounds the request before it, which must carry Link and fails
// with ECANCELED when ts passed.
func (s *SQE) LinkTimeout(ts *unix.Timespec) *SQE {
	s.OpCode, s.Fd, s.Len = giouring.OpLinkTimeout, -1, 1
	s.Addr = uint64(address(unsafe.Pointer(ts)))
	return s
}

// Poll completes once with the ready events, a POLL mask as in poll(2).
func (s *SQE) Poll(fd int, events uint32) *SQE { s.g().PreparePollAdd(fd, events); return s }

// Cancel cancels requests by their user data: the first, or all of them.
func (s *SQE) Cancel(userData uint64, all bool) *SQE {
	flags := 0
	if all {
		flags = int(giouring.AsyncCancelAll)
	}
	s.g().PrepareCancel64(userData, flags)
	return s
}

// CancelFd cancels all requests of a descriptor, or of a registered file.
func (s *SQE) CancelFd(fd int, fixed bool) *SQE {
	flags := giouring.AsyncCancelAll
	if fixed {
		flags |= giouring.AsyncCancelFdFixed
	}
	s.g().PrepareCancelFd(fd, flags)
	return s
}

// Close closes a descriptor.
func (s *SQE) Close(fd int) *SQE { s.g().PrepareClose(fd); return s }

// Shutdown is shutdown(2).
func (s *SQE) Shutdown(fd, how int) *SQE { s.g().PrepareShutdown(fd, how); return s }

// MsgRing posts a completion with the result and user data on another ring,
// given by its Fd (kernel 5.18).
func (s *SQE) MsgRing(ringFd int, result int32, userData uint64) *SQE {
	s.g().PrepareMsgRing(ringFd, uint32(result), userData, 0)
	return s
}
