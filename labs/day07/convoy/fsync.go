package convoy

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// FsyncScalingOptions size FsyncScaling.
type FsyncScalingOptions struct {
	Dir         string
	Writers     []int
	Rounds      int
	Window      time.Duration // of one measurement
	RecordBytes int
}

// QuickFsyncScaling and FullFsyncScaling are the sizes of the lab's modes.
func QuickFsyncScaling(dir string) FsyncScalingOptions {
	return FsyncScalingOptions{Dir: dir, Writers: []int{1, 16, 256}, Rounds: 5, Window: 80 * time.Millisecond, RecordBytes: 256}
}

// FullFsyncScaling takes about ten seconds.
func FullFsyncScaling(dir string) FsyncScalingOptions {
	o := QuickFsyncScaling(dir)
	o.Rounds, o.Window = 10, 300*time.Millisecond
	return o
}

// ScalingPoint is one number of writers; the slices have a value per round.
type ScalingPoint struct {
	Writers     int
	AppendsPerS []float64
	// FlushesPerAppend is what the whole disk completed, of whoever; nil where
	// the kernel does not count flushes for this file system's device.
	FlushesPerAppend []float64
}

// FsyncScalingResult has its points in the order of the options.
type FsyncScalingResult struct {
	Points []ScalingPoint
	// WriteCache is the disk's queue/write_cache, "write back" or "write
	// through"; "" where no disk shows it. A disk that writes through is sent
	// no flushes.
	WriteCache string
}

// FlushesPerAppend returns the flushes of each append of so many writers, round
// by round; nil if they were not measured or not counted.
func (r FsyncScalingResult) FlushesPerAppend(writers int) []float64 {
	if p := r.point(writers); p != nil {
		return p.FlushesPerAppend
	}
	return nil
}

// Ratios returns, round by round, how many times the rate of from writers the
// rate of to writers was; nil if either was not measured.
func (r FsyncScalingResult) Ratios(from, to int) []float64 {
	a, b := r.point(from), r.point(to)
	if a == nil || b == nil {
		return nil
	}
	return ratios(b.AppendsPerS, a.AppendsPerS)
}

func (r FsyncScalingResult) point(writers int) *ScalingPoint {
	for i := range r.Points {
		if r.Points[i].Writers == writers {
			return &r.Points[i]
		}
	}
	return nil
}

// FsyncScaling measures durable appends a second where each append is a write
// and an fsync of one shared O_APPEND file, each writer with a thread and a
// descriptor of its own. Every round visits all points, in turning order.
func FsyncScaling(ctx context.Context, o FsyncScalingOptions) (result FsyncScalingResult, err error) {
	if len(o.Writers) == 0 || o.Rounds < 1 || o.Window <= 0 || o.RecordBytes < 1 {
		return result, errors.New("fsync scaling: options without writers, rounds, window or record")
	}
	dir, remove, err := folder(o.Dir)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	disk := diskOf(dir)
	result.WriteCache = disk.attribute("queue/write_cache")
	for _, n := range o.Writers {
		result.Points = append(result.Points, ScalingPoint{Writers: n})
	}
	order := make([]int, len(o.Writers))
	for i := range order {
		order[i] = i
	}
	for round := range o.Rounds {
		for _, i := range order {
			path := filepath.Join(dir, fmt.Sprintf("log-%d-%d", round, i))
			if err := result.Points[i].measure(ctx, o, path, disk); err != nil {
				return result, fmt.Errorf("fsync with %d writers: %w", o.Writers[i], err)
			}
		}
		slices.Reverse(order)
	}
	return result, nil
}

func (p *ScalingPoint) measure(ctx context.Context, o FsyncScalingOptions, path string, disk blockDisk) (err error) {
	fds, closeAll, err := openEach(p.Writers, func(int) string { return path })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAll(), unix.Unlink(path)) }()
	record := make([]byte, o.RecordBytes)
	if err := errors.Join(write(fds[0], record), fsync(fds[0])); err != nil {
		return err
	}
	counts := make([]appendCount, p.Writers)
	before, counted := disk.flushes()
	took, err := window{
		threads: p.Writers,
		length:  o.Window,
		operate: func(i int) error {
			if err := write(fds[i], record); err != nil {
				return err
			}
			counts[i].all++
			return fsync(fds[i])
		},
		finished: func(i int, _ time.Duration) { counts[i].measured++ },
	}.run(ctx)
	if err != nil {
		return err
	}
	after, _ := disk.flushes()
	var sum appendCount
	for i := range counts {
		sum.all += counts[i].all
		sum.measured += counts[i].measured
	}
	p.AppendsPerS = append(p.AppendsPerS, float64(sum.measured)/took.Seconds())
	if counted && sum.all > 0 {
		p.FlushesPerAppend = append(p.FlushesPerAppend, float64(after-before)/float64(sum.all))
	}
	return nil
}

// appendCount is one writer's, kept off its neighbours' cache lines.
type appendCount struct {
	all      uint64
	measured uint64 // ended inside the window
	_        [48]byte
}

// openEach opens path(0) to path(n-1) for appending, one descriptor each.
func openEach(n int, path func(i int) string) (fds []int, closeAll func() error, err error) {
	closeAll = func() error {
		var errs []error
		for _, fd := range fds {
			errs = append(errs, unix.Close(fd))
		}
		return errors.Join(errs...)
	}
	for i := range n {
		fd, err := openAppend(path(i))
		if err != nil {
			return nil, nil, errors.Join(err, closeAll())
		}
		fds = append(fds, fd)
	}
	return fds, closeAll, nil
}

// ratios divides pair by pair. A pair that lacks a number, or has a divisor that
// is not positive, is left out.
func ratios(over, under []float64) []float64 {
	var out []float64
	for i := range min(len(over), len(under)) {
		if under[i] > 0 && !math.IsNaN(over[i]) {
			out = append(out, over[i]/under[i])
		}
	}
	return out
}
