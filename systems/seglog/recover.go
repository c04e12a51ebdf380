package seglog

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// Recovery says what opening a log found and did.
type Recovery struct {
	Segments       int
	Records        uint64
	Bytes          int64         // read
	TruncatedBytes int64         // of torn tails; zeros that were only preallocated don't count
	TornAt         string        // file and offset of the torn tail, empty if none
	Elapsed        time.Duration // of the whole recovery
}

// found is one segment file during recovery.
type found struct {
	segment *segment
	scan    scanned
	err     error
	recent  [1024]*span // by the low bits of the tenant: most records hit it
}

// buffersMax bounds the staging buffers; more than two commits in flight were
// of no use.
const buffersMax = 3

// OpenEngine recovers the log on the device. The buffers are the two or three
// staging buffers, Options.BatchBytes each; one fewer is the number of commits
// that may be out at a time. A torn tail is cut off; anything else that doesn't
// match what was acknowledged is a CorruptError, and nothing is changed.
func OpenEngine(dev Device, o Options, buffers [][]byte) (*Engine, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	started := time.Now()
	e := &Engine{dev: dev, o: o, tenants: make(map[uint32]*tenant), nextID: 1}
	if len(buffers) < 2 || len(buffers) > buffersMax {
		return nil, fmt.Errorf("seglog: %d staging buffers, want 2 to %d", len(buffers), buffersMax)
	}
	e.batches, e.flying = make([]batch, len(buffers)), make([]*batch, 0, len(buffers))
	for i := range e.batches {
		if len(buffers[i]) != o.BatchBytes {
			return nil, fmt.Errorf("seglog: staging buffer %d has %d bytes, want %d", i, len(buffers[i]), o.BatchBytes)
		}
		e.batches[i] = batch{index: i, buf: buffers[i]}
	}
	e.open = &e.batches[0]
	r := recoverer{dev: dev, tenants: e.tenants}
	if err := r.run(false, nil); err != nil {
		r.close()
		return nil, err
	}
	e.adopt(&r)
	e.recovery.Elapsed = time.Since(started)
	return e, nil
}

// adopt takes over what recovery found. Appending continues in a new segment.
func (e *Engine) adopt(r *recoverer) {
	e.recovery = r.result
	e.nextID, e.nextBase = r.state.first, r.state.base
	for _, f := range r.files {
		s := f.segment
		e.segments = append(e.segments, s)
		e.bytes += s.end - segmentHeaderLen
		e.nextID = s.header.id + 1
		e.nextBase = s.header.base + uint64(s.header.capacity)
		e.durable = max(e.durable, s.limit())
	}
	for _, t := range e.tenants {
		t.next = t.durable + 1
	}
}

// Recovery returns what opening the log found.
func (e *Engine) Recovery() Recovery { return e.recovery }

// recoverer reads a log's folder, checks it as a whole and builds the index.
type recoverer struct {
	dev     Device
	state   retention // what earlier retention left
	files   []*found
	retired []string // segments that a crash kept from being removed
	stray   []string // temporary files
	tenants map[uint32]*tenant
	result  Recovery
}

// run recovers. With readOnly nothing on the device changes and each record is
// given to visit in log order.
func (r *recoverer) run(readOnly bool, visit func(tenant uint32, seq uint64, payload []byte) error) error {
	if err := r.list(); err != nil {
		return err
	}
	if err := r.scanAll(); err != nil {
		return err
	}
	if err := r.settle(); err != nil {
		return err
	}
	if err := r.link(); err != nil {
		return err
	}
	if readOnly {
		return r.visit(visit)
	}
	return r.repair()
}

func (r *recoverer) list() error {
	names, err := r.dev.List()
	if err != nil {
		return fmt.Errorf("seglog: list log files: %w", err)
	}
	slices.Sort(names)
	if err := r.state.load(r.dev, names); err != nil {
		return err
	}
	expect := r.state.first
	for _, name := range names {
		if strings.HasSuffix(name, temporary) {
			r.stray = append(r.stray, name)
			continue
		}
		id, ok := segmentID(name)
		if !ok {
			continue
		}
		if id < r.state.first {
			r.retired = append(r.retired, name)
			continue
		}
		if id != expect {
			return &CorruptError{File: segmentName(expect), Reason: fmt.Sprintf("segment is missing; the next one found is %s", name)}
		}
		expect++
		f, err := r.dev.Open(name)
		if err != nil {
			return fmt.Errorf("seglog: open segment %s: %w", name, err)
		}
		r.files = append(r.files, &found{segment: newSegment(segmentHeader{id: id}, name, f)})
	}
	return nil
}

