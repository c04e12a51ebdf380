package convoy

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// words is the memory that both of a pair see, whether or not they share the
// rest of their address space.
type words struct {
	turn uint32 // whose it is: 0 or 1
	stop uint32
	byte [8]byte // what pipes carry
}

// baton is what a pair hands over.
type baton struct {
	method SwitchMethod
	page   []byte
	words  *words
	pipes  [2][2]int // by reader: [0] to read from, [1] to write to
}

func newBaton(method SwitchMethod) (*baton, error) {
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("map the memory of a pair: %w", err)
	}
	b := &baton{method: method, page: page, words: (*words)(unsafe.Pointer(unsafe.SliceData(page)))}
	for i := range b.pipes {
		if err := unix.Pipe2(b.pipes[i][:], unix.O_CLOEXEC); err != nil {
			return nil, errors.Join(fmt.Errorf("make the pipes of a pair: %w", err), b.close())
		}
	}
	// Task 0 reads first and finds this.
	if err := write(b.pipes[0][1], page[:1]); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

// stop asks a pair of threads to end. Processes are killed.
func (b *baton) stop() { atomic.StoreUint32(&b.words.stop, 1) }

func (b *baton) close() error {
	errs := []error{unix.Munmap(b.page)}
	for _, p := range b.pipes {
		if p[1] != 0 {
			errs = append(errs, unix.Close(p[0]), unix.Close(p[1]))
		}
	}
	return errors.Join(errs...)
}

// futexWait and futexWake are FUTEX_WAIT and FUTEX_WAKE of linux/futex.h, not
// private, because the pair may be two processes.
const (
	futexWait = 0
	futexWake = 1
)

// pass hands the CPU to the other of the pair again and again until told to
// stop. It runs in forked children, where the Go runtime is not: it must not
// grow the stack, allocate, or make any but raw system calls.
//
//go:nosplit
//go:norace
func pass(method SwitchMethod, w *words, mine, other [2]int, me uint32) {
	switch method {
	case YieldFIFO, YieldFair:
		for atomic.LoadUint32(&w.stop) == 0 {
			syscall.RawSyscall(syscall.SYS_SCHED_YIELD, 0, 0, 0)
		}
	case Futex:
		passFutex(w, me)
	case Pipe:
		passPipe(w, mine, other)
	}
}

//go:nosplit
//go:norace
func passFutex(w *words, me uint32) {
	turn := uintptr(unsafe.Pointer(&w.turn)) // mapped memory: it does not move
	for {
		for atomic.LoadUint32(&w.turn) != me {
			syscall.RawSyscall6(syscall.SYS_FUTEX, turn, futexWait, uintptr(1-me), 0, 0, 0)
		}
		stop := atomic.LoadUint32(&w.stop)
		atomic.StoreUint32(&w.turn, 1-me)
		syscall.RawSyscall6(syscall.SYS_FUTEX, turn, futexWake, 1, 0, 0, 0)
		if stop != 0 {
			return
		}
	}
}

//go:nosplit
//go:norace
func passPipe(w *words, mine, other [2]int) {
	buf := uintptr(unsafe.Pointer(&w.byte)) // mapped memory: it does not move
	for {
		n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(mine[0]), buf, 1)
		if errno == syscall.EINTR {
			continue
		}
		if errno != 0 || n != 1 {
			return
		}
		stop := atomic.LoadUint32(&w.stop)
		syscall.RawSyscall(syscall.SYS_WRITE, uintptr(other[1]), buf, 1)
		if stop != 0 {
			return
		}
	}
}

// fork makes a process that passes the baton until it is killed. The calling
// goroutine must be locked to its thread, and the child dies with that thread.
func fork(b *baton, me uint32) (int, error) {
	var all, old unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	// The child must not run the Go runtime's signal handlers.
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &old); err != nil {
		return 0, fmt.Errorf("block the signals before a fork: %w", err)
	}
	pid, errno := forkInto(b.method, b.words, b.pipes[me], b.pipes[1-me], me, uintptr(os.Getpid()))
	err := unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)
	if errno != 0 {
		return 0, errors.Join(fmt.Errorf("fork: %w", errno), err)
	}
	return pid, err
}

// forkInto is like the child's side of os/exec, without the exec.
//
//go:nosplit
//go:norace
//go:noinline
func forkInto(method SwitchMethod, w *words, mine, other [2]int, me uint32, parent uintptr) (int, syscall.Errno) {
	pid, _, errno := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 || pid != 0 {
		return int(pid), errno
	}
	syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0)
	if now, _, _ := syscall.RawSyscall(syscall.SYS_GETPPID, 0, 0, 0); now == parent {
		pass(method, w, mine, other, me)
	}
	for {
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
	}
}
