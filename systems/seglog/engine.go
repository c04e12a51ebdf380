package seglog

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// failuresMax is how many segments in a row may fail without one
	// successful commit between them before the log gives up.
	failuresMax = 3
	// prepareBackoff bounds how often a failed segment preparation is retried.
	prepareBackoff = 50 * time.Millisecond
)

// Engine is the log without threads and locks: a server that has its own event
// loop stages records, writes the batches that Cut returns and reports with
// Finish. Its methods must not run at the same time; Log wraps it for
// concurrent use. Only Preparation.Run, Location.Read and Retirement.Run may
// run elsewhere, since they do I/O and touch nothing of the engine.
type Engine struct {
	dev     Device
	o       Options
	batches []batch  // used in turn, since commits finish in the order they were cut
	open    *batch   // being filled
	flying  []*batch // being written, the oldest first; all in one segment

	segments []*segment // oldest first
	active   *segment   // the one being appended to, nil if none
	writeEnd int64      // offset in active where the next batch begins
	durable  uint64     // position behind the last durable batch
	tenants  map[uint32]*tenant
	bytes    int64 // size of all segments' durable parts

	next        *segment // prepared successor
	preparing   bool
	prepareErr  error
	prepareAt   time.Time    // when it failed
	commitBytes atomic.Int64 // average size of the latest commits
	nextID      uint64
	nextBase    uint64

	failures int
	closed   bool
	err      error // the log failed for good
	stats    Stats
	recovery Recovery
}

// batch is one staging buffer and what is known of its records.
type batch struct {
	index   int
	buf     []byte
	seg     *segment
	offset  int64
	used    int // bytes of buf; batchHeaderLen when empty
	entries []entry
}

type entry struct {
	tenant *tenant
	offset uint32 // in the segment
}

// Commit is one batch to be written and made durable.
type Commit struct {
	File    File
	Buffer  int // index of the staging buffer
	Bytes   int // from the buffer's start; a multiple of BlockBytes
	Offset  int64
	Records int
}

// Outcome says what a finished commit means for its records.
type Outcome struct {
	Records int   // in the finished batch
	Err     error // nil: they are durable; else none of them is acknowledged
	// AlsoFailed are the buffers whose records got the same error: the commits
	// cut later, and what was staged meanwhile.
	AlsoFailed []int
}

// Stage puts a record into the open batch and returns its sequence. The record
// is durable when a Finish without error covers its batch. payload is copied.
// ErrBusy means that a commit or a preparation must end first; other errors
// mean that nothing was stored.
func (e *Engine) Stage(id uint32, payload []byte) (uint64, error) {
	if e.closed {
		return 0, ErrClosed
	}
	if e.err != nil {
		return 0, e.err
	}
	if len(payload) > e.o.RecordBytesMax {
		return 0, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(payload), e.o.RecordBytesMax)
	}
	need := recordExtent(len(payload))
	b := e.open
	if len(b.entries) == 0 {
		if err := e.begin(b, need); err != nil {
			return 0, err
		}
	} else if !b.fits(need) {
		return 0, ErrBusy
	}
	t, err := e.tenant(id)
	if err != nil {
		return 0, err
	}
	if e.o.AppendDelay > 0 {
		spin(e.o.AppendDelay)
	}
	b.add(t, payload, need)
	return t.next - 1, nil
}

// spin keeps the CPU for the time d: a sleep could not be shorter than a timer's
// slack, some 50 µs.
func spin(d time.Duration) {
	for began := time.Now(); time.Since(began) < d; {
	}
}

func (e *Engine) tenant(id uint32) (*tenant, error) {
	if t := e.tenants[id]; t != nil {
		return t, nil
	}
	if len(e.tenants) >= e.o.TenantsMax {
		return nil, ErrTenants
	}
	t := &tenant{id: id, low: 1, next: 1}
	e.tenants[id] = t
	return t, nil
}

// fits says whether the record fits the buffer and the segment.
func (b *batch) fits(need int) bool {
	return b.used+need <= len(b.buf) &&
		b.offset+int64(alignUp(b.used+need, BlockBytes)) <= b.seg.header.capacity
}

