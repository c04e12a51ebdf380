package stages

import (
	"sort"

	"golang.org/x/sys/unix"
)

// state is what a thread does over a stretch of time.
type state uint8

const (
	unknown state = iota
	running
	runnable
	blocked
)

// stretch is one state of one thread, from startNs to the next stretch's start.
type stretch struct {
	startNs int64
	state   state
	// Of blocked: how it waited, and what ended the wait.
	flags   uint8
	context uint8
	call    uint32
	woken   bool
	waker   uint32
}

// timeline is what one thread did, in order.
type timeline []stretch

// at returns the index of the stretch that holds the moment just before ns, -1
// before the first.
func (t timeline) at(ns int64) int {
	return sort.Search(len(t), func(i int) bool { return t[i].startNs >= ns }) - 1
}

// recorder builds one thread's timeline.
type recorder struct {
	line timeline
	// A wake-up is often decided while its thread still is on its way off the
	// CPU: it counts for the wait that begins then.
	early   Event
	isEarly bool
	// The scheduler's account of the thread's run time at its last switch off a CPU.
	ranNs  uint32
	ranSet bool
	// When the thread was first seen at work though the log has it off the CPU.
	activeNs int64
}

func (r *recorder) now() *stretch {
	if len(r.line) == 0 {
		return nil
	}
	return &r.line[len(r.line)-1]
}

func (r *recorder) begin(s stretch) { r.line = append(r.line, s) }

func (r *recorder) note(e *Event) {
	now := r.now()
	switch e.Kind {
	case In:
		if now == nil {
			// Had it been woken since logging began, the log would say so.
			r.begin(stretch{startNs: 0, state: runnable})
		} else if now.state == blocked {
			r.overtaken(now)
		}
		r.isEarly, r.activeNs = false, 0
		r.begin(stretch{startNs: e.Ns, state: running})
	case Out:
		next := stretch{startNs: e.Ns, state: blocked, flags: e.Flags, call: uint32(e.Value)}
		if e.Flags&Runnable != 0 {
			next.state = runnable
		}
		if now == nil {
			r.begin(stretch{startNs: 0, state: running})
		} else if now.state != running {
			r.unseen(now, e)
		}
		r.ranNs, r.ranSet, r.activeNs = e.Len, true, 0
		r.begin(next)
	case Wake:
		switch {
		case now == nil:
			r.begin(stretch{startNs: 0, state: blocked, woken: true, waker: e.Other, context: e.Context})
			r.begin(stretch{startNs: e.Ns, state: runnable})
		case now.state == blocked:
			now.woken, now.waker, now.context = true, e.Other, e.Context
			r.begin(stretch{startNs: e.Ns, state: runnable})
		case now.state == running:
			r.early, r.isEarly = *e, true
		}
	}
}

// active notes that the thread woke another or sent: it has a CPU.
func (r *recorder) active(ns int64) {
	if now := r.now(); now != nil && now.state != running && r.activeNs == 0 {
		r.activeNs = ns
	}
}

// unseen puts in the switch onto a CPU that the log lacks: now and then Linux 6.18
// tells for milliseconds of no wake-up and no switch of one CPU (why is not known;
// docs/RATIONALE.md has what was seen). When the thread went on is known from how
// long it ran until now, which the scheduler keeps count of without the time that
// a hypervisor took, and was no later than what it was seen to do.
func (r *recorder) unseen(now *stretch, e *Event) {
	at := e.Ns - int64(e.Len-r.ranNs)
	if r.activeNs != 0 {
		at = min(at, r.activeNs)
	}
	if now.state == unknown || !r.ranSet || at < now.startNs {
		now.state = unknown
		return
	}
	if now.state == blocked {
		now.unwoken()
	}
	r.begin(stretch{startNs: at, state: running})
}

// overtaken ends a wait whose wake-up came before the switch off the CPU was
// seen: the thread was runnable all along. Without such a wake-up the log lacks it.
func (r *recorder) overtaken(now *stretch) {
	if r.isEarly {
		now.state = runnable
		return
	}
	now.unwoken()
}

// unwoken judges a wait of which the log has no wake-up: what it was for is known
// where nothing but time ends it, and then it counts as long as until the thread
// ran, a wait for a CPU at its end included.
func (s *stretch) unwoken() {
	if s.call != unix.SYS_NANOSLEEP && s.call != unix.SYS_CLOCK_NANOSLEEP {
		s.state = unknown
		return
	}
	s.woken, s.context = true, Timer
}

// timelines builds all threads' from a log.
func timelines(log *Log) map[uint32]timeline {
	recorders := map[uint32]*recorder{}
	for i := range log.Events {
		e := &log.Events[i]
		if r := recorders[e.Other]; r != nil && (e.Kind == Wake || e.Kind == ServerTx) {
			r.active(e.Ns)
		}
		if e.Kind > Wake {
			continue
		}
		r := recorders[e.Who]
		if r == nil {
			r = &recorder{}
			recorders[e.Who] = r
		}
		r.note(e)
	}
	out := make(map[uint32]timeline, len(recorders))
	for who, r := range recorders {
		out[who] = r.line
	}
	return out
}
