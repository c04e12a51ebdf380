package seglog

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"time"
)

// retentionFile keeps, for segments that are gone, what cannot be rebuilt: the
// first segment kept and every tenant's first kept sequence. It is replaced as
// a whole and durable before any segment is removed.
const (
	retentionFile    = "retention"
	retentionMagic   = 0x314e5445524e584e
	retentionHeadLen = 40
	retentionItemLen = 12
)

type retention struct {
	first uint64 // id of the first segment kept
	base  uint64 // its base position
	low   map[uint32]uint64
}

func (r *retention) encode() []byte {
	le := binary.LittleEndian
	p := make([]byte, retentionHeadLen, retentionHeadLen+len(r.low)*retentionItemLen+4)
	le.PutUint64(p[0:], retentionMagic)
	le.PutUint32(p[8:], formatVersion)
	le.PutUint64(p[16:], r.first)
	le.PutUint64(p[24:], r.base)
	le.PutUint64(p[32:], uint64(len(r.low)))
	ids := make([]uint32, 0, len(r.low))
	for id := range r.low {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		p = le.AppendUint32(p, id)
		p = le.AppendUint64(p, r.low[id])
	}
	return le.AppendUint32(p, crc32.Checksum(p, castagnoli))
}

func (r *retention) decode(p []byte) error {
	bad := func(why string) error { return &CorruptError{File: retentionFile, Reason: why} }
	le := binary.LittleEndian
	if len(p) < retentionHeadLen+4 || le.Uint64(p) != retentionMagic {
		return bad("not a retention file")
	}
	body := p[:len(p)-4]
	if le.Uint32(p[len(body):]) != crc32.Checksum(body, castagnoli) {
		return bad("checksum mismatch")
	}
	if v := le.Uint32(p[8:]); v != formatVersion {
		return bad(fmt.Sprintf("format version %d, this program reads %d", v, formatVersion))
	}
	count := le.Uint64(p[32:])
	if items := body[retentionHeadLen:]; count > uint64(len(items)) || int(count)*retentionItemLen != len(items) {
		return bad(fmt.Sprintf("%d tenants in %d bytes", count, len(items)))
	}
	r.first, r.base, r.low = le.Uint64(p[16:]), le.Uint64(p[24:]), make(map[uint32]uint64, count)
	if r.first == 0 {
		return bad("first segment 0")
	}
	for i := range int(count) {
		item := p[retentionHeadLen+i*retentionItemLen:]
		low := le.Uint64(item[4:])
		if low == 0 {
			return bad(fmt.Sprintf("tenant %d: low watermark 0", le.Uint32(item)))
		}
		r.low[le.Uint32(item)] = low
	}
	return nil
}

func (r *retention) load(dev Device, names []string) error {
	r.first, r.low = 1, map[uint32]uint64{}
	if !slices.Contains(names, retentionFile) {
		return nil
	}
	f, err := dev.Open(retentionFile)
	if err != nil {
		return fmt.Errorf("seglog: open %s: %w", retentionFile, err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return fmt.Errorf("seglog: size of %s: %w", retentionFile, err)
	}
	if size > 1<<30 {
		return &CorruptError{File: retentionFile, Reason: fmt.Sprintf("%d bytes", size)}
	}
	p := make([]byte, size)
	if n, err := f.ReadAt(p, 0); n < len(p) {
		return fmt.Errorf("seglog: read %s: %w", retentionFile, err)
	}
	return r.decode(p)
}

func (r *retention) store(dev Device) error {
	p := r.encode()
	f, err := dev.Create(retentionFile+temporary, int64(len(p)), nil)
	if err != nil {
		return fmt.Errorf("seglog: create %s: %w", retentionFile, err)
	}
	_, err = f.WriteAt(p, 0)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = dev.Rename(retentionFile+temporary, retentionFile)
	}
	if err != nil {
		return fmt.Errorf("seglog: write %s: %w", retentionFile, err)
	}
	return nil
}

