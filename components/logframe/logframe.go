// Package logframe validates and frames the records of tenants in WebAssembly:
// each tenant has a guest instance of its own, and its state (sequence, newest
// timestamp, rules) lives in that instance's memory.
//
// A framed record is a 24-byte little-endian header and the payload:
//
//	offset size field
//	0      4    CRC32C of all that follows, the payload included
//	4      4    payload length
//	8      8    sequence
//	16     4    tenant
//	20     4    zero
//
// The guest is guest/logframe.c, its interface guest/logframe.wit. It is a core
// module whose exports follow that interface's canonical ABI. Native does the
// same in Go: the tests hold the two against each other, the benchmarks too.
package logframe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

const (
	// HeaderLen is the size of a framed record without its payload, in bytes.
	HeaderLen = 24
	// BatchMax bounds the records of one batch.
	BatchMax = 256
	// BatchLenMax bounds the bytes of one batch and so of one record.
	BatchLenMax = 256 << 10
	// EventHeaderLen is what records of SchemaEvent begin with, in bytes.
	EventHeaderLen = 12
	// eventKindMax is the largest kind of an event.
	eventKindMax = 4
)

// Encoding is what a tenant's payloads hold.
type Encoding uint8

const (
	EncodingBinary Encoding = iota
	EncodingText            // well-formed UTF-8
)

// Schema is the structure of a tenant's payloads.
type Schema uint8

const (
	SchemaNone Schema = iota
	// SchemaEvent: "NX", a kind from 1 to 4, a zero byte, and a little-endian
	// u64 timestamp that never goes back; then what Encoding says.
	SchemaEvent
)

// Policy is a tenant's rules.
type Policy struct {
	LenMin, LenMax uint32 // of a payload, bytes; LenMax 0 means BatchLenMax
	Encoding       Encoding
	Schema         Schema
}

func (p Policy) withDefaults() (Policy, error) {
	if p.LenMax == 0 {
		p.LenMax = BatchLenMax
	}
	if p.LenMax > BatchLenMax || p.LenMin > p.LenMax || p.Encoding > EncodingText || p.Schema > SchemaEvent {
		return p, fmt.Errorf("logframe: policy %+v out of range", p)
	}
	return p, nil
}

// State is what a tenant's next record depends on.
type State struct {
	NextSeq   uint64 // sequence that the next record gets; the first is 1
	Timestamp uint64 // newest one seen, as SchemaEvent has them
}

// Refusal says why a record was not framed.
type Refusal uint8

const (
	Framed Refusal = iota
	TooShort
	TooLong
	NotText
	BadHeader
	TimeWentBack
	// GuestDied: the tenant's guest trapped or ran too long on this record. The
	// guest itself never answers it.
	GuestDied
)

func (r Refusal) String() string {
	names := [...]string{"framed", "too short", "too long", "not UTF-8", "bad event header", "timestamp went back", "guest died"}
	if int(r) < len(names) {
		return names[r]
	}
	return fmt.Sprintf("refusal %d", uint8(r))
}

// Verdict is the outcome of one record.
type Verdict struct {
	Seq       uint64
	Timestamp uint64 // the tenant's newest one after this record
	Framed    []byte // valid until the next call on the tenant; nil if refused
	Refusal   Refusal
}

// Framer frames the records of one tenant. Tenant and Native are Framers. One
// goroutine uses it at a time.
type Framer interface {
	// Frame validates and frames records, at most BatchMax and BatchLenMax bytes,
	// and fills verdicts, which is as long.
	Frame(records [][]byte, verdicts []Verdict) error
	// Rewind goes back to an earlier state, when framed records were not stored.
	Rewind(State) error
	Close() error
}

// ErrBatch says that a batch exceeds BatchMax or BatchLenMax. It changed nothing.
var ErrBatch = errors.New("logframe: batch too large")

// ErrFrame says that bytes are not a framed record.
var ErrFrame = errors.New("logframe: not a framed record")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Record is a framed record taken apart. Payload aliases what was parsed.
type Record struct {
	Tenant  uint32
	Seq     uint64
	Payload []byte
}

// Parse takes apart one framed record that fills src.
func Parse(src []byte) (Record, error) {
	if len(src) < HeaderLen || uint64(binary.LittleEndian.Uint32(src[4:])) != uint64(len(src)-HeaderLen) {
		return Record{}, fmt.Errorf("%w: %d bytes", ErrFrame, len(src))
	}
	if binary.LittleEndian.Uint32(src[20:]) != 0 {
		return Record{}, fmt.Errorf("%w: unknown flags", ErrFrame)
	}
	if binary.LittleEndian.Uint32(src) != crc32.Checksum(src[4:], castagnoli) {
		return Record{}, fmt.Errorf("%w: checksum mismatch", ErrFrame)
	}
	return Record{
		Tenant:  binary.LittleEndian.Uint32(src[16:]),
		Seq:     binary.LittleEndian.Uint64(src[8:]),
		Payload: src[HeaderLen:],
	}, nil
}

// FramedLen is the length of the framed record that src begins with, for taking
// records that follow each other apart.
func FramedLen(src []byte) (int, error) {
	if len(src) < HeaderLen {
		return 0, fmt.Errorf("%w: %d bytes", ErrFrame, len(src))
	}
	n := HeaderLen + uint64(binary.LittleEndian.Uint32(src[4:]))
	if n > uint64(len(src)) {
		return 0, fmt.Errorf("%w: %d of %d bytes", ErrFrame, len(src), n)
	}
	return int(n), nil
}

// EventTimestamp is the timestamp of a payload of SchemaEvent, 0 of any other.
func EventTimestamp(schema Schema, payload []byte) uint64 {
	if schema != SchemaEvent || len(payload) < EventHeaderLen {
		return 0
	}
	return binary.LittleEndian.Uint64(payload[4:])
}

func checkBatch(records [][]byte, verdicts []Verdict) error {
	if len(verdicts) != len(records) {
		return fmt.Errorf("logframe: %d verdicts for %d records", len(verdicts), len(records))
	}
	total := 0
	for _, r := range records {
		total += len(r)
	}
	if len(records) > BatchMax || total > BatchLenMax {
		return fmt.Errorf("%w: %d records of %d bytes", ErrBatch, len(records), total)
	}
	return nil
}