// scanAll reads all segments, several at a time.
func (r *recoverer) scanAll() error {
	var wg sync.WaitGroup
	work := make(chan *found)
	for range min(runtime.GOMAXPROCS(0), max(len(r.files), 1)) {
		wg.Go(func() {
			var buf []byte
			for f := range work {
				buf, f.err = f.read(buf)
			}
		})
	}
	for _, f := range r.files {
		work <- f
	}
	close(work)
	wg.Wait()
	for _, f := range r.files {
		if f.err != nil {
			return f.err
		}
		r.result.Bytes += f.scan.size
	}
	return nil
}

func (f *found) read(buf []byte) ([]byte, error) {
	s := f.segment
	size, err := s.file.Size()
	if err != nil {
		return buf, fmt.Errorf("seglog: size of %s: %w", s.name, err)
	}
	id := s.header.id
	f.scan, buf, err = scanSegment(s.file, buf, size, SegmentBytesMax, f.index)
	var corrupt *CorruptError
	switch {
	case errors.As(err, &corrupt):
		corrupt.File = s.name
		return buf, corrupt
	case errors.Is(err, errHeader):
		return buf, &CorruptError{File: s.name, Reason: f.scan.reason}
	case err != nil:
		return buf, fmt.Errorf("seglog: scan %s: %w", s.name, err)
	case f.scan.header.id != id:
		return buf, &CorruptError{File: s.name, Reason: fmt.Sprintf("header says segment %d", f.scan.header.id)}
	}
	s.header, s.end, s.newestNs = f.scan.header, f.scan.end, f.scan.newest
	return buf, nil
}

func (f *found) index(offset int64, r record) error {
	slot := &f.recent[r.tenant%uint32(len(f.recent))]
	if p := *slot; p != nil && p.tenant == r.tenant && r.seq == p.last+1 {
		p.add(uint32(offset))
		f.segment.records++
		return nil
	}
	p, err := f.segment.note(r.tenant, r.seq, uint32(offset))
	if err != nil {
		return &CorruptError{Offset: offset, Reason: err.Error()}
	}
	*slot = p
	return nil
}

// settle finds where each segment ends. The first batch of the next segment
// says how far this one was durable; in the last one the highest durable mark
// of any batch does. Less than that is corruption, more was never acknowledged.
func (r *recoverer) settle() error {
	r.dropEmptyTail()
	for i, f := range r.files {
		h := f.segment.header
		if i == 0 && h.id == r.state.first && r.state.base != h.base {
			return &CorruptError{File: f.segment.name, Reason: fmt.Sprintf("base position %d, want %d", h.base, r.state.base)}
		}
		if i > 0 {
			prev := r.files[i-1].segment.header
			if want := prev.base + uint64(prev.capacity); h.base != want {
				return &CorruptError{File: f.segment.name, Reason: fmt.Sprintf("base position %d, want %d", h.base, want)}
			}
		}
	}
	mark, exact := r.lastMark(), false
	for i := len(r.files) - 1; i >= 0; i-- {
		f := r.files[i]
		if err := f.settle(mark, exact); err != nil {
			return err
		}
		if f.scan.batches > 0 {
			mark, exact = f.scan.first, true
		}
	}
	return nil
}

// dropEmptyTail sets aside segments at the end that never got a batch.
func (r *recoverer) dropEmptyTail() {
	for n := len(r.files); n > 0; n = len(r.files) {
		f := r.files[n-1]
		if f.scan.batches > 0 || f.scan.mark > f.segment.header.base+segmentHeaderLen {
			return
		}
		r.stray = append(r.stray, f.segment.name)
		r.files = r.files[:n-1]
		f.segment.release()
	}
}