func (b *batch) add(t *tenant, payload []byte, need int) {
	offset := uint32(b.offset) + uint32(b.used)
	r := record{tenant: t.id, seq: t.next, payload: payload}
	if t.prevSeg == b.seg {
		r.prev = t.prevOff
	}
	r.encode(b.buf[b.used:], b.seg.header.salt, b.seg.header.base+uint64(offset))
	t.prevSeg, t.prevOff = b.seg, offset
	t.next++
	b.used += need
	b.entries = append(b.entries, entry{t, offset})
}

// begin gives an empty batch its place: in the active segment if a record of
// that size fits, else at the start of the next one.
func (e *Engine) begin(b *batch, need int) error {
	b.used = batchHeaderLen
	if e.active != nil {
		b.seg, b.offset = e.active, e.writeEnd
		if b.fits(need) {
			return nil
		}
	}
	if e.next == nil {
		return e.noSegment()
	}
	e.active, e.next = e.next, nil
	e.segments = append(e.segments, e.active)
	e.writeEnd = segmentHeaderLen
	e.stats.Segments++
	b.seg, b.offset = e.active, e.writeEnd
	return nil
}

// noSegment says why there is no segment to write to.
func (e *Engine) noSegment() error {
	if e.prepareErr == nil || e.o.Now().Sub(e.prepareAt) >= prepareBackoff {
		return ErrBusy // a preparation runs, or is due
	}
	return e.prepareErr
}

// Staged returns how many records and bytes the open batch holds.
func (e *Engine) Staged() (records, bytes int) {
	return len(e.open.entries), e.open.used
}

// Flying is how many commits were cut and not finished.
func (e *Engine) Flying() int { return len(e.flying) }

// OpenBuffer is the index of the buffer that the next staged record goes to.
func (e *Engine) OpenBuffer() int { return e.open.index }

// Cut closes the open batch and returns what must be written; the next buffer
// takes the records that follow. One commit fewer than there are buffers may be
// out at a time. It returns false when nothing is staged, when so many are out,
// or when those are in another segment.
func (e *Engine) Cut() (Commit, bool) {
	if len(e.open.entries) == 0 || e.err != nil || len(e.flying) == len(e.batches)-1 {
		return Commit{}, false
	}
	// Two segments are never in flight: a segment's first batch carries the exact
	// end of the one before, and recovery drops whatever stands behind that.
	if len(e.flying) > 0 && e.flying[0].seg != e.open.seg {
		return Commit{}, false
	}
	return e.cut(), true
}

func (e *Engine) cut() Commit {
	b := e.open
	h := batchHeader{
		position: b.seg.header.base + uint64(b.offset),
		durable:  e.durable,
		length:   uint32(b.used - batchHeaderLen),
		count:    uint32(len(b.entries)),
		timeNs:   e.o.Now().UnixNano(),
	}
	h.encode(b.buf, b.seg.header.salt)
	extent := int(h.extent())
	clear(b.buf[b.used:extent])
	b.seg.newestNs = h.timeNs
	e.flying = append(e.flying, b)
	e.open = &e.batches[(b.index+1)%len(e.batches)]
	e.writeEnd += int64(extent)
	return Commit{File: b.seg.file, Buffer: b.index, Bytes: extent, Offset: b.offset, Records: len(b.entries)}
}

// Finish reports the result of writing the oldest commit that is out. A later
// one that is durable before it waits: were it acknowledged first, a power cut
// could tear the older one and so hide it from recovery.
//
// Any error seals the segment at its last durable position: the records of all
// batches fail, and later ones go to a fresh segment. The writes of all commits
// that are out must have ended before an error is reported, since their buffers
// are reused and the segment is cut.
func (e *Engine) Finish(err error) Outcome {
	b := e.flying[0]
	out := Outcome{Records: len(b.entries)}
	if err == nil {
		e.flying = e.flying[:copy(e.flying, e.flying[1:])]
		e.publish(b)
		return out
	}
	later := e.flying[1:]
	e.flying = e.flying[:0]
	out.Err = e.seal(b.seg, err)
	e.rollBack(b)
	for _, b := range append(later, e.open) {
		if len(b.entries) > 0 {
			out.AlsoFailed = append(out.AlsoFailed, b.index)
			e.rollBack(b)
		}
	}
	return out
}

