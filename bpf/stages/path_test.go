package stages

import (
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
)

// world is a random run of a few threads, one cell per thread and tick, and the
// log that the kernel would have made of it.
type world struct {
	cells [][]cell // by thread - 1
	log   Log
}

type cell struct {
	state  state
	flags  uint8 // of a wait
	wakeAt int   // of a wait: the tick at which it ends; 0: never
	waker  uint32
	ctx    uint8
	since  int
}

const ticks = 120

func newWorld(random *rand.Rand, threads int) *world {
	w := &world{}
	for range threads {
		w.cells = append(w.cells, make([]cell, ticks))
	}
	// Waits need wakers that run at the time, so states are drawn tick by tick.
	now := make([]cell, threads)
	for i := range now {
		now[i] = cell{state: running}
		w.emit(Event{Ns: 0, Kind: In, Who: uint32(i + 1)})
	}
	for tick := 1; tick < ticks; tick++ {
		ran := make([]bool, threads) // just before this tick
		for i := range now {
			ran[i] = now[i].state == running
		}
		for i := range now {
			w.step(random, tick, i, now, ran)
			w.cells[i][tick] = now[i]
		}
	}
	for i := range w.cells {
		w.fillWakes(i)
	}
	w.log.Sort()
	return w
}

func (w *world) emit(e Event) { w.log.Events = append(w.log.Events, e) }

func (w *world) step(random *rand.Rand, tick, i int, now []cell, ran []bool) {
	if random.IntN(4) != 0 {
		return
	}
	e := Event{Ns: int64(tick), Who: uint32(i + 1)}
	switch now[i].state {
	case running:
		e.Kind = Out
		now[i] = cell{state: blocked, since: tick}
		switch random.IntN(4) {
		case 0:
			e.Flags, now[i].state = Runnable, runnable
		case 1:
			e.Flags = Uninterruptible | IOWait
		case 2:
			e.Flags = Uninterruptible
		}
		now[i].flags = e.Flags
	case runnable:
		e.Kind = In
		now[i] = cell{state: running}
	case blocked:
		e.Kind = Wake
		e.Context = []uint8{Thread, Timer, Hardirq, NetRx, Block}[random.IntN(5)]
		if j := random.IntN(len(now)); j != i && ran[j] {
			e.Other = uint32(j + 1)
		}
		now[i] = cell{state: runnable, waker: e.Other, ctx: e.Context}
	}
	w.emit(e)
}

// fillWakes tells each cell of a wait how the wait ends.
func (w *world) fillWakes(i int) {
	line := w.cells[i]
	for tick := ticks - 2; tick > 0; tick-- {
		c, next := &line[tick], line[tick+1]
		if c.state != blocked {
			continue
		}
		if next.state == runnable {
			c.wakeAt, c.waker, c.ctx = tick+1, next.waker, next.ctx
		} else if next.state == blocked {
			c.wakeAt, c.waker, c.ctx = next.wakeAt, next.waker, next.ctx
		}
	}
}

// walk is path's rule, one tick at a time.
func (w *world) walk(thread uint32, start, end int) Breakdown {
	var b Breakdown
	type wait struct {
		thread uint32
		floor  int
	}
	var waits []wait // that are being charged with what others did
	for t := end; t > start; {
		for n := len(waits); n > 0 && t <= waits[n-1].floor; n = len(waits) {
			thread, waits = waits[n-1].thread, waits[:n-1]
		}
		c := w.cells[thread-1][t-1]
		if t-1 == 0 {
			c = cell{state: running}
		}
		free := c.flags&(Uninterruptible|IOWait) == 0
		switch {
		case c.state == running:
			b[OnCPU]++
		case c.state == runnable:
			b[RunQueue]++
		case c.wakeAt == t && c.waker != 0 && c.ctx == Thread && free:
			waits = append(waits, wait{thread, c.since})
			thread = c.waker
			continue
		case c.ctx == Timer && free && c.wakeAt != 0:
			b[BlockedSleep]++
		case c.flags&IOWait != 0:
			b[BlockedDisk]++
		case c.flags&Uninterruptible != 0 && c.waker != 0 && c.ctx == Thread:
			b[BlockedLock]++
		case c.flags&Uninterruptible != 0:
			b[BlockedDisk]++
		case c.ctx == NetRx && c.since < start:
			b[NetworkIn]++
		case c.ctx == Hardirq || c.ctx == Block:
			b[BlockedDisk]++
		default:
			b[BlockedOther]++
		}
		t--
	}
	return b
}

