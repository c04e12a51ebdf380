package surreal

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
)

// How SurrealDB 3.0 lays records out in a key-value store. It is private to the
// engine: this was read off what it writes, and the tests hold it against the
// engine itself. Another version is refused by its number (Layout), and what this
// one does not know by ErrUnknown; the record can then still be asked for by id.

// ErrUnknown says that a key or a value is none that this package can read.
var ErrUnknown = errors.New("not a layout of SurrealDB's that this program knows")

// KnownLayout returns nil if the keys and values of this version of the engine can be read.
func KnownLayout(version string) error {
	if version == "surrealdb-3.0.2" {
		return nil
	}
	return fmt.Errorf("%w: version %q, only surrealdb-3.0.2 was tried", ErrUnknown, version)
}

// IDKind is the type of a record's id.
type IDKind uint8

// As the engine numbers them.
const (
	IntID    IDKind = 2
	StringID IDKind = 3
	UUIDID   IDKind = 4
	ArrayID  IDKind = 5 // kept raw
	ObjectID IDKind = 6 // kept raw
)

// Key is where a record is.
type Key struct {
	NamespaceID uint32
	DatabaseID  uint32
	Table       string
	Kind        IDKind
	Int         int64    // of an IntID
	Text        string   // of a StringID
	UUID        [16]byte // of a UUIDID
	Raw         []byte   // of every kind: the id as it is in the key, without its type
}

// ID is the id as text, for people: it does not tell "1" from 1.
func (k *Key) ID() string {
	switch k.Kind {
	case IntID:
		return strconv.FormatInt(k.Int, 10)
	case StringID:
		return k.Text
	case UUIDID:
		u := hex.EncodeToString(k.UUID[:])
		return u[:8] + "-" + u[8:12] + "-" + u[12:16] + "-" + u[16:20] + "-" + u[20:]
	}
	return hex.EncodeToString(k.Raw)
}

const (
	prefixLen   = 12 // "/*" namespace "*" database "*"
	tableLenMax = 1024
)

// IsRecord reports whether a key is a record's, and not an index entry, an edge
// or a definition. It says nothing about whether the record's id can be read.
func IsRecord(key []byte) bool {
	_, _, err := cutTable(key)
	return err == nil
}

// cutTable returns the table's name and what follows the record's mark.
func cutTable(key []byte) (table string, id []byte, err error) {
	if len(key) < prefixLen || key[0] != '/' || key[1] != '*' || key[6] != '*' || key[11] != '*' {
		return "", nil, fmt.Errorf("%w: the key %q is in no database", ErrUnknown, key)
	}
	rest := key[prefixLen:]
	for i, c := range rest[:min(len(rest), tableLenMax)] {
		if c != 0 {
			continue
		}
		if i == 0 || i+2 >= len(rest) || rest[i+1] != '*' {
			break
		}
		return string(rest[:i]), rest[i+2:], nil
	}
	return "", nil, fmt.Errorf("%w: the key %q is no record's", ErrUnknown, key)
}

// ParseKey reads a record's key. Raw points into it.
func ParseKey(key []byte) (Key, error) {
	table, id, err := cutTable(key)
	if err != nil {
		return Key{}, err
	}
	k := Key{NamespaceID: binary.BigEndian.Uint32(key[2:]), DatabaseID: binary.BigEndian.Uint32(key[7:]),
		Table: table, Kind: IDKind(id[0]), Raw: id[1:]}
	switch k.Kind {
	case IntID:
		if len(k.Raw) != 8 {
			return Key{}, fmt.Errorf("%w: a number of %d bytes", ErrUnknown, len(k.Raw))
		}
		// The sign is flipped, so that bytes sort as numbers do.
		k.Int = int64(binary.BigEndian.Uint64(k.Raw) ^ 1<<63)
	case StringID:
		if k.Text, err = unescape(k.Raw); err != nil {
			return Key{}, err
		}
	case UUIDID:
		if len(k.Raw) != 16 {
			return Key{}, fmt.Errorf("%w: a UUID of %d bytes", ErrUnknown, len(k.Raw))
		}
		copy(k.UUID[:], k.Raw)
	case ArrayID, ObjectID:
	default:
		return Key{}, fmt.Errorf("%w: an id of type %d", ErrUnknown, id[0])
	}
	return k, nil
}

// unescape reads a text that ends in a zero byte; a one makes the zero or one
// after it part of the text.
func unescape(raw []byte) (string, error) {
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case 0:
			if i != len(raw)-1 {
				return "", fmt.Errorf("%w: bytes behind the end of an id", ErrUnknown)
			}
			return string(out), nil
		case 1:
			i++
			if i == len(raw) || raw[i] > 1 {
				return "", fmt.Errorf("%w: an escape of nothing", ErrUnknown)
			}
		}
		out = append(out, raw[i])
	}
	return "", fmt.Errorf("%w: an id without an end", ErrUnknown)
}
