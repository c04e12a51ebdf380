package surreal

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"
)

// reader walks through a value.
type reader struct {
	text  []byte
	depth int
}

const depthMax = 64

func (r *reader) byte() (byte, error) {
	if len(r.text) == 0 {
		return 0, fmt.Errorf("%w: the value ends early", ErrUnknown)
	}
	b := r.text[0]
	r.text = r.text[1:]
	return b, nil
}

// revision demands the first revision of a structure.
func (r *reader) revision() error {
	b, err := r.byte()
	if err == nil && b != 1 {
		err = fmt.Errorf("%w: revision %d of a structure", ErrUnknown, b)
	}
	return err
}

func (r *reader) take(n uint64) ([]byte, error) {
	if n > uint64(len(r.text)) {
		return nil, fmt.Errorf("%w: the value ends early", ErrUnknown)
	}
	out := r.text[:n]
	r.text = r.text[n:]
	return out, nil
}

// uint reads an integer: below 251 in the byte itself, above it as the length
// in bytes (2, 4 or 8) of a little-endian one.
func (r *reader) uint() (uint64, error) {
	b, err := r.byte()
	if err != nil || b < 251 {
		return uint64(b), err
	}
	if b > 253 {
		return 0, fmt.Errorf("%w: an integer of type %d", ErrUnknown, b)
	}
	raw, err := r.take(1 << (b - 250))
	if err != nil {
		return 0, err
	}
	var full [8]byte
	copy(full[:], raw)
	return binary.LittleEndian.Uint64(full[:]), nil
}

func (r *reader) string() (string, error) {
	n, err := r.uint()
	if err != nil {
		return "", err
	}
	raw, err := r.take(n)
	return string(raw), err
}

// Types of values, as the engine numbers them.
const (
	noneValue   = 0
	nullValue   = 1
	boolValue   = 2
	numberValue = 3
	stringValue = 4
	timeValue   = 6
	arrayValue  = 8
	objectValue = 10
)

// fields enters a record and calls visit for each field with the reader at its
// value, which visit has to read.
func (r *reader) fields(visit func(name string) error) error {
	if err := r.revision(); err != nil {
		return err
	}
	// Records with metadata (edges of a graph) are left to the engine.
	metadata, err := r.byte()
	if err != nil {
		return err
	}
	if metadata != 0 {
		return fmt.Errorf("%w: a record with metadata", ErrUnknown)
	}
	if err := r.expect(objectValue); err != nil {
		return err
	}
	if err := r.object(visit); err != nil {
		return err
	}
	if len(r.text) != 0 {
		return fmt.Errorf("%w: %d bytes behind the record", ErrUnknown, len(r.text))
	}
	return nil
}

func (r *reader) kind() (byte, error) {
	if err := r.revision(); err != nil {
		return 0, err
	}
	return r.byte()
}

// expect demands a value of one type.
func (r *reader) expect(want byte) error {
	kind, err := r.kind()
	if err == nil && kind != want {
		err = fmt.Errorf("%w: a value of type %d where %d was expected", ErrUnknown, kind, want)
	}
	return err
}

func (r *reader) object(visit func(name string) error) error {
	if err := r.revision(); err != nil {
		return err
	}
	n, err := r.uint()
	if err != nil {
		return err
	}
	for range n {
		name, err := r.string()
		if err != nil {
			return err
		}
		if err := visit(name); err != nil {
			return err
		}
	}
	return nil
}

// int reads a signed integer: the sign is in the lowest bit.
func (r *reader) int() (int64, error) {
	n, err := r.uint()
	return int64(n>>1) ^ -int64(n&1), err
}

func (r *reader) time() (any, error) {
	if err := r.revision(); err != nil {
		return nil, err
	}
	seconds, err := r.int()
	if err != nil {
		return nil, err
	}
	ns, err := r.uint()
	if err == nil && ns >= 1e9 {
		err = fmt.Errorf("%w: a time with %d ns", ErrUnknown, ns)
	}
	return time.Unix(seconds, int64(ns)).UTC(), err
}

