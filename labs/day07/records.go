package day07

import (
	"encoding/binary"
	"math"
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

// recordShape says how long records are and how many write them.
type recordShape struct {
	seed           uint64
	sizes          string // constant, uniform or loguniform between the two, which are included
	lenMin, lenMax int    // bytes
	writers        int
}

// length draws record n of a writer.
func (s recordShape) length(writer uint32, n uint64) int {
	random := keys.Mix(keys.Mix(s.seed+uint64(writer)) + n)
	if s.sizes == sizesLogUniform {
		share := float64(random>>11) / (1 << 53)
		length := float64(s.lenMin) * math.Pow(float64(s.lenMax+1)/float64(s.lenMin), share)
		return min(int(length), s.lenMax)
	}
	high, _ := bits.Mul64(random, uint64(s.lenMax-s.lenMin+1))
	return s.lenMin + int(high)
}

// sizesLogUniform spreads the logarithm of sizes evenly: as many records from
// 100 to 200 bytes as from 2,000 to 4,000.
const sizesLogUniform = "loguniform"

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
