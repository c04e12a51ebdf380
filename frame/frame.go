// Package frame is the project's binary request/response protocol: what the
// load generator sends to a contender and what a contender answers.
//
// A frame is a fixed 24-byte little-endian header followed by a body:
//
//	offset size field
//	0      4    length of everything after this field (20 + len(body))
//	4      1    version, 1
//	5      1    kind: an operation, or that operation | KindReply in an answer
//	6      1    status, 0 in a request
//	7      1    flags: FlagUnchecked or 0 (receivers refuse others)
//	8      8    id, chosen by the client and echoed in the answer
//	16     4    tenant
//	20     4    CRC32C of bytes 4..20 and of the body, or 0 with FlagUnchecked
//
// The same bytes travel over TCP, unix and UDP sockets; over UDP a datagram
// holds whole frames. A frame with FlagUnchecked is a datagram by itself, which
// its own UDP checksum covers: see ParseDatagram.
package frame

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

const (
	// HeaderLen is the size of a frame without its body, in bytes.
	HeaderLen = 24
	// BodyLenMax bounds the body, in bytes, so that a bad length is refused
	// before anything is allocated for it.
	BodyLenMax = 16 << 20
	// Version is the only version that this package reads and writes.
	Version = 1
)

// Kind says what a frame asks for. KindReply is set in the answer to it.
type Kind uint8

const (
	KindPing   Kind = 1 // body echoed
	KindAppend Kind = 2 // body: the record; answer body: u64 sequence
	KindRead   Kind = 3 // body: u64 sequence; answer body: the record
	KindTail   Kind = 4 // body: u64 first sequence, u32 max records; answer body: records, each u32 length and bytes
	// KindGet asks for a projection. Body: u32 projection, then padding to be
	// ignored: an answer from within the driver is never longer than its request.
	// Answer body: u64 version, u32 snapshot version, then the projection.
	KindGet Kind = 5
	// KindQuery asks a graph; the graph's own package defines its bodies.
	KindQuery Kind = 6

	KindReply Kind = 0x80
)

// FlagUnchecked says that the checksum is 0: the frame is one whole datagram and
// relies on that datagram's UDP checksum. An answer carries its request's flag.
const FlagUnchecked = 1

// Status is the outcome carried by an answer.
type Status uint8

const (
	StatusOK          Status = 0
	StatusMalformed   Status = 1 // the frame or its body does not parse
	StatusTooLarge    Status = 2 // the record exceeds the server's limit
	StatusUnknown     Status = 3 // unknown tenant, sequence or operation
	StatusUnavailable Status = 4 // the server is draining or its store failed
	StatusDiskFull    Status = 5 // nothing was stored; space may come back
	StatusOverloaded  Status = 6 // shed by a bounded queue; nothing was stored
	StatusRejected    Status = 7 // the tenant's own validation refused the record
)

func (s Status) String() string {
	names := [...]string{"ok", "malformed", "too large", "unknown", "unavailable", "disk full", "overloaded", "rejected"}
	if int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("status %d", uint8(s))
}

// Frame is one decoded frame. Body aliases the buffer it was parsed from.
type Frame struct {
	Kind   Kind
	Status Status
	Flags  uint8 // 0 or FlagUnchecked
	Tenant uint32
	ID     uint64
	Body   []byte
}

// Errors of Parse. A stream cannot be resynchronised after any of them.
var (
	ErrVersion  = errors.New("frame: unknown version")
	ErrLength   = errors.New("frame: length out of range")
	ErrChecksum = errors.New("frame: checksum mismatch")
	ErrFlags    = errors.New("frame: flags are unknown, or not for this transport")
	ErrPartial  = errors.New("frame: a datagram is not one whole frame")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Append appends the wire form of f to dst and returns the extended slice.
// It allocates only when dst lacks room.
func Append(dst []byte, f Frame) []byte {
	start := len(dst)
	var header [HeaderLen]byte
	dst = append(dst, header[:]...)
	dst = append(dst, f.Body...)
	Seal(dst[start:], f)
	return dst
}

// Seal makes whole a frame whose body stands behind HeaderLen bytes of room, so
// that a body can be made in its place: it writes the header, f.Body is not used.
func Seal(whole []byte, f Frame) {
	binary.LittleEndian.PutUint32(whole[0:], uint32(len(whole)-4))
	whole[4] = Version
	whole[5] = byte(f.Kind)
	whole[6] = byte(f.Status)
	whole[7] = f.Flags
	binary.LittleEndian.PutUint64(whole[8:], f.ID)
	binary.LittleEndian.PutUint32(whole[16:], f.Tenant)
	sum := uint32(0)
	if f.Flags&FlagUnchecked == 0 {
		sum = checksum(whole)
	}
	binary.LittleEndian.PutUint32(whole[20:], sum)
}

// Parse reads the first frame of src. It returns the frame and the number of
// bytes that it took, or 0 bytes and no error when src holds only part of one.
// It refuses frames with flags, which no stream may carry.
func Parse(src []byte) (Frame, int, error) {
	return parse(src, 0)
}

// ParseDatagram reads a datagram that is exactly one frame, checked or
// FlagUnchecked.
func ParseDatagram(src []byte) (Frame, error) {
	f, n, err := parse(src, FlagUnchecked)
	if err == nil && (n == 0 || n != len(src)) {
		err = ErrPartial
	}
	if err != nil {
		return Frame{}, err
	}
	return f, nil
}

func parse(src []byte, flags uint8) (Frame, int, error) {
	if len(src) < 4 {
		return Frame{}, 0, nil
	}
	length := binary.LittleEndian.Uint32(src)
	if length < HeaderLen-4 || length > HeaderLen-4+BodyLenMax {
		return Frame{}, 0, fmt.Errorf("%w: %d", ErrLength, length)
	}
	total := int(length) + 4
	if len(src) >= 5 && src[4] != Version {
		return Frame{}, 0, fmt.Errorf("%w: %d", ErrVersion, src[4])
	}
	if len(src) < total {
		return Frame{}, 0, nil
	}
	if src[7]&^flags != 0 {
		return Frame{}, 0, fmt.Errorf("%w: %#x", ErrFlags, src[7])
	}
	want := uint32(0)
	if src[7] == 0 {
		want = checksum(src[:total])
	}
	if binary.LittleEndian.Uint32(src[20:]) != want {
		return Frame{}, 0, ErrChecksum
	}
	return Frame{
		Kind:   Kind(src[5]),
		Status: Status(src[6]),
		Flags:  src[7],
		ID:     binary.LittleEndian.Uint64(src[8:]),
		Tenant: binary.LittleEndian.Uint32(src[16:]),
		Body:   src[HeaderLen:total:total],
	}, total, nil
}

// checksum covers a whole frame but its length and the checksum itself.
func checksum(whole []byte) uint32 {
	sum := crc32.Update(0, castagnoli, whole[4:20])
	return crc32.Update(sum, castagnoli, whole[HeaderLen:])
}
