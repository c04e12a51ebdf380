package seglog

import (
	"encoding/binary"
	"fmt"
)

// Location is where a durable record is. It keeps the file open; Release it.
// Read does I/O only and may run while the engine works on.
type Location struct {
	seg    *segment
	tenant uint32
	seq    uint64
	offset uint32 // of the record of that tenant, back records later
	back   int
	limit  int64 // end of the durable part when it was looked up
}

// Find looks a durable record up. Errors: ErrNotFound, ErrRetired.
func (e *Engine) Find(id uint32, seq uint64) (Location, error) {
	t := e.tenants[id]
	if t == nil || seq > t.durable || seq == 0 {
		return Location{}, ErrNotFound
	}
	if seq < t.low {
		return Location{}, fmt.Errorf("%w: tenant %d keeps %d and later", ErrRetired, id, t.low)
	}
	p := t.find(seq)
	if p == nil || !p.seg.acquire() {
		return Location{}, ErrRetired
	}
	offset, back := p.locate(seq)
	return Location{seg: p.seg, tenant: id, seq: seq, offset: offset, back: back, limit: p.seg.end}, nil
}

// Range returns a tenant's first kept and last durable sequence; first is
// last+1 when it has no records.
func (e *Engine) Range(id uint32) (first, last uint64) {
	t := e.tenants[id]
	if t == nil {
		return 1, 0
	}
	return t.low, t.durable
}

// Release gives the location's file back.
func (l *Location) Release() { l.seg.release() }

// Read appends the record's payload to dst. The checksum is verified each time.
func (l *Location) Read(dst []byte) ([]byte, error) {
	offset := l.offset
	var head [recordHeaderLen]byte
	for range l.back {
		if err := l.header(&head, offset); err != nil {
			return dst, err
		}
		offset = binary.LittleEndian.Uint32(head[12:])
	}
	return l.readAt(dst, offset)
}

func (l *Location) readAt(dst []byte, offset uint32) ([]byte, error) {
	var head [recordHeaderLen]byte
	if err := l.header(&head, offset); err != nil {
		return dst, err
	}
	n := recordHeaderLen + int(binary.LittleEndian.Uint32(head[4:]))
	if n > BatchBytesMax || int64(offset)+int64(n) > l.limit {
		return dst, l.corrupt(offset, "record length out of range")
	}
	start := len(dst)
	whole := recordExtent(n - recordHeaderLen)
	dst = grow(dst, whole)
	raw := dst[start : start+whole]
	if _, err := l.seg.file.ReadAt(raw, int64(offset)); err != nil {
		return dst[:start], fmt.Errorf("seglog: read %s at offset %d: %w", l.seg.name, offset, err)
	}
	r, _, ok := decodeRecord(raw, l.seg.header.salt, l.seg.header.base+uint64(offset))
	if !ok {
		return dst[:start], l.corrupt(offset, "record checksum mismatch")
	}
	if r.tenant != l.tenant || r.seq != l.seq {
		return dst[:start], l.corrupt(offset, fmt.Sprintf("found tenant %d sequence %d, want %d and %d", r.tenant, r.seq, l.tenant, l.seq))
	}
	copy(raw, r.payload) // over its own header
	return dst[:start+len(r.payload)], nil
}

func (l *Location) header(head *[recordHeaderLen]byte, offset uint32) error {
	if int64(offset) < segmentHeaderLen || int64(offset)+recordHeaderLen > l.limit {
		return l.corrupt(offset, "link to a record outside of the segment")
	}
	if _, err := l.seg.file.ReadAt(head[:], int64(offset)); err != nil {
		return fmt.Errorf("seglog: read %s at offset %d: %w", l.seg.name, offset, err)
	}
	return nil
}

func (l *Location) corrupt(offset uint32, reason string) error {
	return &CorruptError{File: l.seg.name, Offset: int64(offset), Reason: reason}
}

// grow extends p by n bytes, reallocating only when it must.
func grow(p []byte, n int) []byte {
	if cap(p)-len(p) >= n {
		return p[:len(p)+n]
	}
	q := make([]byte, len(p)+n, 2*len(p)+n)
	copy(q, p)
	return q
}
