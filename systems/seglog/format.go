package seglog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

const (
	// BlockBytes is what batches are aligned to: a page of the page cache and
	// a block of the file system, so an acknowledged block is never written again.
	BlockBytes = 4096

	formatVersion    = 1
	segmentHeaderLen = BlockBytes
	batchHeaderLen   = 40
	recordHeaderLen  = 24
	recordAlign      = 8

	segmentMagic = 0x31474f4c4753584e // "NXSGLOG1", little-endian
	batchMagic   = 0x4854424e         // "NBTH"
)

// Bounds of what a log accepts; a file that claims more is corrupt.
const (
	SegmentBytesMin = 64 << 10
	SegmentBytesMax = 1 << 31
	BatchBytesMin   = 2 * BlockBytes
	BatchBytesMax   = 16 << 20
)

// ErrCorrupt is what every CorruptError is.
var ErrCorrupt = errors.New("seglog: corrupt log")

// CorruptError says where stored bytes are not what was acknowledged. The log
// is left untouched: what to do with it is the operator's decision.
type CorruptError struct {
	File   string
	Offset int64 // bytes from the start of File
	Reason string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("seglog: corrupt log: %s at offset %d: %s", e.File, e.Offset, e.Reason)
}

// Is makes errors.Is(err, ErrCorrupt) true.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// segmentHeader is the first block of a segment. It is durable before the file
// gets its name, so a named segment without a valid header is corrupt.
type segmentHeader struct {
	id        uint64
	salt      uint64 // random per life of the file; part of every checksum
	base      uint64 // position of the file's first byte in the endless log
	capacity  int64  // bytes that the file was given; the next segment's base is base+capacity
	createdNs int64  // Unix time
}

func (h *segmentHeader) encode(dst []byte) {
	clear(dst[:segmentHeaderLen])
	le := binary.LittleEndian
	le.PutUint64(dst[0:], segmentMagic)
	le.PutUint32(dst[8:], formatVersion)
	le.PutUint32(dst[12:], BlockBytes)
	le.PutUint64(dst[16:], h.id)
	le.PutUint64(dst[24:], h.salt)
	le.PutUint64(dst[32:], h.base)
	le.PutUint64(dst[40:], uint64(h.capacity))
	le.PutUint64(dst[48:], uint64(h.createdNs))
	le.PutUint32(dst[56:], crc32.Checksum(dst[:56], castagnoli))
}

func decodeSegmentHeader(src []byte) (segmentHeader, error) {
	le := binary.LittleEndian
	if len(src) < segmentHeaderLen {
		return segmentHeader{}, fmt.Errorf("segment header cut short: %d bytes", len(src))
	}
	if le.Uint64(src) != segmentMagic {
		return segmentHeader{}, fmt.Errorf("not a segment: magic %#x", le.Uint64(src))
	}
	if le.Uint32(src[56:]) != crc32.Checksum(src[:56], castagnoli) {
		return segmentHeader{}, errors.New("segment header checksum mismatch")
	}
	if v := le.Uint32(src[8:]); v != formatVersion {
		return segmentHeader{}, fmt.Errorf("format version %d, this program reads %d", v, formatVersion)
	}
	if b := le.Uint32(src[12:]); b != BlockBytes {
		return segmentHeader{}, fmt.Errorf("block size %d, this program reads %d", b, BlockBytes)
	}
	h := segmentHeader{
		id:        le.Uint64(src[16:]),
		salt:      le.Uint64(src[24:]),
		base:      le.Uint64(src[32:]),
		capacity:  int64(le.Uint64(src[40:])),
		createdNs: int64(le.Uint64(src[48:])),
	}
	if h.capacity < SegmentBytesMin || h.capacity > SegmentBytesMax || h.capacity%BlockBytes != 0 {
		return segmentHeader{}, fmt.Errorf("segment capacity %d out of range", h.capacity)
	}
	return h, nil
}

// batchHeader precedes the records that one commit made durable together.
type batchHeader struct {
	position uint64 // where it stands in the endless log
	durable  uint64 // all below was durable before this batch was submitted
	length   uint32 // bytes of records, without header and padding
	count    uint32 // records
	timeNs   int64  // Unix time of the commit, for retention by age
}