func (r *recoverer) lastMark() uint64 {
	var mark uint64
	for _, f := range r.files {
		mark = max(mark, f.scan.mark)
	}
	return mark
}

// settle compares the segment's valid part with the durable mark. exact says
// that nothing behind the mark was ever acknowledged.
func (f *found) settle(mark uint64, exact bool) error {
	s := f.segment
	start := s.header.base + segmentHeaderLen
	durable := max(mark, start)
	if s.limit() < durable {
		at := max(f.scan.broken, s.end)
		reason := f.scan.reason
		if reason == "" {
			reason = "data is missing"
		}
		return &CorruptError{File: s.name, Offset: at, Reason: fmt.Sprintf("%s, but everything below offset %d was acknowledged", reason, int64(durable-s.header.base))}
	}
	if !exact || s.limit() == durable {
		return nil
	}
	// A failed commit left batches that were never acknowledged.
	s.end, s.spans, s.records = int64(durable-s.header.base), make(map[uint32]*span), 0
	clear(f.recent[:])
	scan, _, err := scanSegment(s.file, nil, f.scan.size, s.end, f.index)
	if err != nil {
		return fmt.Errorf("seglog: scan %s again: %w", s.name, err)
	}
	f.scan.end, f.scan.batches, f.scan.first, f.scan.dirty = scan.end, scan.batches, scan.first, true
	if scan.end != s.end {
		return &CorruptError{File: s.name, Offset: scan.end, Reason: "the durable mark is not at a batch boundary"}
	}
	return nil
}

// link joins the segments' indexes per tenant and demands that each tenant's
// sequences follow each other without a gap from its low watermark.
func (r *recoverer) link() error {
	for _, f := range r.files {
		r.result.Records += f.segment.records
		r.result.Segments++
		for id, p := range f.segment.spans {
			t := r.tenants[id]
			if t == nil {
				low := max(r.state.low[id], 1)
				t = &tenant{id: id, low: low, durable: low - 1}
				r.tenants[id] = t
			}
			if p.first != t.durable+1 {
				return &CorruptError{File: f.segment.name, Offset: int64(p.every[0]),
					Reason: fmt.Sprintf("tenant %d: sequence %d follows %d", id, p.first, t.durable)}
			}
			t.durable = p.last
			t.spans = append(t.spans, p)
		}
	}
	for id, low := range r.state.low {
		if r.tenants[id] == nil {
			r.tenants[id] = &tenant{id: id, low: low, durable: low - 1}
		}
	}
	return nil
}

// repair cuts torn tails and removes what crashes left. It runs after
// everything was checked.
func (r *recoverer) repair() error {
	for i, f := range r.files {
		s := f.segment
		if f.scan.dirty {
			r.result.TruncatedBytes += f.scan.size - s.end
			r.result.TornAt = fmt.Sprintf("%s at offset %d", s.name, s.end)
		}
		if f.scan.size > s.end {
			if err := s.file.Truncate(s.end); err != nil {
				return fmt.Errorf("seglog: cut the tail of %s at %d: %w", s.name, s.end, err)
			}
		} else if i < len(r.files)-1 {
			continue
		}
		// The last batch may be whole and yet only in a cache, if the process
		// died between its write and its sync. From here on it is relied on.
		if err := s.file.Sync(); err != nil {
			return fmt.Errorf("seglog: sync %s after cutting its tail: %w", s.name, err)
		}
	}
	for _, name := range slices.Concat(r.stray, r.retired) {
		if err := r.dev.Remove(name); err != nil {
			return fmt.Errorf("seglog: remove %s: %w", name, err)
		}
	}
	return nil
}

func (r *recoverer) visit(visit func(tenant uint32, seq uint64, payload []byte) error) error {
	var buf []byte
	for _, f := range r.files {
		var err error
		_, buf, err = scanSegment(f.segment.file, buf, f.scan.size, f.segment.end, func(_ int64, rec record) error {
			return visit(rec.tenant, rec.seq, rec.payload)
		})
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	return nil
}

func (r *recoverer) close() {
	for _, f := range r.files {
		f.segment.release()
	}
}
