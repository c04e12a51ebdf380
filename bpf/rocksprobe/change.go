package rocksprobe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Kind says what a change does.
type Kind uint8

// Of rocks.h.
const (
	Put Kind = iota
	Delete
	Merge
	DeleteRange // Key to Value, which is not in it
	// Unreadable says that something was committed which the probe could not
	// read: what follows from the store has to be compared with the source.
	Unreadable
)

// String names the kind.
func (k Kind) String() string {
	switch k {
	case Put:
		return "put"
	case Delete:
		return "delete"
	case Merge:
		return "merge"
	case DeleteRange:
		return "delete range"
	case Unreadable:
		return "unreadable"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Change is one committed change of a key.
type Change struct {
	// Sequence is RocksDB's number of the change: larger is later. Changes of two
	// threads may be read in another order than they were committed in; whoever
	// cares compares the sequence of the same key.
	Sequence    uint64
	CommittedNs uint64 // CLOCK_MONOTONIC when the write returned to its caller
	Stream      uint64 // number in the stream of CPU, without a gap unless changes were lost
	DB          uint64 // address of the database object in the writer
	CPU         uint32
	Process     uint32
	// ColumnFamily is 0 for the default one.
	ColumnFamily uint32
	BatchCount   uint32 // changes that were committed together
	BatchIndex   uint32 // of this one
	// Route is the revision of the route that the kernel chose, 0 for none, and
	// Theta its threshold.
	Route uint32
	Theta float32
	Kind  Kind
	// Cut says that Value is a prefix; ValueLen is the length in the store.
	Cut      bool
	ValueLen int
	Key      []byte
	Value    []byte
}

// changeLen is sizeof(struct change) of rocks.h.
const changeLen = 80

// errMalformed says that a ring record is none of this probe's.
var errMalformed = errors.New("malformed ring record")

// decode reads a ring record. Key and Value point into it.
func decode(raw []byte, c *Change) error {
	if len(raw) < changeLen {
		return fmt.Errorf("%w: %d bytes", errMalformed, len(raw))
	}
	le := binary.LittleEndian
	keyLen, valueAt := uint64(le.Uint32(raw[40:])), uint64(le.Uint32(raw[44:]))
	valueLen, textLen := le.Uint32(raw[48:]), uint64(le.Uint32(raw[52:]))
	*c = Change{
		Sequence: le.Uint64(raw), CommittedNs: le.Uint64(raw[8:]), Stream: le.Uint64(raw[16:]), DB: le.Uint64(raw[24:]),
		CPU: le.Uint32(raw[32:]), Process: le.Uint32(raw[36:]), ColumnFamily: le.Uint32(raw[56:]),
		BatchCount: le.Uint32(raw[60:]), BatchIndex: le.Uint32(raw[64:]), Route: le.Uint32(raw[68:]),
		Theta: math.Float32frombits(le.Uint32(raw[72:])), Kind: Kind(raw[76]), Cut: raw[77]&1 != 0, ValueLen: int(valueLen),
	}
	text := raw[changeLen:]
	if textLen > uint64(len(text)) {
		return fmt.Errorf("%w: %d bytes of text in %d", errMalformed, textLen, len(text))
	}
	text = text[:textLen]
	if c.Kind >= Unreadable {
		c.Kind = Unreadable
		return nil
	}
	if keyLen > textLen || keyLen > valueAt {
		return fmt.Errorf("%w: a key of %d bytes in %d", errMalformed, keyLen, textLen)
	}
	c.Key = text[:keyLen]
	if c.Kind != Delete {
		c.Value = text[min(valueAt, textLen):]
	}
	if !c.Cut && c.Kind != Delete && len(c.Value) != int(valueLen) {
		return fmt.Errorf("%w: a value of %d bytes, %d are said", errMalformed, len(c.Value), valueLen)
	}
	return nil
}