func checkPath(t *testing.T, seed uint64) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 2))
	w := newWorld(random, 1+random.IntN(5))
	lines := timelines(&w.log)
	for range 50 {
		thread := uint32(1 + random.IntN(len(w.cells)))
		start := 1 + random.IntN(ticks-2)
		end := start + random.IntN(ticks-1-start) + 1
		var got Breakdown
		path(lines, thread, int64(start), int64(end), &got)
		if want := w.walk(thread, start, end); got != want {
			t.Fatalf("seed %d: thread %d from %d to %d:\n got %v\nwant %v", seed, thread, start, end, got, want)
		}
		if got.Sum() != int64(end-start) {
			t.Fatalf("seed %d: the stages of %d ticks sum to %d", seed, end-start, got.Sum())
		}
	}
}

func TestPathAgainstEveryTick(t *testing.T) {
	for seed := range uint64(1000) {
		checkPath(t, seed)
	}
}

func FuzzPathAgainstEveryTick(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(checkPath)
}

// Whatever is missing from the log, the stages add up, and holes are shown.
func TestHolesStayUnexplained(t *testing.T) {
	unexplained := int64(0)
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 3))
		w := newWorld(random, 3)
		kept := w.log.Events[:0]
		for _, e := range w.log.Events {
			if random.IntN(5) != 0 {
				kept = append(kept, e)
			}
		}
		lines := timelines(&Log{Events: kept})
		var b Breakdown
		path(lines, 1, 10, ticks-5, &b)
		if b.Sum() != ticks-15 {
			t.Fatalf("seed %d: the stages sum to %d, want %d", seed, b.Sum(), ticks-15)
		}
		unexplained += b[Unexplained]
	}
	if unexplained == 0 {
		t.Error("logs with holes explained everything")
	}
}

func TestAnUnknownThreadIsUnexplained(t *testing.T) {
	var b Breakdown
	path(nil, 0, 5, 25, &b)
	if b[Unexplained] != 20 || b.Sum() != 20 {
		t.Errorf("%v, want 20 unexplained", b)
	}
}

// Work that a thread did before it waited for another stays its own: the runtime's
// monitor sleeps most of the time, and wakes threads that have worked.
func TestAWaitIsChargedWithWhatTheWakerDidMeanwhile(t *testing.T) {
	log := Log{Events: []Event{
		{Ns: 5, Kind: In, Who: 1}, {Ns: 5, Kind: In, Who: 2},
		{Ns: 8, Kind: Out, Who: 2},
		{Ns: 50, Kind: Out, Who: 1},
		{Ns: 58, Kind: Wake, Who: 2, Context: Timer}, {Ns: 59, Kind: In, Who: 2},
		{Ns: 60, Kind: Wake, Who: 1, Other: 2},
		{Ns: 61, Kind: In, Who: 1},
	}}
	var b Breakdown
	path(timelines(&log), 1, 10, 70, &b)
	if want := (Breakdown{OnCPU: 40 + 1 + 9, BlockedSleep: 8, RunQueue: 1 + 1}); b != want {
		t.Errorf("got %v, want %v", b, want)
	}
}

// A thread that was runnable when logging began has no wake-up in the log.
func TestAThreadThatWaitedForACPUFromTheStart(t *testing.T) {
	var b Breakdown
	path(timelines(&Log{Events: []Event{{Ns: 20, Kind: In, Who: 1}}}), 1, 5, 30, &b)
	if b[RunQueue] != 15 || b[OnCPU] != 10 || b.Sum() != 25 {
		t.Errorf("%v, want 15 in the run queue and 10 on a CPU", b)
	}
}

