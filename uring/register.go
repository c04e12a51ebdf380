package uring

import (
	"fmt"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"github.com/pawelgaczynski/giouring"
	"golang.org/x/sys/unix"
)

// register is io_uring_register(2) on this ring.
func (r *Ring) register(opcode uint32, arg unsafe.Pointer, n uint32) (uint, error) {
	for {
		got, _, errno := syscall.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(r.fd), uintptr(opcode), uintptr(arg), uintptr(n), 0, 0)
		if errno == 0 {
			return uint(got), nil
		}
		if errno != unix.EINTR {
			return 0, errno
		}
	}
}

// RegisterFilesSparse creates a table of n empty slots (kernel 5.19; an older
// one gets a table of -1). n is bounded by RLIMIT_NOFILE.
func (r *Ring) RegisterFilesSparse(n int) error {
	if n <= 0 || n > 1<<20 {
		return fmt.Errorf("uring: a table of %d files: want 1 to %d", n, 1<<20)
	}
	reg := &giouring.RsrcRegister{Nr: uint32(n), Flags: giouring.RsrcRegisterSparse}
	_, err := r.register(giouring.RegisterFiles2, unsafe.Pointer(reg), uint32(unsafe.Sizeof(*reg)))
	runtime.KeepAlive(reg)
	if err == unix.EINVAL {
		empty := make([]int32, n)
		for i := range empty {
			empty[i] = -1
		}
		return r.RegisterFiles(empty)
	}
	if err != nil {
		return fmt.Errorf("uring: register a table of %d files: %w", n, err)
	}
	return nil
}

// RegisterFiles creates a table of these descriptors; -1 leaves a slot empty.
func (r *Ring) RegisterFiles(fds []int32) error {
	if len(fds) == 0 {
		return fmt.Errorf("uring: register an empty table of files: %w", unix.EINVAL)
	}
	_, err := r.register(giouring.RegisterFiles, unsafe.Pointer(&fds[0]), uint32(len(fds)))
	runtime.KeepAlive(fds)
	if err != nil {
		return fmt.Errorf("uring: register %d files: %w", len(fds), err)
	}
	return nil
}

// UpdateFiles replaces slots from offset on; -1 empties one. The table keeps
// its own reference, so the descriptors may be closed after.
func (r *Ring) UpdateFiles(offset int, fds []int32) error {
	if len(fds) == 0 {
		return nil
	}
	update := &giouring.FilesUpdate{Offset: uint32(offset), Fds: uint64(address(unsafe.Pointer(&fds[0])))}
	done, err := r.register(giouring.RegisterFilesUpdate, unsafe.Pointer(update), uint32(len(fds)))
	runtime.KeepAlive(update)
	runtime.KeepAlive(fds)
	if err != nil {
		return fmt.Errorf("uring: update registered files from %d: %w", offset, err)
	}
	if int(done) != len(fds) {
		return fmt.Errorf("uring: update registered files from %d: %d of %d", offset, done, len(fds))
	}
	return nil
}

// RegisterBuffers pins the buffers for ReadFixed and WriteFixed by index. They
// must stay reachable until the ring is closed. Their memory counts against
// RLIMIT_MEMLOCK without CAP_IPC_LOCK.
func (r *Ring) RegisterBuffers(buffers ...[]byte) error {
	iov := make([]unix.Iovec, len(buffers))
	for i, b := range buffers {
		if len(b) == 0 {
			return fmt.Errorf("uring: registered buffer %d is empty", i)
		}
		iov[i].Base = &b[0]
		iov[i].SetLen(len(b))
	}
	if len(iov) == 0 {
		return fmt.Errorf("uring: register no buffers: %w", unix.EINVAL)
	}
	_, err := r.register(giouring.RegisterBuffers, unsafe.Pointer(&iov[0]), uint32(len(iov)))
	runtime.KeepAlive(iov)
	if err != nil {
		return fmt.Errorf("uring: register %d buffers: %w", len(iov), err)
	}
	return nil
}

// registerSelf puts the ring into this thread's ring table (kernel 5.18).
func (r *Ring) registerSelf() {
	update := &giouring.RsrcUpdate{Data: uint64(r.fd), Offset: ^uint32(0)}
	done, err := r.register(giouring.RegisterRingFDs, unsafe.Pointer(update), 1)
	if err != nil || done != 1 {
		return
	}
	r.enterFd = uintptr(update.Offset)
	r.enterFlg |= giouring.EnterRegisteredRing
}

// unregisterSelf gives the slot back: its reference would keep the ring alive
// for as long as the thread lives. giouring's own function never does it.
func (r *Ring) unregisterSelf() {
	if r.enterFlg&giouring.EnterRegisteredRing == 0 {
		return
	}
	update := &giouring.RsrcUpdate{Offset: uint32(r.enterFd)}
	_, _ = r.register(giouring.UnregisterRingFDs, unsafe.Pointer(update), 1)
	runtime.KeepAlive(update)
	r.enterFd, r.enterFlg = uintptr(r.fd), r.enterFlg&^giouring.EnterRegisteredRing
}

func unix2syscall(d time.Duration) syscall.Timespec { return syscall.NsecToTimespec(int64(d)) }
