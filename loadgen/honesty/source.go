package honesty

import (
	"encoding/binary"

	"github.com/nexuscore-labs/nexus/frame"
	"github.com/nexuscore-labs/nexus/loadgen"
	"github.com/nexuscore-labs/nexus/loadgen/codec"
	"github.com/nexuscore-labs/nexus/loadgen/scriptserver"
)

// source states requests that carry their id, and demands it back. A stream is
// a connection.
type source struct {
	codec string
	next  []int
	text  []byte // of the request under way
	want  []byte
}

func newSource(codecName string, connections int) *source {
	return &source{codec: codecName, next: make([]int, connections)}
}

// Next implements loadgen.Source.
func (s *source) Next(stream uint32, op *loadgen.Op) {
	op.Token = idOf(int(stream), s.next[stream])
	s.next[stream]++
	s.text = s.encode(s.text[:0], op.Token)
	switch s.codec {
	case "http1":
		op.Kind, op.Key = codec.HTTPGet, s.text
	case "resp":
		op.Kind, op.Key = codec.RESPGet, s.text
	default:
		op.Kind, op.Body = uint8(frame.KindPing), s.text
	}
}

func (s *source) encode(dst []byte, id uint64) []byte {
	switch s.codec {
	case "http1":
		return scriptserver.AppendID(append(dst, '/'), id)
	case "resp":
		return scriptserver.AppendID(dst, id)
	}
	return binary.LittleEndian.AppendUint64(dst, id)
}

// Check implements loadgen.Source.
func (s *source) Check(_ uint32, token uint64, reply *loadgen.Reply) loadgen.Judgement {
	if reply == nil {
		return loadgen.Wrong // ignored
	}
	if reply.Status != 0 {
		return loadgen.Refused
	}
	s.want = s.encode(s.want[:0], token)
	if s.codec == "http1" {
		s.want = s.want[1:]
	}
	if string(reply.Body) != string(s.want) {
		return loadgen.Wrong
	}
	return loadgen.Right
}
