// Package files is the load generator's file side: a closed loop of reads or of
// synced writes on one file through io_uring, timed like requests.
//
// A read's or write's latency counts from before it is handed to the kernel to
// when its completion is read: fio's total latency ("lat": submission and
// completion latency together). Every block that is read must hold its own number and
// the seed's bytes, so a wrong offset or a short read is no result.
package files

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/nexuscore-labs/nexus/uring"
	"golang.org/x/sys/unix"
)

// Pattern is what is done to the file.
type Pattern string

const (
	// RandomRead reads blocks at random offsets, O_DIRECT, Depth at a time.
	RandomRead Pattern = "randread"
	// SyncedWrite writes block after block, O_DIRECT, each followed by fdatasync(2).
	SyncedWrite Pattern = "write_fdatasync"
)

// Bounds of Config.
const (
	DepthMax    = 4096
	BlockLenMax = 1 << 20
	fileLenMax  = int64(1) << 40
	alignment   = 4096 // of offsets, lengths and memory for O_DIRECT
	latencyMax  = int64(60e9)
	digits      = 3
	waitMax     = 100 * time.Millisecond // between looks at the clock
)

// Config describes one run.
type Config struct {
	Path     string // made by Prepare
	Len      int64  // of the file, in bytes
	Pattern  Pattern
	BlockLen int // a multiple of 4 KiB
	Depth    int // SyncedWrite: 1
	Warmup   time.Duration
	Duration time.Duration
	Seed     uint64
	CPU      int // pinned to it; below 0: not pinned
}

// Result is what completed within the measured part.
type Result struct {
	Completed uint64 // reads or writes, without the syncs
	ElapsedNs int64
	CPUNs     int64
	Latency   *hdrhistogram.Histogram // of a read or write, ns
	Sync      *hdrhistogram.Histogram // of an fdatasync, ns; empty for reads
}

// RatePerS is reads or writes per second.
func (r *Result) RatePerS() float64 { return float64(r.Completed) / (float64(r.ElapsedNs) / 1e9) }

// ErrConfig marks what is wrong with a Config.
var ErrConfig = errors.New("file workload")

// ErrWrong says that a block did not hold what was written to it.
var ErrWrong = errors.New("the file holds other bytes than were written")

func (c *Config) check() error {
	switch {
	case c.Pattern != RandomRead && c.Pattern != SyncedWrite:
		return fmt.Errorf("%w: unknown pattern %q", ErrConfig, c.Pattern)
	case c.BlockLen <= 0 || c.BlockLen%alignment != 0 || c.BlockLen > BlockLenMax:
		return fmt.Errorf("%w: blocks of %d bytes: want a multiple of %d up to %d", ErrConfig, c.BlockLen, alignment, BlockLenMax)
	case c.Len < int64(c.BlockLen) || c.Len > fileLenMax:
		return fmt.Errorf("%w: a file of %d bytes", ErrConfig, c.Len)
	case c.Depth < 1 || c.Depth > DepthMax || c.Pattern == SyncedWrite && c.Depth != 1:
		return fmt.Errorf("%w: depth %d", ErrConfig, c.Depth)
	case c.Duration <= 0 || c.Warmup < 0:
		return fmt.Errorf("%w: duration %v after %v", ErrConfig, c.Duration, c.Warmup)
	}
	return nil
}

// mark puts what is known of a block into its first 16 bytes.
func mark(p []byte, seed, block uint64) {
	binary.LittleEndian.PutUint64(p, block)
	binary.LittleEndian.PutUint64(p[8:], seed^block*0x9e3779b97f4a7c15)
}

// Prepare creates the file, written in full and synced, so that no read finds a
// hole and no write has to allocate.
func Prepare(c Config) error {
	if err := c.check(); err != nil {
		return err
	}
	file, err := os.OpenFile(c.Path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("create the file: %w", err)
	}
	const chunkBlocks = 256
	chunk := make([]byte, chunkBlocks*c.BlockLen)
	blocks := uint64(c.Len / int64(c.BlockLen))
	for block := uint64(0); err == nil && block < blocks; block += chunkBlocks {
		n := min(chunkBlocks, blocks-block)
		for k := range n {
			mark(chunk[k*uint64(c.BlockLen):], c.Seed, block+k)
		}
		_, err = file.Write(chunk[:n*uint64(c.BlockLen)])
	}
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("fill %s: %w", c.Path, err)
	}
	return nil
}

// Run drives the file on a thread of its own and returns what it measured.
func Run(c Config) (*Result, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	type outcome struct {
		result *Result
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine, and its affinity
		r, err := run(&c)
		done <- outcome{r, err}
	}()
	o := <-done
	return o.result, o.err
}

func run(c *Config) (*Result, error) {
	if c.CPU >= 0 {
		var set unix.CPUSet
		set.Set(c.CPU)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return nil, fmt.Errorf("pin to CPU %d: %w", c.CPU, err)
		}
	}
	fd, err := unix.Open(c.Path, unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s with O_DIRECT: %w", c.Path, err)
	}
	defer unix.Close(fd)
	memory, err := unix.Mmap(-1, 0, c.Depth*c.BlockLen, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANONYMOUS|unix.MAP_PRIVATE|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("map %d blocks: %w", c.Depth, err)
	}
	r, err := uring.New(uring.Options{Entries: uint32(max(8, 2*c.Depth)), SingleIssuer: true, RegisterRing: true})
	if err != nil {
		return nil, errors.Join(err, unix.Munmap(memory))
	}
	l := newLoop(c, r, memory)
	err = errors.Join(r.RegisterBuffers(memory), r.RegisterFiles([]int32{int32(fd)}))
	if err == nil {
		err = l.run()
	}
	// The kernel must have let go of the memory before it goes.
	if err = errors.Join(err, r.Close(), unix.Munmap(memory)); err != nil {
		return nil, err
	}
	return l.result, nil
}
