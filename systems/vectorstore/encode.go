package vectorstore

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
)

// Values are stored with a tag byte in front. Integers are varints, strings and
// lists have their length in front, objects are sorted by key, so that equal
// payloads have equal bytes.
const (
	tagNull = iota
	tagFalse
	tagTrue
	tagInt
	tagFloat
	tagString
	tagList
	tagObject

	valueDepthMax = 256
)

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendValue(dst []byte, v any, depth int) ([]byte, error) {
	if depth > valueDepthMax {
		return nil, fmt.Errorf("%w: payload nests deeper than %d", ErrInvalid, valueDepthMax)
	}
	var err error
	switch v := v.(type) {
	case nil:
		dst = append(dst, tagNull)
	case bool:
		tag := byte(tagFalse)
		if v {
			tag = tagTrue
		}
		dst = append(dst, tag)
	case int64:
		dst = binary.AppendVarint(append(dst, tagInt), v)
	case float64:
		dst = binary.LittleEndian.AppendUint64(append(dst, tagFloat), math.Float64bits(v))
	case string:
		dst = appendString(append(dst, tagString), v)
	case []any:
		dst = binary.AppendUvarint(append(dst, tagList), uint64(len(v)))
		for _, inner := range v {
			if dst, err = appendValue(dst, inner, depth+1); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		dst = binary.AppendUvarint(append(dst, tagObject), uint64(len(v)))
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if dst, err = appendValue(appendString(dst, key), v[key], depth+1); err != nil {
				return nil, err
			}
		}
	default:
		return nil, fmt.Errorf("%w: payload holds a %T", ErrInvalid, v)
	}
	return dst, nil
}

func appendID(dst []byte, id PointID) []byte {
	if id.IsUUID {
		return append(append(dst, 1), id.UUID[:]...)
	}
	return binary.AppendUvarint(append(dst, 0), id.Num)
}

func appendVector(dst []byte, v []float32) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(v)))
	for _, x := range v {
		dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(x))
	}
	return dst
}

func appendPoint(dst []byte, p Point) ([]byte, error) {
	dst = appendVector(appendID(dst, p.ID), p.Vector)
	return appendValue(dst, map[string]any(p.Payload), 0)
}

// decoder reads what append wrote; the first error stays.
type decoder struct {
	src []byte
	err error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: "+format, append([]any{ErrCorrupt}, args...)...)
		d.src = nil
	}
}

func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.src)) {
		d.fail("%d bytes wanted, %d left", n, len(d.src))
		return nil
	}
	out := d.src[:n]
	d.src = d.src[n:]
	return out
}

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.src)
	if n <= 0 {
		d.fail("bad varint")
		return 0
	}
	d.src = d.src[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.src)
	if n <= 0 {
		d.fail("bad varint")
		return 0
	}
	d.src = d.src[n:]
	return v
}

// count reads a number of things of at least the given size.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.src)/size) {
		d.fail("%d entries in %d bytes", n, len(d.src))
		return 0
	}
	return int(n)
}

func (d *decoder) string() string { return string(d.take(d.uvarint())) }

func (d *decoder) float64() float64 {
	if b := d.take(8); b != nil {
		return math.Float64frombits(binary.LittleEndian.Uint64(b))
	}
	return 0
}

func (d *decoder) value(depth int) any {
	if depth > valueDepthMax {
		d.fail("value nests deeper than %d", valueDepthMax)
		return nil
	}
	switch tag := d.byte(); tag {
	case tagNull:
		return nil
	case tagFalse, tagTrue:
		return tag == tagTrue
	case tagInt:
		return d.varint()
	case tagFloat:
		return d.float64()
	case tagString:
		return d.string()
	case tagList:
		out := make([]any, d.count(1))
		for i := range out {
			out[i] = d.value(depth + 1)
		}
		return out
	case tagObject:
		n := d.count(2)
		out := make(map[string]any, n)
		for range n {
			key := d.string()
			out[key] = d.value(depth + 1)
		}
		return out
	default:
		d.fail("tag %d", tag)
		return nil
	}
}

func (d *decoder) payload() Payload {
	object, ok := d.value(0).(map[string]any)
	if !ok {
		d.fail("payload is no object")
	}
	return object
}

func (d *decoder) id() PointID {
	switch kind := d.byte(); kind {
	case 0:
		return NumID(d.uvarint())
	case 1:
		id := PointID{IsUUID: true}
		copy(id.UUID[:], d.take(16))
		return id
	default:
		d.fail("id of kind %d", kind)
		return PointID{}
	}
}

func (d *decoder) vector() []float32 {
	n := d.count(4)
	if n == 0 {
		return nil
	}
	out := make([]float32, n)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(d.take(4)))
	}
	return out
}

func (d *decoder) point() Point {
	return Point{ID: d.id(), Vector: d.vector(), Payload: d.payload()}
}

// end is the first error, or that bytes are left.
func (d *decoder) end() error {
	if d.err == nil && len(d.src) > 0 {
		d.fail("%d bytes too many", len(d.src))
	}
	return d.err
}