// publish makes a durable batch visible to readers.
func (e *Engine) publish(b *batch) {
	extent := int64(alignUp(b.used, BlockBytes))
	for _, en := range b.entries {
		t := en.tenant
		t.durable++
		var p *span
		if n := len(t.spans); n > 0 && t.spans[n-1].seg == b.seg {
			p = t.spans[n-1]
			p.add(en.offset)
			b.seg.records++
			continue
		}
		p, _ = b.seg.note(t.id, t.durable, en.offset) // cannot fail: the span is new
		t.spans = append(t.spans, p)
	}
	b.seg.end = b.offset + extent
	e.durable = b.seg.limit()
	e.bytes += extent
	e.failures = 0
	e.stats.count(len(b.entries), int(extent), b.used)
	e.commitSized(extent)
	b.entries = b.entries[:0]
}

func (e *Engine) rollBack(b *batch) {
	for _, en := range b.entries {
		en.tenant.next = en.tenant.durable + 1
		en.tenant.prevSeg = nil
	}
	e.stats.Failed += uint64(len(b.entries))
	b.entries = b.entries[:0]
}

// seal ends a segment whose last commit failed. Nothing is written to it again;
// cutting it makes sure that the failed batch cannot come back. Where even
// that fails, the first batch of the next segment carries the durable mark, and
// recovery ignores what stands behind it.
func (e *Engine) seal(s *segment, cause error) error {
	if e.active == s {
		e.active = nil
	}
	cut := s.file.Truncate(s.end)
	if cut == nil {
		cut = s.file.Sync()
	}
	if errors.Is(cause, syscall.ENOSPC) && cut == nil {
		e.stats.DiskFull++
		return ErrDiskFull
	}
	e.stats.SealedByError++
	e.failures++
	err := fmt.Errorf("%w: %s: %w", ErrFailed, s.name, cause)
	if e.failures >= failuresMax {
		e.err = fmt.Errorf("%w: %d segments in a row failed; last: %s: %w", ErrFailed, e.failures, s.name, cause)
	}
	return err
}

// Err returns why the log takes no more records, or nil.
func (e *Engine) Err() error { return e.err }

// Bytes returns the size of the durable part of all segments.
func (e *Engine) Bytes() int64 { return e.bytes }

// Close ends the engine. It marks the last segment
// complete (an empty batch that vouches for everything before it), gives back
// what was preallocated and closes the files. With a commit still out (a disk
// that hangs) it only closes them, as a crash would. Records still staged are
// lost; they were never acknowledged.
func (e *Engine) Close(write func(Commit) error) error {
	if e.closed {
		return ErrClosed
	}
	e.closed = true
	e.rollBack(e.open)
	var err error
	if s := e.active; s != nil && s.records > 0 && e.err == nil && len(e.flying) == 0 {
		err = e.closeActive(s, write)
	}
	if e.next != nil {
		err = errors.Join(err, e.next.file.Close(), e.dev.Remove(e.next.name))
	}
	for _, s := range e.segments {
		s.release()
	}
	return err
}

func (e *Engine) closeActive(s *segment, write func(Commit) error) error {
	if s.end+BlockBytes <= s.header.capacity && write != nil {
		e.open.seg, e.open.offset, e.open.used = s, e.writeEnd, batchHeaderLen
		if err := write(e.cut()); err != nil {
			return fmt.Errorf("seglog: write closing mark of %s: %w", s.name, err)
		}
		s.end += BlockBytes
	}
	if err := s.file.Truncate(s.end); err != nil {
		return fmt.Errorf("seglog: give back the rest of %s: %w", s.name, err)
	}
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("seglog: sync %s: %w", s.name, err)
	}
	return nil
}
