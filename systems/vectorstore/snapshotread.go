package vectorstore

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/nexuscore-labs/nexus/systems/seglog"
)

// openSnapshot reads a snapshot's head; the file is returned only when kept.
func (s *Store) openSnapshot(name string, keep bool) (info SnapshotInfo, file seglog.File, err error) {
	file, err = s.dev.Open(name)
	if err != nil {
		return info, nil, fmt.Errorf("open %s: %w", name, err)
	}
	defer func() {
		if err != nil || !keep {
			err, file = errors.Join(err, file.Close()), nil
		}
	}()
	info.Name = name
	if info.Bytes, err = file.Size(); err != nil {
		return info, file, fmt.Errorf("size of %s: %w", name, err)
	}
	head := make([]byte, snapshotHeadLen)
	if n, err := file.ReadAt(head, 0); n < len(head) {
		return info, file, fmt.Errorf("%w: read head of %s: %w", ErrCorrupt, name, err)
	}
	le, body := binary.LittleEndian, head[:snapshotHeadLen-4]
	if string(head[:8]) != snapshotMagic || le.Uint32(head[len(body):]) != crc32.Checksum(body, castagnoli) {
		return info, file, fmt.Errorf("%w: %s is no snapshot", ErrCorrupt, name)
	}
	info.Seq, info.Made = le.Uint64(head[8:]), time.Unix(0, int64(le.Uint64(head[16:])))
	return info, file, nil
}

// loadSnapshot applies the newest snapshot and returns its place in the log, 0
// when there is none. A snapshot got its name when it was durable, so one that
// can't be read is damage, never a crash: nothing older is tried in its place.
func (s *Store) loadSnapshot() (uint64, error) {
	all, err := s.Snapshots()
	if err != nil || len(all) == 0 {
		return 0, err
	}
	newest := all[len(all)-1]
	_, file, err := s.openSnapshot(newest.Name, true)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	body := io.NewSectionReader(file, snapshotHeadLen, newest.Bytes-snapshotHeadLen)
	if err := s.applyFrames(bufio.NewReaderSize(body, 1<<20)); err != nil {
		return 0, fmt.Errorf("%s: %w", newest.Name, err)
	}
	return newest.Seq, nil
}

func (s *Store) applyFrames(r io.Reader) error {
	for frames := uint64(0); ; frames++ {
		operation, err := readFrame(r)
		if err != nil {
			return fmt.Errorf("frame %d: %w", frames, err)
		}
		if len(operation) > 0 && operation[0] == opEnd {
			d := &decoder{src: operation[1:]}
			if n := d.uvarint(); n != frames || d.end() != nil {
				return fmt.Errorf("%w: %d frames, the end says %d", ErrCorrupt, frames, n)
			}
			return nil
		}
		o, err := decodeOp(operation)
		if err != nil {
			return fmt.Errorf("frame %d: %w", frames, err)
		}
		if _, err := s.apply(o); err != nil {
			return fmt.Errorf("frame %d: %w", frames, err)
		}
	}
}

func readFrame(r io.Reader) ([]byte, error) {
	var head [frameHeadLen]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	n, sum := binary.LittleEndian.Uint32(head[:]), binary.LittleEndian.Uint32(head[4:])
	if n > frameLenMax {
		return nil, fmt.Errorf("%w: %d bytes", ErrCorrupt, n)
	}
	operation := make([]byte, n)
	if _, err := io.ReadFull(r, operation); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if crc32.Checksum(operation, castagnoli) != sum {
		return nil, fmt.Errorf("%w: checksum mismatch", ErrCorrupt)
	}
	return operation, nil
}