func (h *batchHeader) encode(dst []byte, salt uint64) {
	le := binary.LittleEndian
	le.PutUint32(dst[0:], batchMagic)
	le.PutUint64(dst[8:], h.position)
	le.PutUint64(dst[16:], h.durable)
	le.PutUint32(dst[24:], h.length)
	le.PutUint32(dst[28:], h.count)
	le.PutUint64(dst[32:], uint64(h.timeNs))
	le.PutUint32(dst[4:], crc32.Update(seed(salt, h.position), castagnoli, dst[8:batchHeaderLen]))
}

// decodeBatchHeader accepts only a header of this salt at this position.
func decodeBatchHeader(src []byte, salt, position uint64) (batchHeader, bool) {
	le := binary.LittleEndian
	if len(src) < batchHeaderLen || le.Uint32(src) != batchMagic || le.Uint64(src[8:]) != position {
		return batchHeader{}, false
	}
	if le.Uint32(src[4:]) != crc32.Update(seed(salt, position), castagnoli, src[8:batchHeaderLen]) {
		return batchHeader{}, false
	}
	h := batchHeader{
		position: position,
		durable:  le.Uint64(src[16:]),
		length:   le.Uint32(src[24:]),
		count:    le.Uint32(src[28:]),
		timeNs:   int64(le.Uint64(src[32:])),
	}
	if h.length > BatchBytesMax || h.length%recordAlign != 0 || h.durable > position ||
		uint64(h.count)*recordHeaderLen > uint64(h.length) {
		return batchHeader{}, false
	}
	return h, true
}

// extent is what the batch takes in the file, padding included.
func (h *batchHeader) extent() int64 { return alignUp(batchHeaderLen+int64(h.length), BlockBytes) }

// record is one decoded record. payload aliases the buffer it was read from.
type record struct {
	tenant  uint32
	prev    uint32 // offset in the segment of the tenant's previous record there, 0 if none
	seq     uint64
	payload []byte
}

func recordExtent(payload int) int { return alignUp(recordHeaderLen+payload, recordAlign) }

// encode writes the record at dst, whose place in the log is position.
func (r *record) encode(dst []byte, salt, position uint64) {
	le := binary.LittleEndian
	n := recordHeaderLen + len(r.payload)
	le.PutUint32(dst[4:], uint32(len(r.payload)))
	le.PutUint32(dst[8:], r.tenant)
	le.PutUint32(dst[12:], r.prev)
	le.PutUint64(dst[16:], r.seq)
	copy(dst[recordHeaderLen:], r.payload)
	clear(dst[n:recordExtent(len(r.payload))])
	le.PutUint32(dst[0:], crc32.Update(seed(salt, position), castagnoli, dst[4:n]))
}

// decodeRecord reads the record at the start of src and returns its extent.
func decodeRecord(src []byte, salt, position uint64) (record, int, bool) {
	if len(src) < recordHeaderLen {
		return record{}, 0, false
	}
	le := binary.LittleEndian
	length := int(le.Uint32(src[4:]))
	if length > len(src)-recordHeaderLen {
		return record{}, 0, false
	}
	end := recordHeaderLen + length
	if le.Uint32(src) != crc32.Update(seed(salt, position), castagnoli, src[4:end]) {
		return record{}, 0, false
	}
	extent := recordExtent(length)
	if extent > len(src) {
		return record{}, 0, false
	}
	return record{
		tenant:  le.Uint32(src[8:]),
		prev:    le.Uint32(src[12:]),
		seq:     le.Uint64(src[16:]),
		payload: src[recordHeaderLen:end:end],
	}, extent, true
}

// decodeChecked is decodeRecord for bytes whose checksum was verified before.
func decodeChecked(src []byte) (record, int) {
	le := binary.LittleEndian
	end := recordHeaderLen + int(le.Uint32(src[4:]))
	return record{
		tenant:  le.Uint32(src[8:]),
		prev:    le.Uint32(src[12:]),
		seq:     le.Uint64(src[16:]),
		payload: src[recordHeaderLen:end:end],
	}, alignUp(end, recordAlign)
}

// seed starts a checksum. Salt and position are mixed in (the finaliser of
// splitmix64), so bytes of an earlier life of the file, or of another place in
// it, do not pass.
func seed(salt, position uint64) uint32 {
	x := salt + position*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return uint32(x ^ x>>31)
}

func alignUp[T int | int64 | uint64](n, to T) T { return (n + to - 1) &^ (to - 1) }
