package stages

import "sort"

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
		r.isEarly = false
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
		r.ranNs, r.ranSet = e.Len, true
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

// unseen puts in the switch onto a CPU that the log lacks. Linux 6.18 doesn't tell
// of about one in some thousand (why is not known); when the thread went on is
// known from how long it ran until now, which the scheduler keeps count of.
func (r *recorder) unseen(now *stretch, e *Event) {
	at := e.Ns - int64(e.Len-r.ranNs)
	if now.state != runnable || !r.ranSet || at < now.startNs {
		now.state = unknown
		return
	}
	r.begin(stretch{startNs: at, state: running})
}

// overtaken ends a wait whose wake-up came before the switch off the CPU was
// seen: the thread was runnable all along. Without such a wake-up the log has a
// hole.
func (r *recorder) overtaken(now *stretch) {
	if !r.isEarly {
		now.state = unknown
		return
	}
	now.state = runnable
}

// timelines builds all threads' from a log.
func timelines(log *Log) map[uint32]timeline {
	recorders := map[uint32]*recorder{}
	for i := range log.Events {
		e := &log.Events[i]
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
