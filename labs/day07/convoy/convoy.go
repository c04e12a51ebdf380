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
// its length. The threads watch the clock themselves: a thread that did it for
// them would get its turn late where they fill the CPUs.
type window struct {
	threads int
	length  time.Duration
	// operate does one operation on thread i. It must not enter the Go
	// scheduler: raw system calls only. errEnough ends the window early.
	operate func(i int) error
	// finished is told that an operation of thread i ended inside the window.
	finished func(i int, took time.Duration)
}

// errEnough says that the bytes that an experiment may write are written.
var errEnough = errors.New("the bound on bytes is reached")

// clock tells the phase of a window. Times are since its origin.
type clock struct {
	origin time.Time
	warm   time.Duration
	end    atomic.Int64 // ns
}

// stop moves the end of the window to now, unless it is over.
func (c *clock) stop() {
	now := int64(time.Since(c.origin))
	for {
		end := c.end.Load()
		if end <= now || c.end.CompareAndSwap(end, now) {
			return
		}
	}
}

// run starts the threads together, waits for the operations under way at the end
// of the window and returns how long the window was.
func (w window) run(ctx context.Context) (time.Duration, error) {
	if w.threads < 1 || w.threads > threadsMax {
		return 0, fmt.Errorf("%d threads: want 1 to %d", w.threads, threadsMax)
	}
	// One P for each writer, which keeps it while it is in the kernel.
	before := runtime.GOMAXPROCS(w.threads + runtime.NumCPU())
	defer runtime.GOMAXPROCS(before)

	var (
		c     clock
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
			errs[i] = w.loop(i, &c)
		})
	}
	ready.Wait()
	c.origin, c.warm = time.Now(), w.length/4
	c.end.Store(int64(c.warm + w.length))
	close(start)
	forget := context.AfterFunc(ctx, c.stop)
	ended.Wait()
	forget()
	if err := errors.Join(append(errs, ctx.Err())...); err != nil {
		return 0, err
	}
	took := time.Duration(c.end.Load()) - c.warm
	if took <= 0 {
		return 0, fmt.Errorf("%w before the warm-up was over", errEnough)
	}
	return took, nil
}

func (w window) loop(i int, c *clock) error {
	for {
		began := time.Since(c.origin)
		if err := w.operate(i); err != nil {
			c.stop()
			if errors.Is(err, errEnough) {
				return nil
			}
			return err
		}
		now := time.Since(c.origin)
		if int64(now) >= c.end.Load() {
			return nil
		}
		if now >= c.warm {
			w.finished(i, now-began)
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
