package lockprobe

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A hold keeps a file's locks for exactly as long as a test wants: a write call
// takes the lock, then reads its buffer, and the buffer is a page that
// userfaultfd(2) withholds.
type hold struct {
	uffd  int
	page  []byte
	ended chan error
}

// Of linux/userfaultfd.h: _UFFDIO_API, _UFFDIO_REGISTER, _UFFDIO_COPY.
const (
	uffdAPI          = 0xc018aa3f
	uffdRegister     = 0xc020aa00
	uffdCopy         = 0xc028aa03
	uffdAPIVersion   = 0xaa
	uffdModeMissing  = 1
	uffdEventLen     = 32
	uffdEventOfFault = 0x12
)

func openUffd() (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, fmt.Errorf("userfaultfd: %w", errno)
	}
	return int(fd), nil
}

func ioctl(fd int, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

// holdLocks writes to fd on a new thread, pinned to cpu if that is not negative,
// and returns when the thread holds the locks. then runs on the same thread
// after the write.
func holdLocks(fd, cpu int, then func() error) (*hold, error) {
	uffd, err := openUffd()
	if err != nil {
		return nil, err
	}
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, err
	}
	api := struct{ api, features, ioctls uint64 }{api: uffdAPIVersion}
	if err := ioctl(uffd, uffdAPI, unsafe.Pointer(&api)); err != nil {
		return nil, fmt.Errorf("UFFDIO_API: %w", err)
	}
	register := struct{ start, length, mode, ioctls uint64 }{
		start: uint64(uintptr(unsafe.Pointer(&page[0]))), length: uint64(len(page)), mode: uffdModeMissing}
	if err := ioctl(uffd, uffdRegister, unsafe.Pointer(&register)); err != nil {
		return nil, fmt.Errorf("UFFDIO_REGISTER: %w", err)
	}
	h := &hold{uffd: uffd, page: page, ended: make(chan error, 1)}
	go func() {
		unpin, err := pin(cpu)
		defer unpin()
		if err == nil {
			_, err = unix.Write(fd, page)
		}
		if err == nil && then != nil {
			err = then()
		}
		h.ended <- err
	}()
	var event [uffdEventLen]byte
	if _, err := unix.Read(uffd, event[:]); err != nil || event[0] != uffdEventOfFault {
		return nil, fmt.Errorf("wait for the fault: event %#x: %w", event[0], err)
	}
	return h, nil
}

// release lets the write end and waits for its thread.
func (h *hold) release() error {
	content := bytes.Repeat([]byte{'.'}, len(h.page))
	arg := struct{ dst, src, length, mode, copied uint64 }{
		dst: uint64(uintptr(unsafe.Pointer(&h.page[0]))), src: uint64(uintptr(unsafe.Pointer(&content[0]))),
		length: uint64(len(content))}
	if err := ioctl(h.uffd, uffdCopy, unsafe.Pointer(&arg)); err != nil {
		return fmt.Errorf("UFFDIO_COPY: %w", err)
	}
	runtime.KeepAlive(content)
	return errors.Join(<-h.ended, unix.Munmap(h.page), unix.Close(h.uffd))
}

// pin locks the goroutine to its thread and, unless cpu is negative, the thread
// to the CPU. A thread without a CPU of its own is given back by unpin; the
// other ends with its goroutine.
func pin(cpu int) (unpin func(), err error) {
	runtime.LockOSThread()
	if cpu < 0 {
		return runtime.UnlockOSThread, nil
	}
	var set unix.CPUSet
	set.Set(cpu)
	return func() {}, unix.SchedSetaffinity(0, &set)
}

// blocked runs call on a new thread and returns when that thread is asleep in
// the kernel, in the system call nr.
func blocked(cpu int, nr int, call func() error, ended chan<- error) error {
	tid := make(chan int, 1)
	go func() {
		unpin, err := pin(cpu)
		defer unpin()
		tid <- unix.Gettid()
		if err == nil {
			err = call()
		}
		ended <- err
	}()
	task := fmt.Sprintf("/proc/self/task/%d/", <-tid)
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		// "running" unless the task is off its CPU, proc_pid_syscall(5).
		text, err := os.ReadFile(task + "syscall")
		if err != nil {
			return err
		}
		first, _, _ := strings.Cut(string(text), " ")
		if first == strconv.Itoa(nr) && uninterruptible(task) {
			return nil
		}
		runtime.Gosched()
	}
	return fmt.Errorf("no thread got blocked in system call %d", nr)
}

func uninterruptible(task string) bool {
	text, err := os.ReadFile(task + "stat")
	if err != nil {
		return false
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	return len(fields) > 0 && fields[0] == "D"
}
