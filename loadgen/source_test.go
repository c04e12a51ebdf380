package loadgen

import (
	"bytes"
	"sync/atomic"

	"github.com/nexuscore-labs/nexus/frame"
	"github.com/nexuscore-labs/nexus/loadgen/codec"
	"github.com/nexuscore-labs/nexus/loadgen/keys"
)

// echoSource sends pings whose payload follows from (seed, stream, n) and
// demands them back.
type echoSource struct {
	seed     uint64
	next     []uint64 // per stream
	body     []byte
	expected []byte
	totals   *totals
}

// totals are what the sources of all workers saw, for the accounting tests.
type totals struct {
	stated, judged, unanswered atomic.Uint64
}

func newEchoSource(streams, bodyLen int) *echoSource {
	return &echoSource{seed: 7, next: make([]uint64, streams), body: make([]byte, bodyLen), expected: make([]byte, bodyLen), totals: &totals{}}
}

func (s *echoSource) Fork(worker, workers int) Source {
	return &echoSource{seed: s.seed, next: make([]uint64, len(s.next)), body: make([]byte, len(s.body)), expected: make([]byte, len(s.body)), totals: s.totals}
}

func (s *echoSource) Next(stream uint32, op *Op) {
	op.Kind, op.Token, op.Body = uint8(frame.KindPing), s.next[stream], s.body
	keys.Payload(s.body, s.seed, uint64(stream), op.Token)
	s.next[stream]++
	s.totals.stated.Add(1)
}

func (s *echoSource) Check(stream uint32, token uint64, reply *Reply) Judgement {
	if reply == nil {
		s.totals.unanswered.Add(1)
		return Wrong // must be ignored
	}
	s.totals.judged.Add(1)
	if reply.Status != 0 {
		return Refused
	}
	keys.Payload(s.expected, s.seed, uint64(stream), token)
	if !bytes.Equal(reply.Body, s.expected) {
		return Wrong
	}
	return Right
}

// fixedSource sends the same request and expects the same answer.
type fixedSource struct {
	op   Op
	want string
}

func (s *fixedSource) Next(stream uint32, op *Op) { *op = s.op; op.Stream = stream }

func (s *fixedSource) Check(_ uint32, _ uint64, reply *Reply) Judgement {
	if reply == nil || reply.Status != 0 || string(reply.Body) != s.want {
		return Wrong
	}
	return Right
}

// sourceFor gives the null server's counterpart for a codec.
func sourceFor(name string, streams, bodyLen int) Source {
	switch name {
	case "http1":
		return &fixedSource{op: Op{Kind: codec.HTTPGet, Key: []byte("/")}, want: "ok"}
	case "resp":
		return &fixedSource{op: Op{Kind: codec.RESPGet, Key: []byte("k")}, want: "OK"}
	}
	return newEchoSource(streams, bodyLen)
}
