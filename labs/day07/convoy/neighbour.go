package convoy

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// FsyncNeighbourOptions size FsyncNeighbour.
type FsyncNeighbourOptions struct {
	Dir        string
	Pairs      int
	DirtyBytes int // what the neighbour appends and does not sync
}

// QuickFsyncNeighbour is the size of the lab's quick mode.
func QuickFsyncNeighbour(dir string) FsyncNeighbourOptions {
	return FsyncNeighbourOptions{Dir: dir, Pairs: 20, DirtyBytes: 8 << 20}
}

// FullFsyncNeighbour is the size of the lab's full mode.
func FullFsyncNeighbour(dir string) FsyncNeighbourOptions {
	o := QuickFsyncNeighbour(dir)
	o.Pairs = 100
	return o
}

// FsyncNeighbourResult has the latencies round by round, ns.
type FsyncNeighbourResult struct {
	AloneNs []float64
	// NeighbourNs is with the neighbour's unsynced appends in the page cache.
	NeighbourNs []float64
	// WritebackNs is with the same appends when their writeback has been
	// started, sync_file_range(2), as the kernel does by itself after a while.
	// Delayed allocation keeps appends out of the journal until then.
	WritebackNs []float64
	Filesystem  string // type and options of the mount
}

// Ratios returns NeighbourNs over AloneNs pair by pair.
func (r FsyncNeighbourResult) Ratios() []float64 { return ratios(r.NeighbourNs, r.AloneNs) }

// WritebackRatios returns WritebackNs over AloneNs pair by pair.
func (r FsyncNeighbourResult) WritebackRatios() []float64 { return ratios(r.WritebackNs, r.AloneNs) }

// FsyncNeighbour measures how long fsync of a small file takes while another
// file of the same file system has unsynced appends, and while it has none. The
// cases alternate in ABC CBA order; before each measurement both files are synced.
func FsyncNeighbour(ctx context.Context, o FsyncNeighbourOptions) (result FsyncNeighbourResult, err error) {
	if o.Pairs < 1 || o.DirtyBytes < smallRecordBytes || o.DirtyBytes > BytesMax {
		return result, fmt.Errorf("fsync neighbour: %d pairs with %d bytes", o.Pairs, o.DirtyBytes)
	}
	dir, remove, err := folder(o.Dir)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	names := []string{"small", "neighbour"}
	fds, closeAll, err := openEach(len(names), func(i int) string { return filepath.Join(dir, names[i]) })
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, closeAll()) }()
	e := neighbourhood{small: fds[0], neighbour: fds[1], dirty: make([]byte, o.DirtyBytes)}
	result.Filesystem = mountOf(dir)
	cases := []struct {
		load func() error
		into *[]float64
	}{
		{func() error { return nil }, &result.AloneNs},
		{e.appendUnsynced, &result.NeighbourNs},
		{e.startWriteback, &result.WritebackNs},
	}
	for range o.Pairs {
		for _, c := range cases {
			if err := ctx.Err(); err != nil {
				return result, err
			}
			took, err := e.measure(c.load)
			if err != nil {
				return result, err
			}
			*c.into = append(*c.into, float64(took))
		}
		slices.Reverse(cases)
	}
	return result, nil
}

type neighbourhood struct {
	small, neighbour int
	dirty            []byte
}

const smallRecordBytes = 256

func (e neighbourhood) appendUnsynced() error { return write(e.neighbour, e.dirty) }

func (e neighbourhood) startWriteback() error {
	if err := e.appendUnsynced(); err != nil {
		return err
	}
	if err := unix.SyncFileRange(e.neighbour, 0, 0, unix.SYNC_FILE_RANGE_WRITE); err != nil {
		return fmt.Errorf("start the neighbour's writeback: %w", err)
	}
	return nil
}

func (e neighbourhood) measure(load func() error) (time.Duration, error) {
	if err := unix.Ftruncate(e.neighbour, 0); err != nil {
		return 0, fmt.Errorf("empty the neighbour: %w", err)
	}
	if err := errors.Join(fsync(e.neighbour), fsync(e.small)); err != nil {
		return 0, err
	}
	if err := errors.Join(load(), write(e.small, e.dirty[:smallRecordBytes])); err != nil {
		return 0, err
	}
	began := time.Now()
	err := fsync(e.small)
	return time.Since(began), err
}