// Retirement is the removal of the oldest segments: Run makes the new low
// watermarks durable, Engine.Retired drops the segments, Remove deletes them.
type Retirement struct {
	dev      Device
	state    retention
	segments []*segment
}

// Retire returns what the retention options ask to remove now, or nil. One
// retirement at a time.
func (e *Engine) Retire() *Retirement {
	var oldest time.Time
	if e.o.RetainAge > 0 {
		oldest = e.o.Now().Add(-e.o.RetainAge)
	}
	return e.RetireTo(e.o.RetainBytes, oldest)
}

// RetireTo is Retire with a limit of bytes (0: none) and the time of the oldest
// record to keep (zero: all).
func (e *Engine) RetireTo(bytesMax int64, oldest time.Time) *Retirement {
	kept := e.bytes
	return e.retireWhile(func(s *segment) bool {
		over := bytesMax > 0 && kept > bytesMax
		old := !oldest.IsZero() && s.newestNs < oldest.UnixNano()
		kept -= s.end - segmentHeaderLen
		return over || old
	})
}

// RetireBelow removes segments whose records all belong to one tenant and have
// lower sequences than the given one: what a snapshot of its state covers.
func (e *Engine) RetireBelow(tenant uint32, seq uint64) *Retirement {
	return e.retireWhile(func(s *segment) bool {
		for id, p := range s.spans {
			if id != tenant || p.last >= seq {
				return false
			}
		}
		return true
	})
}

// retireWhile retires the oldest segments as long as expired says so.
func (e *Engine) retireWhile(expired func(*segment) bool) *Retirement {
	n := 0
	for _, s := range e.segments {
		if s == e.active || e.busy(s) || !expired(s) {
			break
		}
		n++
	}
	// The last segment stays: its end is where the next one's durable mark points.
	n = min(n, len(e.segments)-1)
	if n <= 0 {
		return nil
	}
	r := &Retirement{dev: e.dev, segments: slices.Clone(e.segments[:n])}
	r.state = retention{low: make(map[uint32]uint64, len(e.tenants))}
	r.state.first, r.state.base = e.segments[n].header.id, e.segments[n].header.base
	lastID := r.segments[n-1].header.id
	for id, t := range e.tenants {
		low := t.low
		for _, p := range t.spans {
			if p.seg.header.id <= lastID {
				low = p.last + 1
			}
		}
		r.state.low[id] = low
	}
	return r
}

// busy says that a batch in memory still belongs to the segment.
func (e *Engine) busy(s *segment) bool {
	return len(e.flying) > 0 && e.flying[0].seg == s || len(e.open.entries) > 0 && e.open.seg == s
}

// Lows gives every tenant's new first kept sequence.
func (r *Retirement) Lows(visit func(tenant uint32, low uint64)) {
	for id, low := range r.state.low {
		visit(id, low)
	}
}

// Run makes the retirement durable.
func (r *Retirement) Run() error { return r.state.store(r.dev) }

// Retired makes a durable retirement visible: removed records are gone for
// readers that come later.
func (e *Engine) Retired(r *Retirement) {
	e.segments = e.segments[len(r.segments):]
	for _, s := range r.segments {
		e.bytes -= s.end - segmentHeaderLen
	}
	e.stats.Retired += uint64(len(r.segments))
	for id, low := range r.state.low {
		t := e.tenants[id]
		t.low = max(t.low, low)
		keep := 0
		for keep < len(t.spans) && t.spans[keep].last < t.low {
			keep++
		}
		t.spans = slices.Delete(t.spans, 0, keep)
	}
}

// Remove deletes the files. Readers that hold one finish with it.
func (r *Retirement) Remove() error {
	for _, s := range r.segments {
		s.release()
		if err := r.dev.Remove(s.name); err != nil {
			return fmt.Errorf("seglog: remove retired segment %s: %w", s.name, err)
		}
	}
	return nil
}

// RetireEvery is how often Log and servers look for segments to remove.
const RetireEvery = time.Second
