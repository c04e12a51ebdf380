package lockprobe

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/bpf/bpftest"
)

func TestMain(m *testing.M) {
	bpftest.Main(m, map[string]bpftest.Workload{
		"write":    queue(openEach, unix.SYS_WRITE, func(fd int) error { _, err := unix.Write(fd, []byte("x")); return err }),
		"position": queue(openOnce, unix.SYS_WRITE, func(fd int) error { _, err := unix.Write(fd, []byte("x")); return err }),
		"chmod":    queue(openEach, unix.SYS_FCHMOD, func(fd int) error { return unix.Fchmod(fd, 0o600) }),
		"seek":     queue(openEach, unix.SYS_LSEEK, func(fd int) error { _, err := unix.Seek(fd, 0, unix.SEEK_DATA); return err }),
		"alone":    alone,
		"overtake": overtake,
	})
}

// queue has n threads block one after the other in a call for a lock that a
// write holds, then lets them go. The first descriptor is the holder's.
func queue(open func(path string, n int) ([]int, error), nr int, call func(fd int) error) bpftest.Workload {
	return func(n int) (func() error, error) {
		runtime.GOMAXPROCS(4)
		fds, err := openTemp(open, n+1)
		if err != nil {
			return nil, err
		}
		return func() error { return blockAll(fds, nr, call) }, nil
	}
}

func blockAll(fds []int, nr int, call func(fd int) error) error {
	h, err := holdLocks(fds[0], -1, nil)
	if err != nil {
		return err
	}
	waiters := fds[1:]
	ended := make(chan error, len(waiters))
	for _, fd := range waiters {
		if err := blocked(-1, nr, func() error { return call(fd) }, ended); err != nil {
			return err
		}
	}
	errs := []error{h.release()}
	for range waiters {
		errs = append(errs, <-ended)
	}
	return errors.Join(errs...)
}

// alone writes n times to a file of its own, with nobody to wait for.
func alone(n int) (func() error, error) {
	fds, err := openTemp(openEach, 1)
	if err != nil {
		return nil, err
	}
	return func() error {
		for range n {
			if _, err := unix.Write(fds[0], []byte("x")); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// overtake has one waiter be overtaken exactly n times: when the lock is let go
// the waiter is woken on a CPU that a task under SCHED_FIFO occupies, and until
// that stops, the former holder writes n times more on another CPU.
func overtake(n int) (func() error, error) {
	runtime.GOMAXPROCS(6)
	fds, err := openTemp(openEach, 2)
	if err != nil {
		return nil, err
	}
	cpus := allowedCPUs()
	if len(cpus) < 2 {
		return nil, errors.New("needs two CPUs")
	}
	here, there := cpus[0], cpus[1]
	return func() error {
		if _, err := pin(here); err != nil {
			return err
		}
		var stop atomic.Bool
		h, err := holdLocks(fds[0], here, func() error {
			defer stop.Store(true)
			return writeRaw(fds[0], n)
		})
		if err != nil {
			return err
		}
		ended := make(chan error, 2)
		wait := func() error { _, err := unix.Write(fds[1], []byte("x")); return err }
		if err := blocked(there, unix.SYS_WRITE, wait, ended); err != nil {
			return err
		}
		occupied := make(chan struct{})
		go func() { ended <- occupy(there, occupied, &stop) }()
		<-occupied
		return errors.Join(h.release(), <-ended, <-ended)
	}, nil
}

// occupy keeps everything else off a CPU until stop is set, or for less than
// the share of a second that the kernel lets such a task have.
func occupy(cpu int, occupied chan<- struct{}, stop *atomic.Bool) error {
	defer stop.Store(true)
	_, err := pin(cpu)
	err = errors.Join(err, setFIFO())
	close(occupied)
	for began := time.Now(); err == nil && !stop.Load(); {
		if time.Since(began) > 500*time.Millisecond {
			return errors.New("the overtaking did not end in time")
		}
	}
	return err
}

// setFIFO gives the calling thread the lowest real-time priority.
func setFIFO() error {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}
	return unix.SchedSetAttr(0, &attr, 0)
}

// writeRaw keeps clear of the Go scheduler, which could move the goroutine off
// its CPU between two writes.
func writeRaw(fd, n int) error {
	b := []byte("x")
	for range n {
		_, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		if errno != 0 {
			return errno
		}
	}
	return nil
}

func allowedCPUs() []int {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil
	}
	var cpus []int
	for cpu := range len(set) * 64 {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	return cpus
}

func openTemp(open func(path string, n int) ([]int, error), n int) ([]int, error) {
	dir, err := os.MkdirTemp("", "lockprobe-*")
	if err != nil {
		return nil, err
	}
	fds, err := open(dir+"/log", n)
	return fds, errors.Join(err, os.RemoveAll(dir))
}

func openEach(path string, n int) ([]int, error) {
	fds := make([]int, n)
	for i := range fds {
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", path, err)
		}
		fds[i] = fd
	}
	return fds, nil
}

func openOnce(path string, n int) ([]int, error) {
	fds, err := openEach(path, 1)
	if err != nil {
		return nil, err
	}
	for len(fds) < n {
		fds = append(fds, fds[0])
	}
	return fds, nil
}
