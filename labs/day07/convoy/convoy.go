// Package convoy is the experiments behind lesson 7's claims about why naive
// durable appends fail: the fsync queue, the inode lock, the scheduler.
//
// Every experiment works in a folder that the caller gives it, writes at most
// BytesMax there, removes what it made and returns what it measured: raw values
// round by round, for the caller to put intervals on. Where this machine cannot
// show something the error wraps ErrNotMeasurable and says why.
//
// The experiments raise GOMAXPROCS while they run, because each writer has to
// be an operating system thread that nothing but the kernel schedules. Run one
// at a time and nothing beside it.
package convoy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// BytesMax bounds what one experiment has on the disk at a time.
const BytesMax = 1 << 30

// threadsMax bounds the writers of one experiment; runtime.GOMAXPROCS takes no
// more than 1024.
const threadsMax = 512

// ErrNotMeasurable is wrapped by errors that say why this machine cannot show
// what was asked for. It is not a failure of the experiment.
var ErrNotMeasurable = errors.New("not measurable")

func notMeasurable(err error) error {
	return fmt.Errorf("%w: %w", ErrNotMeasurable, err)
}

// openAppend makes or opens a file for appending.
func openAppend(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", path, err)
	}
	return fd, nil
}

// folder makes a folder of its own below dir. The returned function removes it.
func folder(dir string) (string, func() error, error) {
	own, err := os.MkdirTemp(dir, "convoy-*")
	if err != nil {
		return "", nil, fmt.Errorf("make a folder for the experiment: %w", err)
	}
	return own, func() error { return os.RemoveAll(own) }, nil
}

// window is one measured interval on n threads, after a warm-up of a quarter of
// its length.
type window struct {
	threads int
	length  time.Duration
	// operate does one operation on thread i. It must not enter the Go
	// scheduler: raw system calls only.
	operate func(i int) error
	// finished is told that an operation of thread i ended inside the window.
	finished func(i int, took time.Duration)
}

// Phases of a window.
const (
	warming = iota
	measuring
	stopping
)

// run starts the threads together, waits for the operations under way at the end
// of the window and returns how long the window was in truth.
func (w window) run(ctx context.Context) (time.Duration, error) {
	if w.threads < 1 || w.threads > threadsMax {
		return 0, fmt.Errorf("%d threads: want 1 to %d", w.threads, threadsMax)
	}
	// One P for each writer, which keeps it while it is in the kernel.
	before := runtime.GOMAXPROCS(w.threads + runtime.NumCPU())
	defer runtime.GOMAXPROCS(before)

	var (
		phase atomic.Int32
		ready sync.WaitGroup
		ended sync.WaitGroup
		start = make(chan struct{})
		errs  = make([]error, w.threads)
	)
	for i := range w.threads {
		ready.Add(1)
		ended.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			ready.Done()
			<-start
			errs[i] = w.loop(i, &phase)
		})
	}
	ready.Wait()
	close(start)
	wait(ctx, w.length/4)
	began := time.Now()
	phase.Store(measuring)
	wait(ctx, w.length)
	phase.Store(stopping)
	took := time.Since(began)
	ended.Wait()
	return took, errors.Join(append(errs, ctx.Err())...)
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (w window) loop(i int, phase *atomic.Int32) error {
	origin := time.Now()
	for {
		began := time.Since(origin)
		if err := w.operate(i); err != nil {
			return err
		}
		took := time.Since(origin) - began
		switch phase.Load() {
		case measuring:
			w.finished(i, took)
		case stopping:
			return nil
		}
	}
}

// write appends b with one raw write call; a short write is an error.
func write(fd int, b []byte) error {
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return fmt.Errorf("append: %w", errno)
	}
	if int(n) != len(b) {
		return fmt.Errorf("append: %d of %d bytes", n, len(b))
	}
	return nil
}

func fsync(fd int) error {
	if _, _, errno := unix.RawSyscall(unix.SYS_FSYNC, uintptr(fd), 0, 0); errno != 0 {
		return fmt.Errorf("fsync: %w", errno)
	}
	return nil
}
