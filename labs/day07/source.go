package day07

import (
	"encoding/binary"
	"fmt"

	"github.com/nexuscore-labs/nexus/frame"
	"github.com/nexuscore-labs/nexus/loadgen"
	"github.com/nexuscore-labs/nexus/loadgen/keys"
)

// source states the appends of one trial and remembers what was acknowledged.
// Each writer's state is its own, so workers that own different writers need
// no lock.
type source struct {
	shape   recordShape
	writers []writerState
}

// writerState is one writer: how much it has asked for and what it was told.
type writerState struct {
	picker  keys.Picker
	tenants []uint32 // of record 0, 1, … as asked for
	body    []byte   // of the request under way
	acks    []ack
	problem string // what was wrong with the first wrong answer
}

// ack is one acknowledgement: record n is durable as number seq of its tenant.
type ack struct {
	n   uint64
	seq uint64
}

// newSource gives each writer the picker that pickerOf makes for it.
func newSource(shape recordShape, pickerOf func(writer uint64) (keys.Picker, error)) (*source, error) {
	s := &source{shape: shape, writers: make([]writerState, shape.writers)}
	for writer := range s.writers {
		tenants, err := pickerOf(uint64(writer))
		if err != nil {
			return nil, err
		}
		s.writers[writer].picker = tenants
	}
	return s, nil
}

// asked reports whether a writer has asked for its record n, and for which tenant.
func (s *source) asked(writer uint32, n uint64) (tenant uint32, ok bool) {
	if int64(writer) >= int64(len(s.writers)) || n >= uint64(len(s.writers[writer].tenants)) {
		return 0, false
	}
	return s.writers[writer].tenants[n], true
}

// Next states the writer's next record.
func (s *source) Next(stream uint32, op *loadgen.Op) {
	w := &s.writers[stream]
	n := uint64(len(w.tenants))
	w.tenants = append(w.tenants, uint32(w.picker.Pick()))
	w.body = s.shape.append(w.body[:0], stream, n)
	op.Kind = uint8(frame.KindAppend)
	op.Stream = stream
	op.Tenant = w.tenants[n]
	op.Token = n
	op.Body = w.body
}

// Check takes an acknowledgement: a sequence number that starts at 1.
func (s *source) Check(stream uint32, token uint64, reply *loadgen.Reply) loadgen.Judgement {
	w := &s.writers[stream]
	if reply == nil || reply.Status != uint8(frame.StatusOK) {
		return loadgen.Refused
	}
	if len(reply.Body) != 8 || token >= uint64(len(w.tenants)) {
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