// A switch onto the CPU that the log lacks is found by the thread's run time; one
// that contradicts it stays unexplained.
func TestASwitchThatTheLogLacks(t *testing.T) {
	for _, c := range []struct {
		ran  uint32
		want Breakdown
	}{
		{2, Breakdown{OnCPU: 12, RunQueue: 18}}, // wraps
		{290, Breakdown{Unexplained: 30}},
	} {
		before := uint32(1<<32 - 10)
		log := Log{Events: []Event{
			{Ns: 5, Kind: In, Who: 1},
			{Ns: 10, Kind: Out, Who: 1, Len: before},
			{Ns: 20, Kind: Wake, Who: 1, Context: NetRx},
			{Ns: 50, Kind: Out, Who: 1, Len: c.ran},
		}}
		var b Breakdown
		path(timelines(&log), 1, 20, 50, &b)
		if b != c.want {
			t.Errorf("got %v, want %v", b, c.want)
		}
	}
}

// Where the wake-up is missing, the wait is explained only if nothing but time ends
// it, and reaches to when the thread ran: by the log, by its run time, or by the first
// that it was seen to do.
func TestAWakeUpThatTheLogLacks(t *testing.T) {
	for _, c := range []struct {
		name string
		call uint64
		ran  uint32
		sent int64
		onNs int64 // onto the CPU; 0: the log lacks it too
		want Breakdown
	}{
		{"sleep", unix.SYS_NANOSLEEP, 105, 48, 0, Breakdown{BlockedSleep: 25, OnCPU: 5}},
		{"sleep, switch seen", unix.SYS_CLOCK_NANOSLEEP, 105, 48, 45, Breakdown{BlockedSleep: 25, OnCPU: 5}},
		{"a wait of any kind", unix.SYS_FUTEX, 105, 48, 0, Breakdown{Unexplained: 25, OnCPU: 5}},
		{"a wait of any kind, switch seen", unix.SYS_FUTEX, 105, 48, 45, Breakdown{Unexplained: 25, OnCPU: 5}},
		{"seen before", unix.SYS_NANOSLEEP, 105, 40, 0, Breakdown{BlockedSleep: 20, OnCPU: 10}},
		{"contradiction", unix.SYS_NANOSLEEP, 195, 48, 0, Breakdown{Unexplained: 30}},
	} {
		log := Log{Events: []Event{
			{Ns: 5, Kind: In, Who: 1},
			{Ns: 10, Kind: Out, Who: 1, Len: 100, Value: c.call},
			{Ns: c.sent, Kind: ServerTx, Who: 80, Other: 1},
			{Ns: 50, Kind: Out, Who: 1, Len: c.ran},
		}}
		if c.onNs != 0 {
			log.Events = append(log.Events, Event{Ns: c.onNs, Kind: In, Who: 1})
			log.Sort()
		}
		var b Breakdown
		path(timelines(&log), 1, 20, 50, &b)
		if b != c.want {
			t.Errorf("%s: got %v, want %v", c.name, b, c.want)
		}
	}
}

// A wake-up may be decided while its thread still is on its way off the CPU.
func TestAWakeUpThatOvertakesItsWait(t *testing.T) {
	log := Log{Events: []Event{
		{Ns: 10, Kind: In, Who: 1},
		{Ns: 20, Kind: Wake, Who: 1, Context: NetRx},
		{Ns: 21, Kind: Out, Who: 1},
		{Ns: 25, Kind: In, Who: 1},
	}}
	var b Breakdown
	path(timelines(&log), 1, 12, 30, &b)
	if b[OnCPU] != 14 || b[RunQueue] != 4 || b.Sum() != 18 {
		t.Errorf("%v, want 14 on a CPU and 4 in the run queue", b)
	}
}
