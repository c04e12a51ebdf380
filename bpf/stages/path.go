package stages

// Stage is a part of a request's latency.
type Stage uint8

// The stages, in the order in which a request passes them. Those from RunQueue
// to BlockedOther are the contender's own and interleave.
const (
	ScheduleLag  Stage = iota // due until the generator sent it
	Generator                 // the generator's own: until the last byte passed IP, and from the answer's arrival at the socket until it was read
	NetworkIn                 // until the request was at the contender's socket and the wake-up for it was out
	RunQueue                  // runnable, waiting for a CPU
	OnCPU                     // on a CPU, other requests' work included that came first
	BlockedDisk               // waiting for block I/O
	BlockedLock               // waiting for a kernel lock that another of its threads held
	BlockedSleep              // waiting for a timer
	BlockedOther              // waiting for another process, a socket, or what the log doesn't tell
	NetworkOut                // until the answer was at the client's socket
	Unexplained               // inside the contender, where the log has holes
	StageCount
)

var stageNames = [StageCount]string{
	"schedule lag", "generator", "network in", "run queue", "on CPU", "blocked: disk", "blocked: lock",
	"blocked: sleep", "blocked: other", "network out", "unexplained",
}

func (s Stage) String() string { return stageNames[s] }

const depthMax = 64 // bounds a chain of waits; a real one has a handful

// Breakdown is the time in each stage, ns.
type Breakdown [StageCount]int64

// Sum is the time in all stages.
func (b *Breakdown) Sum() int64 {
	var sum int64
	for _, ns := range b {
		sum += ns
	}
	return sum
}

// path splits the time from startNs to endNs, at which thread sent, along the
// critical path, backwards: a thread's time on a CPU and in the run queue is what
// it is; a wait that another thread of the contender ended is charged with what
// that thread did meanwhile; a wait that an interrupt ended is named by it. So a
// hand-off to a thread that waits for the disk is disk time, and a mutex is what
// its holder did. What it adds to out is endNs-startNs exactly.
func path(lines map[uint32]timeline, thread uint32, startNs, endNs int64, out *Breakdown) {
	w := walker{lines: lines, arrivedNs: startNs, out: out}
	w.walk(lines[thread], startNs, endNs, depthMax)
}

// walker walks one request's path.
type walker struct {
	lines     map[uint32]timeline
	arrivedNs int64
	out       *Breakdown
}

// walk charges what the thread of line did from fromNs to toNs. A wait within a
// wait is shorter, and its waker waits for none of those that wait for it: depth
// only guards against a log that contradicts itself.
func (w *walker) walk(line timeline, fromNs, toNs int64, depth int) {
	for at := toNs; at > fromNs; {
		i := line.at(at)
		if i < 0 || depth == 0 {
			w.out[Unexplained] += at - fromNs
			return
		}
		s := &line[i]
		start := max(s.startNs, fromNs)
		if next, ok := w.handedOver(line, i, at); ok {
			w.walk(next, start, at, depth-1)
		} else {
			w.out[stageOf(s, w.arrivedNs)] += at - start
		}
		at = start
	}
}

// handedOver gives the timeline of the thread that ended the wait i of line, if
// that thread is the contender's and did it in a context of its own.
func (w *walker) handedOver(line timeline, i int, at int64) (timeline, bool) {
	s := &line[i]
	if s.state != blocked || !s.woken || s.waker == 0 || s.context != Thread {
		return nil, false
	}
	if s.flags&(Uninterruptible|IOWait) != 0 {
		return nil, false // a kernel lock: named as such
	}
	if i+1 >= len(line) || line[i+1].startNs != at {
		return nil, false // the walk comes from the middle of the wait
	}
	next := w.lines[s.waker]
	k := next.at(at)
	if k < 0 || next[k].state != running {
		return nil, false
	}
	return next, true
}

// isTimer tells the contexts in which timers expire. The soft interrupts' own count
// where a hard one's timer came in between.
func isTimer(context uint8) bool {
	return context == Timer || context == TimerSoftirq || context == HrtimerSoftirq
}

// stageOf names a stretch that is walked from its end; startNs is when the
// request came.
func stageOf(s *stretch, startNs int64) Stage {
	switch s.state {
	case running:
		return OnCPU
	case runnable:
		return RunQueue
	case unknown:
		return Unexplained
	}
	switch {
	case isTimer(s.context) && s.flags&(Uninterruptible|IOWait) == 0:
		return BlockedSleep
	case s.flags&IOWait != 0:
		return BlockedDisk
	case s.flags&Uninterruptible != 0 && s.waker != 0 && s.context == Thread:
		return BlockedLock
	case s.flags&Uninterruptible != 0:
		return BlockedDisk
	case s.context == NetRx && s.startNs < startNs:
		// It waited for requests when this one came: until the wake-up that is
		// still the network's delivery.
		return NetworkIn
	case s.context == Hardirq, s.context == Block:
		return BlockedDisk
	}
	return BlockedOther
}
