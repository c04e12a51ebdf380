package convoy

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/bpf/attach"
	"github.com/nexuscore-labs/nexus/bpf/probe"
)

// Each experiment runs here in a small size: the shape of its result, what it
// leaves behind and how it ends are tested; how fast anything is, is not.

const smallWindow = 5 * time.Millisecond

// empty fails the test if dir holds anything.
func empty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("left behind: %s", e.Name())
	}
}

// measured wants n values, none negative. Zero and NaN are honest: on a busy
// machine a small window may see nothing end.
func measured(t *testing.T, what string, values []float64, n int) {
	t.Helper()
	if len(values) != n {
		t.Errorf("%s: %d values, want %d", what, len(values), n)
	}
	for _, v := range values {
		if v < 0 {
			t.Errorf("%s: %v", what, v)
		}
	}
}

func TestFsyncScaling(t *testing.T) {
	dir := t.TempDir()
	o := FsyncScalingOptions{Dir: dir, Writers: []int{1, 4}, Rounds: 3, Window: 20 * smallWindow, RecordBytes: 64}
	procs := runtime.GOMAXPROCS(0)
	result, err := FsyncScaling(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	empty(t, dir)
	if now := runtime.GOMAXPROCS(0); now != procs {
		t.Errorf("GOMAXPROCS was left at %d, was %d", now, procs)
	}
	for i, p := range result.Points {
		if p.Writers != o.Writers[i] {
			t.Errorf("point %d is of %d writers, want %d", i, p.Writers, o.Writers[i])
		}
		measured(t, "rates", p.AppendsPerS, o.Rounds)
		t.Logf("%d writers: %.0f appends/s, %.2f flushes each", p.Writers, p.AppendsPerS, p.FlushesPerAppend)
	}
	if got := result.Ratios(1, 5); got != nil {
		t.Errorf("ratios to a point that was not measured: %v", got)
	}
}

func TestFsyncNeighbour(t *testing.T) {
	dir := t.TempDir()
	result, err := FsyncNeighbour(t.Context(), FsyncNeighbourOptions{Dir: dir, Pairs: 3, DirtyBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	empty(t, dir)
	measured(t, "alone", result.AloneNs, 3)
	measured(t, "neighbour", result.NeighbourNs, 3)
	measured(t, "writeback", result.WritebackNs, 3)
	measured(t, "ratios", result.Ratios(), 3)
	measured(t, "writeback ratios", result.WritebackRatios(), 3)
	if result.Filesystem == "" {
		t.Error("the file system was not found")
	}
}

func TestWriters(t *testing.T) {
	dir := t.TempDir()
	o := WritersOptions{
		Dir: dir, Threads: []int{1, 3}, Layouts: []Layout{SharedFile, OwnFiles, OneDescriptor},
		Rounds: 2, LockRounds: 2, Window: smallWindow, RecordBytes: 64,
	}
	result, err := Writers(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	empty(t, dir)
	watched, writes := 0, uint64(0)
	for _, c := range result.Cells {
		if c.Latency.Count() != c.Writes || (c.Writes > 0) != (c.WritesPerS > 0) {
			t.Errorf("%s, %d threads: %d writes, %d latencies, %v/s", c.Layout, c.Threads, c.Writes, c.Latency.Count(), c.WritesPerS)
		}
		writes += c.Writes
		if c.Locks != nil {
			watched++
			checkLocks(t, c)
		}
	}
	if writes == 0 {
		t.Error("nobody wrote anything")
	}
	measured(t, "p99", result.QuantileNs(SharedFile, 3, 0.99), o.Rounds)
	measured(t, "mean", result.MeanNs(OwnFiles, 3), o.Rounds)
	if errors.Is(result.LocksErr, ErrNotMeasurable) {
		t.Skipf("the rest needs the lock probe: %v", result.LocksErr)
	}
	if want := len(o.Threads) * len(o.Layouts) * o.LockRounds; watched != want {
		t.Errorf("%d cells were watched, want %d", watched, want)
	}
}

// Where the lock probe can't be attached the latencies are measured all the same.
func TestWritersWithoutProbe(t *testing.T) {
	o := WritersOptions{
		Dir: t.TempDir(), Threads: []int{1}, Layouts: []Layout{OwnFiles}, Rounds: 1, LockRounds: 1,
		Window: smallWindow, RecordBytes: 64, Probe: probe.Options{Rung: attach.Kprobe},
	}
	result, err := Writers(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if !errors.Is(result.LocksErr, ErrNotMeasurable) || !errors.Is(result.LocksErr, attach.ErrNoRung) {
		t.Errorf("the reason is %v", result.LocksErr)
	}
	if len(result.Cells) != 1 || result.Cells[0].Locks != nil {
		t.Errorf("cells %+v", result.Cells)
	}
	if l := result.Locks(OwnFiles, 1); l.Writes != 0 || VerdictInodeLock(l, l) != Inconclusive {
		t.Errorf("locks that nobody watched: %+v", l)
	}
	empty(t, o.Dir)
}

// checkLocks holds the probe's counts against the writers' own.
func checkLocks(t *testing.T, c Cell) {
	t.Helper()
	l := c.Locks
	if l.Writes < c.Writes || l.Lost != 0 {
		t.Errorf("%s, %d threads: the probe saw %d of %d writes and lost %d events", c.Layout, c.Threads, l.Writes, c.Writes, l.Lost)
	}
	if l.InodeWaits > l.RwsemWriteWaits || l.PositionWaits > l.MutexWaits || l.Overtaken > l.InodeWaits ||
		l.Sampled > l.InodeWaits || l.SampledOvertaken > min(l.Sampled, l.Overtaken) || l.SampledOvertakings < l.SampledOvertaken {
		t.Errorf("%s, %d threads: a part is more than its whole: %+v", c.Layout, c.Threads, *l)
	}
	alone := c.Threads == 1 || c.Layout == OwnFiles
	if alone && l.InodeWaits+l.PositionWaits != 0 {
		t.Errorf("%s, %d threads: %d waits for an inode lock and %d for a position that nobody shares",
			c.Layout, c.Threads, l.InodeWaits, l.PositionWaits)
	}
	if c.Layout == OneDescriptor && l.InodeWaits != 0 {
		t.Errorf("%d waits for the inode lock behind f_pos_lock", l.InodeWaits)
	}
}

func TestSwitchRate(t *testing.T) {
	result, err := SwitchRate(t.Context(), SwitchRateOptions{Rounds: 1, Window: smallWindow, CPU: -1})
	if err != nil {
		t.Fatal(err)
	}
	if want := 2 * len(SwitchMethods); len(result.Points) != want {
		t.Fatalf("%d points, want %d", len(result.Points), want)
	}
	for _, p := range result.Points {
		t.Logf("%s of %s: %.0f/s %v", p.Method, p.Space, p.SwitchesPerS, p.Err)
		if p.Err == nil {
			measured(t, string(p.Method), p.SwitchesPerS, 1)
		} else if !errors.Is(p.Err, ErrNotMeasurable) {
			t.Errorf("%s of %s: %v", p.Method, p.Space, p.Err)
		}
	}
	for _, space := range []Space{Threads, Processes} {
		best := result.Best(space)
		if best == nil {
			t.Fatalf("two %s never switched", space)
		}
		for _, p := range result.Points {
			if p.Space == space && p.Max() > best.Max() {
				t.Errorf("%s is better than the best of %s", p.Method, space)
			}
		}
	}
	if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
		t.Errorf("a child is left: %d, %v", pid, err)
	}
}

func TestSwitchRateOnForbiddenCPU(t *testing.T) {
	if _, err := SwitchRate(t.Context(), SwitchRateOptions{Rounds: 1, Window: smallWindow, CPU: 1023}); err == nil {
		t.Error("no error for a CPU that this process may not use")
	}
}

// Interrupted experiments say so and clean up.
func TestCanceled(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, run := range map[string]func() error{
		"scaling":   func() error { _, err := FsyncScaling(ctx, QuickFsyncScaling(dir)); return err },
		"neighbour": func() error { _, err := FsyncNeighbour(ctx, QuickFsyncNeighbour(dir)); return err },
		"writers":   func() error { _, err := Writers(ctx, QuickWriters(dir)); return err },
		"switch":    func() error { _, err := SwitchRate(ctx, QuickSwitchRate()); return err },
	} {
		if err := run(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want %v", name, err, context.Canceled)
		}
		empty(t, dir)
	}
}

func TestCanceledInside(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := QuickWriters(dir)
	o.Window = time.Minute
	go func() {
		for ctx.Err() == nil {
			if logs, _ := filepath.Glob(filepath.Join(dir, "*", "log-*")); len(logs) > 0 {
				cancel()
			}
			runtime.Gosched()
		}
	}()
	if _, err := Writers(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want %v", err, context.Canceled)
	}
	empty(t, dir)
}

func TestBadOptions(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	dir := t.TempDir()
	many := QuickWriters(dir)
	many.Threads = []int{threadsMax + 1}
	unknown := QuickWriters(dir)
	unknown.Layouts = []Layout{"heap"}
	large := QuickFsyncNeighbour(dir)
	large.DirtyBytes = BytesMax + 1
	for name, run := range map[string]func() error{
		"no options":       func() error { _, err := Writers(t.Context(), WritersOptions{}); return err },
		"missing folder":   func() error { _, err := Writers(t.Context(), QuickWriters(missing)); return err },
		"too many threads": func() error { _, err := Writers(t.Context(), many); return err },
		"unknown layout":   func() error { _, err := Writers(t.Context(), unknown); return err },
		"no scaling":       func() error { _, err := FsyncScaling(t.Context(), FsyncScalingOptions{}); return err },
		"missing, scaling": func() error { _, err := FsyncScaling(t.Context(), QuickFsyncScaling(missing)); return err },
		"no pairs":         func() error { _, err := FsyncNeighbour(t.Context(), FsyncNeighbourOptions{Dir: dir}); return err },
		"too large":        func() error { _, err := FsyncNeighbour(t.Context(), large); return err },
		"missing, fsync":   func() error { _, err := FsyncNeighbour(t.Context(), QuickFsyncNeighbour(missing)); return err },
		"no rounds":        func() error { _, err := SwitchRate(t.Context(), SwitchRateOptions{}); return err },
		"window would hang": func() error {
			_, err := SwitchRate(t.Context(), SwitchRateOptions{Rounds: 1, Window: time.Minute})
			return err
		},
	} {
		if err := run(); err == nil || errors.Is(err, ErrNotMeasurable) {
			t.Errorf("%s: %v, want an error", name, err)
		}
	}
	empty(t, dir)
}

// An operation that fails ends the window with its error.
func TestWindowError(t *testing.T) {
	failed := errors.New("disk on fire")
	_, err := window{
		threads: 2, length: smallWindow,
		operate:  func(i int) error { return map[bool]error{true: failed}[i == 1] },
		finished: func(int, time.Duration) {},
	}.run(t.Context())
	if !errors.Is(err, failed) {
		t.Errorf("%v, want %v", err, failed)
	}
}

// Where the bound on bytes is reached the window is shorter, not wrong.
func TestWindowEnough(t *testing.T) {
	left, counted := 1000, 0
	w := window{
		threads: 1, length: time.Hour,
		operate: func(int) error {
			if left--; left < 0 {
				return errEnough
			}
			return nil
		},
		finished: func(int, time.Duration) { counted++ },
	}
	if _, err := w.run(t.Context()); !errors.Is(err, errEnough) || counted != 0 {
		t.Errorf("ended in the warm-up, counted %d: %v", counted, err)
	}
	left, w.length = 1<<62, 4*time.Millisecond
	w.finished = func(int, time.Duration) { counted++; left = min(left, 10) }
	took, err := w.run(t.Context())
	if err != nil || took <= 0 || took > w.length || counted > 11 {
		t.Errorf("%v, %d counted: %v", took, counted, err)
	}
}

func TestRatios(t *testing.T) {
	none := math.NaN()
	if got, want := ratios([]float64{6, 5, 8, none, 1, 1}, []float64{3, 0, 4, 1, none}), []float64{2, 2}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// However the threads share it, the budget is never exceeded, and what a thread
// did not use of its last lease is all that is lost.
func TestBudget(t *testing.T) {
	const threads, recordBytes = 3, 1 << 12
	b := newBudget(threads, recordBytes)
	took := make([]int, threads)
	for i := range took {
		for n := 0; n < (i+1)*10_000 && b.take(i); n++ {
			took[i]++
		}
	}
	for b.take(0) {
		took[0]++
	}
	sum := took[0] + took[1] + took[2]
	if most := BytesMax / recordBytes; sum > most || sum < most-threads*leaseWrites {
		t.Errorf("%v writes of %d", took, most)
	}
}
