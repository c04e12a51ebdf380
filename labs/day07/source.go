package day07

import (
	"encoding/binary"
	"fmt"

	"github.com/nexuscore-labs/nexus/frame"
	"github.com/nexuscore-labs/nexus/loadgen"
)

// source states the appends of one trial and remembers what was acknowledged.
// Each writer's state is its own, so workers that own different writers need
// no lock.
type source struct {
	shape   recordShape
	tenants picker
	writers []writerState
}

// writerState is one writer: how much it has asked for and what it was told.
type writerState struct {
	next    uint64 // n of the next record
	body    []byte // of the request under way
	acks    []ack
	problem string // what was wrong with the first wrong answer
}

// ack is one acknowledgement: record n is durable as number seq of its tenant.
type ack struct {
	n   uint64
	seq uint64
}

// picker draws a tenant from a random number, the same for equal numbers.
type picker interface{ Pick(random uint64) uint64 }

func newSource(shape recordShape, tenants picker) *source {
	return &source{shape: shape, tenants: tenants, writers: make([]writerState, shape.writers)}
}

// tenant is who record n of a writer belongs to.
func (s *source) tenant(writer uint32, n uint64) uint32 {
	return uint32(s.tenants.Pick(mix(mix(s.shape.seed^0x7e0a) + uint64(writer)<<40 + n)))
}

// Next states the writer's next record.
func (s *source) Next(stream uint32, op *loadgen.Op) {
	w := &s.writers[stream]
	w.body = s.shape.append(w.body[:0], stream, w.next)
	op.Kind = uint8(frame.KindAppend)
	op.Stream = stream
	op.Tenant = s.tenant(stream, w.next)
	op.Token = w.next
	op.Body = w.body
	w.next++
}

// Check takes an acknowledgement: a sequence number that starts at 1.
func (s *source) Check(stream uint32, token uint64, reply *loadgen.Reply) loadgen.Judgement {
	w := &s.writers[stream]
	if reply == nil || reply.Status != uint8(frame.StatusOK) {
		return loadgen.Refused
	}
	if len(reply.Body) != 8 || token >= w.next {
		return w.wrong("writer %d record %d: acknowledgement of %d bytes", stream, token, len(reply.Body))
	}
	seq := binary.LittleEndian.Uint64(reply.Body)
	if seq == 0 {
		return w.wrong("writer %d record %d: acknowledged as number 0", stream, token)
	}
	w.acks = append(w.acks, ack{n: token, seq: seq})
	return loadgen.Right
}

func (w *writerState) wrong(format string, args ...any) loadgen.Judgement {
	if w.problem == "" {
		w.problem = fmt.Sprintf(format, args...)
	}
	return loadgen.Wrong
}
