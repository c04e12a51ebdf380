package convoy

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/bpf/attach"
	"github.com/nexuscore-labs/nexus/bpf/hist"
	"github.com/nexuscore-labs/nexus/bpf/lockprobe"
	"github.com/nexuscore-labs/nexus/bpf/probe"
)

// Layout says what the writers share.
type Layout string

const (
	SharedFile    Layout = "shared_file"    // one file, each writer opens it for itself
	OwnFiles      Layout = "own_files"      // a file for each writer
	OneDescriptor Layout = "one_descriptor" // one file, opened once: writers meet at f_pos_lock before the inode lock
)

// WritersOptions size Writers.
type WritersOptions struct {
	Dir         string
	Threads     []int
	Layouts     []Layout
	Rounds      int           // measured for latency, with no probe attached
	LockRounds  int           // watched by the lock probe
	Window      time.Duration // of one measurement with up to windowThreads threads on each CPU
	RecordBytes int
	Probe       probe.Options // how the lock probe is attached
}

// windowThreads is how many threads of one CPU share one Window; with more of
// them it is longer in proportion, so that each gets its turns.
const windowThreads = 8

func (o WritersOptions) window(threads int) time.Duration {
	return o.Window * time.Duration(max(1, threads/(windowThreads*runtime.NumCPU())))
}

// QuickWriters is the size of the lab's quick mode.
func QuickWriters(dir string) WritersOptions {
	return WritersOptions{
		Dir: dir, Threads: []int{1, 2, 8, 64}, Layouts: []Layout{SharedFile, OwnFiles},
		Rounds: 5, LockRounds: 1, Window: 25 * time.Millisecond, RecordBytes: 128,
	}
}

// FullWriters is the size of the lab's full mode.
func FullWriters(dir string) WritersOptions {
	o := QuickWriters(dir)
	o.Layouts = append(o.Layouts, OneDescriptor)
	o.Rounds, o.LockRounds, o.Window = 8, 2, 100*time.Millisecond
	return o
}

func (o WritersOptions) check() error {
	if len(o.Threads) == 0 || len(o.Layouts) == 0 || o.Rounds < 1 || o.LockRounds < 0 {
		return errors.New("writers: options without threads, layouts or rounds")
	}
	if o.Window <= 0 || o.RecordBytes < 1 || o.RecordBytes > 1<<20 {
		return fmt.Errorf("writers: window %v, record of %d bytes", o.Window, o.RecordBytes)
	}
	return nil
}

// Cell is one measurement: so many threads appending without fsync.
type Cell struct {
	Layout  Layout
	Threads int
	Round   int
	Writes  uint64
	// WritesPerS is over all threads.
	WritesPerS float64
	// Latency of write(2) as the thread sees it, ns.
	Latency hist.Histogram
	// Locks is nil in rounds without the lock probe.
	Locks *Locks
}

// Locks is what the lock probe saw during one cell; see package lockprobe.
type Locks struct {
	Writes             uint64 // as the probe counted them
	InodeWaits         uint64
	PositionWaits      uint64
	RwsemWriteWaits    uint64 // InodeWaits included
	MutexWaits         uint64 // PositionWaits included
	Overtaken          uint64 // of InodeWaits
	Sampled            uint64
	SampledOvertaken   uint64
	SampledOvertakings uint64
	Lost               uint64
	InodeWaitNs        hist.Histogram
	OvertakingsEach    hist.Histogram // of sampled waits
}

// WritersResult has its cells in the order in which they were measured.
type WritersResult struct {
	Cells    []Cell
	Attached []attach.Program // of the lock probe
	// LocksErr wraps ErrNotMeasurable if the lock probe was wanted and could
	// not be attached; the latencies are measured all the same.
	LocksErr error
}

// Writers measures the latency of O_APPEND writes for each layout and number of
// threads, every round in turning order, first without the lock probe and then
// with it.
//
// The loop is closed: a writer that waits offers nothing meanwhile, so a wait of
// milliseconds is one sample among thousands and shows in p99.9 and above before
// it shows in p99.
func Writers(ctx context.Context, o WritersOptions) (result WritersResult, err error) {
	if err := o.check(); err != nil {
		return result, err
	}
	dir, remove, err := folder(o.Dir)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	if result.Cells, err = rounds(ctx, o, dir, o.Rounds, nil); err != nil || o.LockRounds == 0 {
		return result, err
	}
	locks, err := lockprobe.Open(o.Probe)
	if err != nil {
		result.LocksErr = notMeasurable(err)
		return result, nil
	}
	defer func() { err = errors.Join(err, locks.Close()) }()
	result.Attached = locks.Attached().Programs
	watched, err := rounds(ctx, o, dir, o.LockRounds, locks)
	result.Cells = append(result.Cells, watched...)
	return result, err
}

