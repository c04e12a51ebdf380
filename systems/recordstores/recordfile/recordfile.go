// Package recordfile is the record framing of the plain file stores.
//
// A file is a sequence of records, each a 20-byte little-endian header and the
// payload:
//
//	offset size field
//	0      4    payload length
//	4      4    tenant
//	8      8    sequence
//	16     4    CRC32C of bytes 0..16 and of the payload
package recordfile

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

const (
	// HeaderLen is the size of a record without its payload, in bytes.
	HeaderLen = 20
	// PayloadLenMax bounds one payload, in bytes.
	PayloadLenMax = 16 << 20
)

// ErrCorrupt says that a damaged record is followed by a good one: that is not
// a write that a crash tore, and nothing may be cut off.
var ErrCorrupt = errors.New("recordfile: damaged record before good ones")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Record is one record; Payload aliases the buffer of whoever made it.
type Record struct {
	Tenant  uint32
	Seq     uint64
	Payload []byte
}

// Append appends the file form of r to dst.
func Append(dst []byte, r Record) []byte {
	start := len(dst)
	var header [HeaderLen]byte
	binary.LittleEndian.PutUint32(header[0:], uint32(len(r.Payload)))
	binary.LittleEndian.PutUint32(header[4:], r.Tenant)
	binary.LittleEndian.PutUint64(header[8:], r.Seq)
	dst = append(dst, header[:]...)
	dst = append(dst, r.Payload...)
	binary.LittleEndian.PutUint32(dst[start+16:], checksum(dst[start:]))
	return dst
}

func checksum(whole []byte) uint32 {
	sum := crc32.Update(0, castagnoli, whole[:16])
	return crc32.Update(sum, castagnoli, whole[HeaderLen:])
}

// Scan calls fn with each record of the file at path, in order, until the end
// or a record that a crash tore, and returns the length of what is whole. The
// payload is valid during the call only. An absent file has no records.
func Scan(path string, fn func(Record) error) (wholeLen int64, err error) {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	s := scanner{in: bufio.NewReaderSize(file, 256<<10), left: info.Size()}
	for {
		r, err := s.next()
		if err != nil {
			return wholeLen, fmt.Errorf("read %s at %d: %w", path, wholeLen, err)
		}
		if !s.whole {
			return wholeLen, s.checkTorn(path, wholeLen)
		}
		if err := fn(r); err != nil {
			return wholeLen, err
		}
		wholeLen += HeaderLen + int64(len(r.Payload))
	}
}

type scanner struct {
	in    *bufio.Reader
	left  int64 // bytes not read yet
	whole bool  // the last record
	buf   []byte
}

// next reads one record. whole is false at the end and on any damage.
func (s *scanner) next() (Record, error) {
	s.whole = false
	if s.left < HeaderLen {
		return Record{}, nil
	}
	header, err := s.in.Peek(HeaderLen)
	if err != nil {
		return Record{}, err
	}
	payloadLen := binary.LittleEndian.Uint32(header)
	total := HeaderLen + int64(payloadLen)
	if payloadLen > PayloadLenMax || total > s.left {
		return Record{}, nil
	}
	if int64(cap(s.buf)) < total {
		s.buf = make([]byte, total)
	}
	s.buf = s.buf[:total]
	if _, err := io.ReadFull(s.in, s.buf); err != nil {
		return Record{}, err
	}
	s.left -= total
	s.whole = binary.LittleEndian.Uint32(s.buf[16:]) == checksum(s.buf)
	return Record{
		Tenant:  binary.LittleEndian.Uint32(s.buf[4:]),
		Seq:     binary.LittleEndian.Uint64(s.buf[8:]),
		Payload: s.buf[HeaderLen:total:total],
	}, nil
}

// checkTorn tells a torn last write from damage in the middle: after the latter
// the next record, where the damaged one says that it begins, is whole.
func (s *scanner) checkTorn(path string, at int64) error {
	if s.left == 0 {
		return nil
	}
	if _, err := s.next(); err != nil {
		return fmt.Errorf("read %s after %d: %w", path, at, err)
	}
	if s.whole {
		return fmt.Errorf("%s at %d: %w", path, at, ErrCorrupt)
	}
	return nil
}

// OpenAppend opens the file at path for appending, creates it durably if it is
// absent, and cuts off what lies beyond wholeLen. dir is the folder of path.
func OpenAppend(dir *os.File, path string, wholeLen int64) (*os.File, error) {
	_, statErr := os.Stat(path)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	if err := prepare(dir, file, wholeLen, statErr != nil); err != nil {
		file.Close()
		return nil, fmt.Errorf("prepare %s: %w", path, err)
	}
	return file, nil
}

func prepare(dir, file *os.File, wholeLen int64, created bool) error {
	if created {
		if err := dir.Sync(); err != nil {
			return err
		}
	}
	info, err := file.Stat()
	if err != nil || info.Size() <= wholeLen {
		return err
	}
	if err := file.Truncate(wholeLen); err != nil {
		return err
	}
	return file.Sync()
}
