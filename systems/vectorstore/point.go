package vectorstore

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"fmt"
	"maps"
	"strconv"
)

// PointID is a number or a UUID. Numbers come before UUIDs, each in their order.
type PointID struct {
	Num    uint64
	UUID   [16]byte
	IsUUID bool
}

// NumID is the id of a number.
func NumID(n uint64) PointID { return PointID{Num: n} }

// ParseUUID reads a UUID with or without hyphens.
func ParseUUID(s string) (PointID, error) {
	id, plain := PointID{IsUUID: true}, make([]byte, 0, 32)
	if len(s) > 45 {
		return id, fmt.Errorf("%w: Unable to parse UUID of %d bytes", ErrInvalid, len(s))
	}
	for _, c := range bytes.TrimPrefix([]byte(s), []byte("urn:uuid:")) {
		if c != '-' {
			plain = append(plain, c)
		}
	}
	if n, err := hex.Decode(id.UUID[:], plain[:min(len(plain), 32)]); err != nil || n != 16 || len(plain) != 32 {
		return id, fmt.Errorf("%w: Unable to parse UUID: %s", ErrInvalid, s)
	}
	return id, nil
}

// String is the number, or the UUID with hyphens.
func (id PointID) String() string {
	if !id.IsUUID {
		return strconv.FormatUint(id.Num, 10)
	}
	u := id.UUID
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// Compare orders ids as Scroll does.
func (id PointID) Compare(other PointID) int {
	switch {
	case id.IsUUID != other.IsUUID && id.IsUUID:
		return 1
	case id.IsUUID != other.IsUUID:
		return -1
	case id.IsUUID:
		return bytes.Compare(id.UUID[:], other.UUID[:])
	default:
		return cmp.Compare(id.Num, other.Num)
	}
}

func lessID(a, b PointID) bool { return a.Compare(b) < 0 }

// Payload is a JSON object: its values are nil, bool, int64, float64, string,
// []any and map[string]any. What a store returns must not be changed.
type Payload map[string]any

// Point is what is stored.
type Point struct {
	ID      PointID
	Vector  []float32
	Payload Payload
}

// merged is a copy of p with the values of more.
func (p Payload) merged(more Payload) Payload {
	out := maps.Clone(p)
	if out == nil {
		out = Payload{}
	}
	maps.Copy(out, more)
	return out
}

// without is a copy of p without the values at the paths.
func (p Payload) without(paths []path) Payload {
	out := Payload(copied(map[string]any(p)).(map[string]any))
	for _, at := range paths {
		removeAt(map[string]any(out), at)
	}
	return out
}

// copied is a deep copy of a value.
func copied(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, inner := range v {
			out[key] = copied(inner)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, inner := range v {
			out[i] = copied(inner)
		}
		return out
	default:
		return v
	}
}
