package seglog

import (
	"encoding/binary"
	"fmt"
	"sort"
	"sync"
)

// replayWindow is how much of a segment one read of a replay takes, in bytes.
const replayWindow = 256 << 10

// reach is what of a span was durable when it was looked up. It may be read
// without the lock: only what lies behind the copied lengths still changes.
type reach struct {
	seg         *segment
	first, last uint64
	every       []uint32
	lastOff     uint32
	limit       int64
}

// replayer reads one tenant's records in order.
type replayer struct {
	tenant uint32
	visit  func(seq uint64, payload []byte) error
	buf    []byte   // a window of a segment
	chain  []uint32 // offsets of the chunk's records, newest first
	single []byte   // a record that no window holds
}

var replayers = sync.Pool{New: func() any { return &replayer{buf: make([]byte, replayWindow)} }}

// Replay gives a tenant's durable records from the sequence on, in order, to
// visit, up to the last one that was durable when it was called, and returns
// the sequence behind the last one given. payload is valid during the call.
//
// It reads records that stand close together many at a time, where Read costs
// one or more system calls a record. An error of visit ends it and is returned.
// Other errors: ErrRetired, ErrClosed, ErrCorrupt.
func (l *Log) Replay(tenant uint32, from uint64, visit func(seq uint64, payload []byte) error) (next uint64, err error) {
	reaches, err := l.reaches(tenant, from)
	if err != nil {
		return from, err
	}
	defer func() {
		for _, r := range reaches {
			r.seg.release()
		}
	}()
	p := replayers.Get().(*replayer)
	defer func() {
		p.visit = nil
		replayers.Put(p)
	}()
	p.tenant, p.visit = tenant, visit
	for i := range reaches {
		if from, err = p.replay(&reaches[i], from); err != nil {
			return from, err
		}
	}
	return from, nil
}

// reaches holds what of the tenant's spans is durable from that sequence on. The
// caller releases their segments.
func (l *Log) reaches(id uint32, from uint64) (found []reach, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		return nil, ErrClosed
	}
	t := l.e.tenants[id]
	if t == nil || from > t.durable {
		return nil, nil
	}
	if from < t.low {
		return nil, fmt.Errorf("%w: tenant %d keeps %d and later", ErrRetired, id, t.low)
	}
	for _, p := range t.spans {
		if p.last < from {
			continue
		}
		if !p.seg.acquire() {
			for _, r := range found {
				r.seg.release()
			}
			return nil, ErrRetired
		}
		found = append(found, reach{p.seg, p.first, p.last, p.every, p.lastOff, p.seg.end})
	}
	return found, nil
}

// replay gives the span's records from the sequence on.
func (p *replayer) replay(r *reach, from uint64) (next uint64, err error) {
	for next = max(from, r.first); next <= r.last && err == nil; {
		next, err = p.chunk(r, next)
	}
	return next, err
}

// chunk gives the records from seq up to the last one with a known place that
// one window reaches.
func (p *replayer) chunk(r *reach, seq uint64) (next uint64, err error) {
	index := int((seq - r.first) / indexEvery)
	start := r.every[index] // at or before seq
	end, endSeq, inWindow := r.farthest(index)
	var window []byte
	if inWindow {
		// A little more, so that the last record is whole.
		window = p.buf[:min(int64(len(p.buf)), r.limit-int64(start), int64(end-start)+BlockBytes)]
		if _, err := r.seg.file.ReadAt(window, int64(start)); err != nil {
			return seq, fmt.Errorf("seglog: read %s at offset %d: %w", r.seg.name, start, err)
		}
	}
	at := Location{seg: r.seg, tenant: p.tenant, limit: r.limit}
	if err := p.follow(&at, window, start, end, endSeq-seq); err != nil {
		return seq, err
	}
	for i := len(p.chain) - 1; i >= 0; i-- {
		at.seq = seq
		payload, err := p.record(&at, window, start, p.chain[i])
		if err != nil {
			return seq, err
		}
		if err := p.visit(seq, payload); err != nil {
			return seq, err
		}
		seq++
	}
	return seq, nil
}

// farthest returns the last record with a known place of which a window that
// starts at the index's place holds the header. Where there is none it returns
// the next known place.
func (r *reach) farthest(index int) (end uint32, seq uint64, inWindow bool) {
	holds := func(off uint32) bool { return int64(off)-int64(r.every[index])+recordHeaderLen <= replayWindow }
	if holds(r.lastOff) {
		return r.lastOff, r.last, true
	}
	later := r.every[index+1:]
	n := sort.Search(len(later), func(i int) bool { return !holds(later[i]) })
	switch {
	case n > 0:
		return later[n-1], r.first + uint64(index+n)*indexEvery, true
	case len(later) > 0:
		return later[0], r.first + uint64(index+1)*indexEvery, false
	}
	return r.lastOff, r.last, false
}

// follow collects the places of a record and of the back records before it, from
// the window or, without one, from the file.
func (p *replayer) follow(at *Location, window []byte, start, off uint32, back uint64) error {
	p.chain = append(p.chain[:0], off)
	var head [recordHeaderLen]byte
	for ; back > 0; back-- {
		if window == nil {
			if err := at.header(&head, off); err != nil {
				return err
			}
		} else if off < start || int64(off-start)+recordHeaderLen > int64(len(window)) {
			return at.corrupt(off, "link to a record outside of the window")
		} else {
			copy(head[:], window[off-start:])
		}
		off = binary.LittleEndian.Uint32(head[12:])
		p.chain = append(p.chain, off)
	}
	return nil
}

// record returns a record's payload from the window. What the window doesn't
// hold or what doesn't verify there is read by itself.
func (p *replayer) record(at *Location, window []byte, start, off uint32) ([]byte, error) {
	if off >= start && int64(off-start) < int64(len(window)) {
		rec, _, ok := decodeRecord(window[off-start:], at.seg.header.salt, at.seg.header.base+uint64(off))
		if ok && rec.tenant == at.tenant && rec.seq == at.seq {
			return rec.payload, nil
		}
	}
	var err error
	p.single, err = at.readAt(p.single[:0], off)
	return p.single, err
}
