package day20

import (
	"encoding/binary"
	"math/rand/v2"

	"github.com/nexuscore-labs/nexus/frame"
	"github.com/nexuscore-labs/nexus/loadgen"
)

// source states the changes of one trial and remembers what was acknowledged.
// Each writer has records of its own and a state of its own, so workers that own
// different writers need no lock.
type source struct {
	w       workload
	writers []writerState
}

type writerState struct {
	rng     *rand.Rand
	changes []change // as asked for
	acked   []bool
	live    map[uint64]uint64 // meaning of the records that are there, by id
	body    []byte
	wrong   bool
}

func newSource(w workload, seed uint64, writers int) *source {
	s := &source{w: w, writers: make([]writerState, writers)}
	for i := range s.writers {
		s.writers[i] = writerState{rng: rand.New(rand.NewPCG(seed, uint64(i))), live: map[uint64]uint64{}}
	}
	return s
}

// Next states the writer's next change.
func (s *source) Next(stream uint32, op *loadgen.Op) {
	w := &s.writers[stream]
	n := uint64(len(w.changes)) + 1
	c := change{id: uint64(stream)*slotsMax + uint64(w.rng.IntN(s.w.slots)), n: n, meaning: n, rolledBack: w.rng.Float64() < s.w.rolledBack}
	kind := w.rng.Float64()
	if meaning, there := w.live[c.id]; there {
		switch {
		case kind < s.w.small:
			c.op, c.meaning = opSmall, meaning
		case kind < s.w.small+s.w.deleted:
			c.op = opDelete
		}
	}
	if c.op == opDelete {
		delete(w.live, c.id)
	} else {
		w.live[c.id] = c.meaning
	}
	w.changes, w.acked = append(w.changes, c), append(w.acked, false)
	w.body = c.append(w.body[:0])
	op.Kind, op.Stream, op.Tenant, op.Token, op.Body = uint8(frame.KindAppend), stream, stream, n, w.body
}

// Check takes an acknowledgement: the change's n.
func (s *source) Check(stream uint32, token uint64, reply *loadgen.Reply) loadgen.Judgement {
	w := &s.writers[stream]
	if reply == nil || reply.Status != uint8(frame.StatusOK) {
		return loadgen.Refused
	}
	if len(reply.Body) != 8 || binary.LittleEndian.Uint64(reply.Body) != token || token == 0 || token > uint64(len(w.changes)) {
		w.wrong = true
		return loadgen.Wrong
	}
	w.acked[token-1] = true
	return loadgen.Right
}

// allowed returns the states in which a record may be at the end: that of its
// last acknowledged change and of those after it, whose fate is not known.
type allowed struct {
	acked  bool // at least one change of it was
	states []change
}

func (s *source) allowed() map[uint64]*allowed {
	out := map[uint64]*allowed{}
	for i := range s.writers {
		w := &s.writers[i]
		for j, c := range w.changes {
			a := out[c.id]
			if a == nil {
				a = &allowed{}
				out[c.id] = a
			}
			if w.acked[j] {
				// The writer's changes are carried out in order.
				a.acked, a.states = true, a.states[:0]
			}
			a.states = append(a.states, c)
		}
	}
	return out
}
