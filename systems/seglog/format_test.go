package seglog

import (
	"bytes"
	"errors"
	"testing"
)

func TestSegmentHeader(t *testing.T) {
	want := segmentHeader{id: 7, salt: 0xfeed, base: 3 << 30, capacity: 64 << 20, createdNs: 123456789}
	p := make([]byte, segmentHeaderLen)
	want.encode(p)
	got, err := decodeSegmentHeader(p)
	if err != nil || got != want {
		t.Fatalf("got %+v, error %v", got, err)
	}
	for i := range 60 { // the rest of the block is reserved
		p[i] ^= 0x10
		if _, err := decodeSegmentHeader(p); err == nil {
			t.Errorf("byte %d changed and nothing noticed", i)
		}
		p[i] ^= 0x10
	}
}

func TestEveryBitOfABatchIsChecked(t *testing.T) {
	image, h := testSegment(t, 42, [][]testRecord{{{1, "one"}, {2, ""}, {1, "three!!!"}}})
	used := batchHeaderLen + int(mustBatch(t, image, h).length)
	for i := segmentHeaderLen; i < segmentHeaderLen+used; i++ {
		for bit := range 8 {
			image[i] ^= 1 << bit
			s, _, err := scanSegment(bytes.NewReader(image), nil, int64(len(image)), SegmentBytesMax, nil)
			image[i] ^= 1 << bit
			if err != nil {
				t.Fatal(err)
			}
			padding := s.batches == 1 // bytes between records, which nothing reads
			if padding && !insidePadding(image, i) {
				t.Fatalf("bit %d of byte %d changed and the batch still verifies", bit, i)
			}
		}
	}
}

// insidePadding knows the layout of the one batch of the test above.
func insidePadding(image []byte, i int) bool {
	at := segmentHeaderLen + batchHeaderLen
	for _, n := range []int{3, 0, 8} {
		end := at + recordHeaderLen + n
		next := at + recordExtent(n)
		if i >= end && i < next {
			return true
		}
		at = next
	}
	return false
}

func TestStaleBytesDoNotVerify(t *testing.T) {
	old, _ := testSegment(t, 1, [][]testRecord{{{1, "old"}}, {{1, "older"}}, {{1, "oldest"}}})
	fresh, h := testSegment(t, 2, [][]testRecord{{{1, "new"}}})
	// The new life of the file is shorter: the old one's batches stand behind it.
	image := append(bytes.Clone(fresh[:segmentHeaderLen+BlockBytes]), old[segmentHeaderLen+BlockBytes:]...)
	s, _, err := scanSegment(bytes.NewReader(image), nil, int64(len(image)), SegmentBytesMax, nil)
	if err != nil || s.batches != 1 || s.end != segmentHeaderLen+BlockBytes || s.mark != h.base {
		t.Fatalf("scan %+v, error %v", s, err)
	}
	// The same batch at another place of the same file.
	image = append(bytes.Clone(fresh[:segmentHeaderLen+BlockBytes]), fresh[segmentHeaderLen:segmentHeaderLen+BlockBytes]...)
	s, _, err = scanSegment(bytes.NewReader(image), nil, int64(len(image)), SegmentBytesMax, nil)
	if err != nil || s.batches != 1 {
		t.Fatalf("a copy of a batch verifies elsewhere: %+v, error %v", s, err)
	}
}

type testRecord struct {
	tenant  uint32
	payload string
}

// testSegment builds a segment with the engine's own encoders, each batch one
// block, sequences from 1.
func testSegment(t testing.TB, salt uint64, batches [][]testRecord) ([]byte, segmentHeader) {
	t.Helper()
	h := segmentHeader{id: 1, salt: salt, base: 0, capacity: SegmentBytesMin}
	image := make([]byte, segmentHeaderLen)
	h.encode(image)
	next := map[uint32]uint64{}
	for _, records := range batches {
		start := len(image)
		block := make([]byte, BlockBytes)
		at := batchHeaderLen
		for _, r := range records {
			next[r.tenant]++
			rec := record{tenant: r.tenant, seq: next[r.tenant], payload: []byte(r.payload)}
			rec.encode(block[at:], salt, uint64(start+at))
			at += recordExtent(len(r.payload))
		}
		b := batchHeader{position: uint64(start), durable: uint64(start), length: uint32(at - batchHeaderLen), count: uint32(len(records))}
		if start == segmentHeaderLen {
			b.durable = 0
		}
		b.encode(block, salt)
		image = append(image, block...)
	}
	return image, h
}

func mustBatch(t testing.TB, image []byte, h segmentHeader) batchHeader {
	t.Helper()
	b, ok := decodeBatchHeader(image[segmentHeaderLen:], h.salt, h.base+segmentHeaderLen)
	if !ok {
		t.Fatal("the first batch does not verify")
	}
	return b
}

func FuzzDecodeRecord(f *testing.F) {
	image, _ := testSegment(f, 42, [][]testRecord{{{1, "one"}, {2, "two"}}})
	f.Add(image[segmentHeaderLen+batchHeaderLen:], uint64(42), uint64(segmentHeaderLen+batchHeaderLen))
	f.Add([]byte{}, uint64(0), uint64(0))
	f.Fuzz(func(t *testing.T, p []byte, salt, position uint64) {
		r, n, ok := decodeRecord(p, salt, position)
		if !ok {
			return
		}
		if n > len(p) || n != recordExtent(len(r.payload)) {
			t.Fatalf("extent %d of %d bytes with a payload of %d", n, len(p), len(r.payload))
		}
		// What decodes encodes to the same bytes, padding aside.
		again := make([]byte, n)
		r.encode(again, salt, position)
		if !bytes.Equal(again[:recordHeaderLen+len(r.payload)], p[:recordHeaderLen+len(r.payload)]) {
			t.Fatal("a decoded record encodes to other bytes")
		}
	})
}

func FuzzScanSegment(f *testing.F) {
	image, _ := testSegment(f, 42, [][]testRecord{{{1, "one"}, {2, "two"}}, {{1, "three"}}})
	f.Add(image)
	f.Add(image[:len(image)-100])
	f.Add(image[:segmentHeaderLen])
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) > 1<<20 {
			return
		}
		end := int64(segmentHeaderLen)
		s, _, err := scanSegment(bytes.NewReader(p), nil, int64(len(p)), SegmentBytesMax, func(offset int64, r record) error {
			if offset < end || offset+recordHeaderLen+int64(len(r.payload)) > int64(len(p)) {
				t.Fatalf("record at %d of %d bytes", offset, len(p))
			}
			end = offset + recordHeaderLen
			return nil
		})
		if err != nil && !errors.Is(err, errHeader) {
			t.Fatalf("scan: %v", err)
		}
		if err == nil && (s.end < segmentHeaderLen || s.end > int64(len(p)) || s.end%BlockBytes != 0) {
			t.Fatalf("scan ends at %d of %d bytes", s.end, len(p))
		}
	})
}