func (r *reader) number() (any, error) {
	if err := r.revision(); err != nil {
		return nil, err
	}
	kind, err := r.byte()
	if err != nil {
		return nil, err
	}
	switch kind {
	case 0:
		return r.int()
	case 1:
		raw, err := r.take(8)
		if err != nil {
			return nil, err
		}
		return math.Float64frombits(binary.LittleEndian.Uint64(raw)), nil
	}
	return nil, fmt.Errorf("%w: a number of type %d", ErrUnknown, kind)
}

func (r *reader) value() (any, error) {
	kind, err := r.kind()
	if err != nil {
		return nil, err
	}
	switch kind {
	case noneValue, nullValue:
		return nil, nil
	case boolValue:
		b, err := r.byte()
		return b != 0, err
	case numberValue:
		return r.number()
	case stringValue:
		return r.string()
	case timeValue:
		return r.time()
	case arrayValue, objectValue:
		return r.nested(kind)
	}
	return nil, fmt.Errorf("%w: a value of type %d", ErrUnknown, kind)
}

func (r *reader) nested(kind byte) (any, error) {
	r.depth++
	defer func() { r.depth-- }()
	if r.depth > depthMax {
		return nil, fmt.Errorf("%w: nested deeper than %d", ErrUnknown, depthMax)
	}
	if kind == objectValue {
		out := map[string]any{}
		err := r.object(func(name string) error {
			v, err := r.value()
			out[name] = v
			return err
		})
		return out, err
	}
	if err := r.revision(); err != nil {
		return nil, err
	}
	n, err := r.uint()
	if err != nil {
		return nil, err
	}
	out := []any{}
	for range n {
		v, err := r.value()
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// ParseValue reads a record's fields: nil, bool, int64, float64, string, time.Time,
// []any and map[string]any. The id is not among them, it is in the key. Types that
// it doesn't know (decimals, record links...) are ErrUnknown.
func ParseValue(value []byte) (map[string]any, error) {
	r := reader{text: value}
	out := map[string]any{}
	err := r.fields(func(name string) error {
		v, err := r.value()
		out[name] = v
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// AppendVector appends the numbers of one field to dst, and returns false if the
// record has no such field.
func AppendVector(dst []float32, value []byte, field string) ([]float32, bool, error) {
	dst, found, _, err := Project(dst, value, field, nil)
	return dst, found, err
}

// Project is AppendVector that also returns the fields named by keep, as
// ParseValue does; nil if there are none.
func Project(dst []float32, value []byte, field string, keep []string) ([]float32, bool, map[string]any, error) {
	r := reader{text: value}
	found := false
	var kept map[string]any
	err := r.fields(func(name string) error {
		if name == field {
			if found {
				return fmt.Errorf("%w: the field %s twice", ErrUnknown, field)
			}
			found = true
			var err error
			dst, err = r.vector(dst)
			return err
		}
		v, err := r.value()
		if slices.Contains(keep, name) {
			if kept == nil {
				kept = make(map[string]any, len(keep))
			}
			kept[name] = v
		}
		return err
	})
	return dst, found, kept, err
}

func (r *reader) vector(dst []float32) ([]float32, error) {
	if err := r.expect(arrayValue); err != nil {
		return dst, err
	}
	if err := r.revision(); err != nil {
		return dst, err
	}
	n, err := r.uint()
	if err != nil {
		return dst, err
	}
	for range n {
		// The common case in one comparison: a value that is a number that is a float.
		if len(r.text) >= 12 && [4]byte(r.text) == [4]byte{1, numberValue, 1, 1} {
			dst = append(dst, float32(math.Float64frombits(binary.LittleEndian.Uint64(r.text[4:]))))
			r.text = r.text[12:]
			continue
		}
		if err := r.expect(numberValue); err != nil {
			return dst, err
		}
		number, err := r.number()
		if err != nil {
			return dst, err
		}
		switch x := number.(type) {
		case int64:
			dst = append(dst, float32(x))
		case float64:
			dst = append(dst, float32(x))
		}
	}
	return dst, nil
}
