package day07

import (
	"encoding/binary"
	"math/bits"
	"slices"

	"github.com/nexuscore-labs/nexus/loadgen/keys"
)

// recordHeaderLen is the part of a record that says who wrote it:
//
//	offset size field
//	0      4    magic "NXR7"
//	4      4    writer
//	8      8    n, the writer's own count from 0
//
// The rest of a record follows from the seed, the writer and n, so the oracle
// recomputes it instead of remembering it.
const recordHeaderLen = 16

const recordMagic = 0x3752584e

// recordShape says how long records are, bytes, both ends included.
type recordShape struct {
	seed           uint64
	lenMin, lenMax int
	writers        int
}

// length draws record n of a writer: uniform between the shape's bounds.
func (s recordShape) length(writer uint32, n uint64) int {
	span := uint64(s.lenMax - s.lenMin + 1)
	high, _ := bits.Mul64(keys.Mix(keys.Mix(s.seed+uint64(writer))+n), span)
	return s.lenMin + int(high)
}

// append appends record n of a writer to dst.
func (s recordShape) append(dst []byte, writer uint32, n uint64) []byte {
	length := s.length(writer, n)
	dst = binary.LittleEndian.AppendUint32(dst, recordMagic)
	dst = binary.LittleEndian.AppendUint32(dst, writer)
	dst = binary.LittleEndian.AppendUint64(dst, n)
	body := len(dst)
	dst = slices.Grow(dst, length-recordHeaderLen)[:body+length-recordHeaderLen]
	keys.Payload(dst[body:], s.seed, uint64(writer), n)
	return dst
}

// author reads who wrote a record.
func author(record []byte) (writer uint32, n uint64, ok bool) {
	if len(record) < recordHeaderLen || binary.LittleEndian.Uint32(record) != recordMagic {
		return 0, 0, false
	}
	return binary.LittleEndian.Uint32(record[4:]), binary.LittleEndian.Uint64(record[8:]), true
}
