package scenarios

import (
	"sync/atomic"

	"github.com/nexuscore-labs/nexus/loadgen"
)

// heard says whether a contender ever answered, also during the warm-up that no
// result counts: in a closed loop a contender that says nothing is asked
// nothing more, and the measured part is empty.
type heard struct {
	answered   atomic.Bool
	unanswered atomic.Uint64
	counting   bool          // answers are counted, which costs the generator some ns each
	answers    atomic.Uint64 // also those of the warm-up
}

func (h *heard) mute() bool { return !h.answered.Load() && h.unanswered.Load() > 0 }

// listener passes requests and answers on and notes what is heard. It writes to
// shared memory only for the first answer and for those that never came.
type listener struct {
	loadgen.Source
	heard *heard
}

// Check implements loadgen.Source.
func (l listener) Check(stream uint32, token uint64, reply *loadgen.Reply) loadgen.Judgement {
	if reply == nil {
		l.heard.unanswered.Add(1)
	} else if !l.heard.answered.Load() {
		l.heard.answered.Store(true)
	}
	if l.heard.counting && reply != nil {
		l.heard.answers.Add(1)
	}
	return l.Source.Check(stream, token, reply)
}

// forkingListener is a listener of a source that gives each worker its part.
type forkingListener struct {
	listener
	forker loadgen.Forker
}

// Fork implements loadgen.Forker.
func (l forkingListener) Fork(worker, workers int) loadgen.Source {
	return listener{Source: l.forker.Fork(worker, workers), heard: l.heard}
}

func listen(source loadgen.Source, h *heard) loadgen.Source {
	l := listener{Source: source, heard: h}
	if forker, forks := source.(loadgen.Forker); forks {
		return forkingListener{listener: l, forker: forker}
	}
	return l
}
