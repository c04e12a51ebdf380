package seglog

import (
	"fmt"
	"sort"
	"sync/atomic"
)

// indexEvery is the sparseness of the index: one offset per so many records of
// a tenant. A read walks back at most indexEvery-1 records by their prev links.
const indexEvery = 16

// segment is one file of the log. Everything but refs belongs to the Engine's
// owner; file is read by others while they hold a reference.
type segment struct {
	header   segmentHeader
	name     string
	file     File
	end      int64 // offset behind the last durable batch
	newestNs int64 // time of the last durable batch, 0 if none
	records  uint64
	spans    map[uint32]*span
	refs     atomic.Int32 // one is the log's own
}

func newSegment(h segmentHeader, name string, f File) *segment {
	s := &segment{header: h, name: name, file: f, end: segmentHeaderLen, spans: make(map[uint32]*span)}
	s.refs.Store(1)
	return s
}

// acquire keeps the file open; it fails when retention closed it already.
func (s *segment) acquire() bool {
	for {
		n := s.refs.Load()
		if n <= 0 {
			return false
		}
		if s.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (s *segment) release() {
	if s.refs.Add(-1) == 0 && s.file != nil {
		_ = s.file.Close() // only read from since it was sealed: nothing can be lost
	}
}

// limit is the position behind the segment's last durable byte.
func (s *segment) limit() uint64 { return s.header.base + uint64(s.end) }

// span is the sparse index of one tenant in one segment.
type span struct {
	seg         *segment
	tenant      uint32
	first, last uint64   // sequences
	every       []uint32 // every[i]: offset of first+i*indexEvery
	lastOff     uint32
}

// add notes the next record of the span.
func (p *span) add(off uint32) {
	p.last++
	p.lastOff = off
	if (p.last-p.first)%indexEvery == 0 {
		p.every = append(p.every, off)
	}
}

// locate returns a known offset at or after seq and how many records to walk
// back from there.
func (p *span) locate(seq uint64) (off uint32, back int) {
	i := (seq - p.first + indexEvery - 1) / indexEvery
	if i < uint64(len(p.every)) {
		return p.every[i], int(p.first + i*indexEvery - seq)
	}
	return p.lastOff, int(p.last - seq)
}

// note adds a record to the segment's index. The first record of a tenant may
// have any sequence; later ones follow each other.
func (s *segment) note(tenant uint32, seq uint64, off uint32) (*span, error) {
	p := s.spans[tenant]
	if p == nil {
		p = &span{seg: s, tenant: tenant, first: seq, last: seq, lastOff: off, every: make([]uint32, 1, 8)}
		p.every[0] = off
		s.spans[tenant] = p
		s.records++
		return p, nil
	}
	if seq != p.last+1 {
		return nil, fmt.Errorf("tenant %d: sequence %d follows %d", tenant, seq, p.last)
	}
	p.add(off)
	s.records++
	return p, nil
}

// tenant is one tenant's place in the log.
type tenant struct {
	id      uint32
	low     uint64 // first sequence that retention kept
	durable uint64 // last durable sequence
	next    uint64 // what the next staged record gets
	spans   []*span

	prevSeg *segment // where the last staged record is
	prevOff uint32
}

// find returns the span that holds a durable seq.
func (t *tenant) find(seq uint64) *span {
	i := sort.Search(len(t.spans), func(i int) bool { return t.spans[i].last >= seq })
	if i == len(t.spans) || t.spans[i].first > seq {
		return nil
	}
	return t.spans[i]
}
