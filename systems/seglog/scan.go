package seglog

import (
	"errors"
	"fmt"
	"io"
)

// scanChunk is how much of a segment is read at once.
const scanChunk = 1 << 20

// scanned is what one pass over a segment file found.
type scanned struct {
	header  segmentHeader
	size    int64
	end     int64  // offset behind the last valid batch of the unbroken run
	batches int    // in that run
	first   uint64 // the durable mark of the run's first batch
	mark    uint64 // the highest durable mark of any valid batch header, also behind end
	newest  int64  // commit time of the run's last batch, Unix ns
	dirty   bool   // bytes other than zeros stand at end
	reason  string // what is wrong at end, when dirty
	broken  int64  // offset of the first bad record or header, when dirty
}

// visitor receives each record of a whole valid batch.
type visitor func(offset int64, r record) error

// window reads a file through one buffer that is reused and grows to the
// largest batch.
type window struct {
	file  io.ReaderAt
	buf   []byte
	start int64 // file offset of buf[0]
	fill  int
	size  int64
}

// at returns n bytes at the offset, fewer at the end of the file.
func (w *window) at(offset int64, n int) ([]byte, error) {
	n = int(min(int64(n), w.size-offset))
	if n <= 0 {
		return nil, nil
	}
	if offset >= w.start && offset+int64(n) <= w.start+int64(w.fill) {
		i := int(offset - w.start)
		return w.buf[i : i+n], nil
	}
	want := int(min(int64(max(n, scanChunk)), w.size-offset))
	if cap(w.buf) < want {
		w.buf = make([]byte, want)
	}
	w.buf = w.buf[:cap(w.buf)]
	want = int(min(int64(len(w.buf)), w.size-offset))
	got, err := w.file.ReadAt(w.buf[:want], offset)
	if got < want && err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	w.start, w.fill = offset, got
	return w.buf[:min(n, got)], nil
}

// scanSegment reads a segment's batches from its start up to the limit offset
// and gives the records of whole valid ones to visit. What follows the first
// invalid batch is searched for later valid batch headers: their durable marks
// tell a torn tail from corruption. The error is an I/O error or the visitor's.
func scanSegment(f io.ReaderAt, buf []byte, size, limit int64, visit visitor) (scanned, []byte, error) {
	w := &window{file: f, buf: buf, size: size}
	head, err := w.at(0, segmentHeaderLen)
	if err != nil {
		return scanned{}, w.buf, fmt.Errorf("read segment header: %w", err)
	}
	h, err := decodeSegmentHeader(head)
	if err != nil {
		return scanned{size: size, dirty: true, reason: err.Error()}, w.buf, errHeader
	}
	limit = min(limit, size, h.capacity)
	w.size = limit
	s := scanned{header: h, size: size, end: segmentHeaderLen}
	for s.end < limit {
		extent, err := s.batch(w, visit)
		if err != nil {
			return s, w.buf, err
		}
		if extent == 0 {
			break
		}
		s.end += extent
	}
	if s.end < limit {
		err = s.lookAhead(w, limit)
	}
	return s, w.buf, err
}

// errHeader marks a segment whose header does not parse.
var errHeader = errors.New("bad segment header")

// batch checks the batch at s.end and returns its extent, 0 when it isn't valid.
func (s *scanned) batch(w *window, visit visitor) (int64, error) {
	position := s.header.base + uint64(s.end)
	head, err := w.at(s.end, batchHeaderLen)
	if err != nil {
		return 0, fmt.Errorf("read batch at offset %d: %w", s.end, err)
	}
	h, ok := decodeBatchHeader(head, s.header.salt, position)
	if !ok {
		s.broken = s.end
		s.dirty, s.reason = !allZero(head), "no valid batch header"
		return 0, nil
	}
	raw, err := w.at(s.end, int(h.extent()))
	if err != nil {
		return 0, fmt.Errorf("read batch at offset %d: %w", s.end, err)
	}
	if int64(len(raw)) < h.extent() {
		s.dirty, s.broken, s.reason = true, s.end, "batch is cut short"
		return 0, nil
	}
	body := raw[batchHeaderLen : batchHeaderLen+h.length]
	if bad := s.check(body, h); bad >= 0 {
		s.dirty, s.broken, s.reason = true, s.end+batchHeaderLen+bad, "record checksum mismatch"
		return 0, nil
	}
	if s.batches == 0 {
		s.first = h.durable
	}
	s.batches++
	s.newest = h.timeNs
	s.mark = max(s.mark, h.durable)
	if visit == nil {
		return h.extent(), nil
	}
	return h.extent(), s.deliver(body, visit)
}

// check verifies all records before any is delivered: a batch counts as a
// whole. It returns the offset in body of the first bad one, or -1.
func (s *scanned) check(body []byte, h batchHeader) int64 {
	position := s.header.base + uint64(s.end) + batchHeaderLen
	at, count := 0, uint32(0)
	for at < len(body) {
		_, n, ok := decodeRecord(body[at:], s.header.salt, position+uint64(at))
		if !ok {
			return int64(at)
		}
		at += n
		count++
	}
	if count != h.count {
		return int64(at)
	}
	return -1
}

func (s *scanned) deliver(body []byte, visit visitor) error {
	for at := 0; at < len(body); {
		r, n := decodeChecked(body[at:])
		if err := visit(s.end+batchHeaderLen+int64(at), r); err != nil {
			return err
		}
		at += n
	}
	return nil
}

// lookAhead finds batch headers behind the first invalid batch. Batches start
// at block boundaries, so only those are looked at.
func (s *scanned) lookAhead(w *window, limit int64) error {
	for offset := s.end; offset+batchHeaderLen <= limit; offset += BlockBytes {
		head, err := w.at(offset, batchHeaderLen)
		if err != nil {
			return fmt.Errorf("read behind the end at offset %d: %w", offset, err)
		}
		if h, ok := decodeBatchHeader(head, s.header.salt, s.header.base+uint64(offset)); ok {
			s.mark = max(s.mark, h.durable)
			s.dirty = true
		} else if !s.dirty && !allZero(head) {
			s.dirty, s.reason, s.broken = true, "bytes behind the last batch", offset
		}
	}
	return nil
}

func allZero(p []byte) bool {
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}