func rounds(ctx context.Context, o WritersOptions, dir string, n int, locks *lockprobe.Probe) ([]Cell, error) {
	var order []Cell
	for _, threads := range o.Threads {
		for _, layout := range o.Layouts {
			order = append(order, Cell{Layout: layout, Threads: threads})
		}
	}
	var cells []Cell
	for round := range n {
		for _, cell := range order {
			cell.Round = round
			if err := cell.measure(ctx, o, dir, locks); err != nil {
				return cells, fmt.Errorf("%d writers, %s: %w", cell.Threads, cell.Layout, err)
			}
			cells = append(cells, cell)
		}
		slices.Reverse(order)
	}
	return cells, nil
}

func (c *Cell) measure(ctx context.Context, o WritersOptions, dir string, locks *lockprobe.Probe) (err error) {
	fds, closeAll, err := c.open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAll(), removeLogs(dir)) }()
	latencies := make([]hist.Histogram, c.Threads)
	for i := range latencies {
		latencies[i].Counts = make([]uint64, hist.Len)
	}
	record := make([]byte, o.RecordBytes)
	b := newBudget(c.Threads, o.RecordBytes)
	w := window{
		threads: c.Threads,
		length:  o.window(c.Threads),
		operate: func(i int) error {
			if !b.take(i) {
				return errEnough
			}
			return write(fds[i], record)
		},
		finished: func(i int, took time.Duration) { latencies[i].Record(uint64(max(0, took))) },
	}
	took, err := c.watch(ctx, w, locks)
	if err != nil {
		return err
	}
	for i := range latencies {
		c.Latency.Merge(&latencies[i])
	}
	c.Writes = c.Latency.Count()
	c.WritesPerS = float64(c.Writes) / took.Seconds()
	return nil
}

func (c *Cell) open(dir string) ([]int, func() error, error) {
	switch c.Layout {
	case OwnFiles:
		return openEach(c.Threads, func(i int) string { return filepath.Join(dir, fmt.Sprintf("log-%d", i)) })
	case SharedFile:
		return openEach(c.Threads, func(int) string { return filepath.Join(dir, "log-shared") })
	case OneDescriptor:
		fds, closeAll, err := openEach(1, func(int) string { return filepath.Join(dir, "log-shared") })
		if err != nil {
			return nil, nil, err
		}
		return slices.Repeat(fds, c.Threads), closeAll, nil
	}
	return nil, nil, fmt.Errorf("layout %q is not known", c.Layout)
}

func removeLogs(dir string) error {
	logs, err := filepath.Glob(filepath.Join(dir, "log-*"))
	errs := []error{err}
	for _, log := range logs {
		errs = append(errs, unix.Unlink(log))
	}
	return errors.Join(errs...)
}

// watch runs w, inside the lock probe if there is one.
func (c *Cell) watch(ctx context.Context, w window, locks *lockprobe.Probe) (time.Duration, error) {
	if locks == nil {
		return w.run(ctx)
	}
	if err := locks.StartProcess(); err != nil {
		return 0, err
	}
	took, ran := w.run(ctx)
	reading, err := probe.Stop(locks)
	c.Locks = locksOf(reading)
	return took, errors.Join(ran, err)
}

func locksOf(reading probe.Reading) *Locks {
	var l Locks
	waits := map[string]*uint64{
		lockprobe.InodeLock: &l.InodeWaits, lockprobe.PositionLock: &l.PositionWaits,
		lockprobe.RwsemWrite: &l.RwsemWriteWaits, lockprobe.Mutex: &l.MutexWaits,
	}
	for i := range reading.Histograms {
		h := &reading.Histograms[i]
		if into := waits[h.Label]; into != nil {
			*into = h.Count()
		}
		switch h.Label {
		case lockprobe.InodeLock:
			l.InodeWaitNs = h.Histogram
		case lockprobe.Overtakings:
			l.OvertakingsEach = h.Histogram
		}
	}
	counters := map[string]*uint64{
		lockprobe.Writes: &l.Writes, lockprobe.Overtaken: &l.Overtaken, lockprobe.Sampled: &l.Sampled,
		lockprobe.SampledOvertaken: &l.SampledOvertaken, lockprobe.SampledOvertakings: &l.SampledOvertakings,
		lockprobe.Lost: &l.Lost,
	}
	for _, c := range reading.Counters {
		if into := counters[c.Label]; into != nil {
			*into = uint64(c.Value)
		}
	}
	return &l
}
