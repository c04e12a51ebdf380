package seglog

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
)

const (
	segmentSuffix = ".seg"
	temporary     = ".tmp"
)

func segmentName(id uint64) string { return fmt.Sprintf("%016x%s", id, segmentSuffix) }

// segmentID is the inverse of segmentName; other files are not the log's.
func segmentID(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok || len(digits) != 16 {
		return 0, false
	}
	id, err := strconv.ParseUint(digits, 16, 64)
	return id, err == nil && id > 0 && segmentName(id) == name
}

func randomSalt() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	return binary.LittleEndian.Uint64(b[:])
}

// Preparation makes the next segment ahead of its use: allocated, header
// durable, named. Run does the I/O and may run on any goroutine.
type Preparation struct {
	dev    Device
	header segmentHeader
	ahead  func() bool
	file   File
	err    error
}

// aheadBytesMax is the commit size up to which a new segment's blocks are
// written ahead. Commits of 4 KiB to written blocks were 1.6 times as fast as to
// reserved ones; from 32 KiB on there was no difference, and writing every block
// twice takes bandwidth from the commits themselves.
const aheadBytesMax = 32 << 10

// smallCommits reports whether the latest commits were small, on average with
// the older ones counting less. Any goroutine may ask.
func (e *Engine) smallCommits() bool { return e.commitBytes.Load() < aheadBytesMax }

// commitSized takes the size of a commit into the average.
func (e *Engine) commitSized(bytes int64) {
	mean := e.commitBytes.Load()
	e.commitBytes.Store(mean + (bytes-mean)/8)
}

// Prepare returns the work to do when a segment will be needed, or nil. The
// caller runs it and hands it to Prepared.
func (e *Engine) Prepare() *Preparation {
	if e.next != nil || e.preparing || e.closed || e.err != nil {
		return nil
	}
	if e.prepareErr != nil && e.o.Now().Sub(e.prepareAt) < prepareBackoff {
		return nil
	}
	e.preparing, e.prepareErr = true, nil
	h := segmentHeader{
		id: e.nextID, salt: e.o.Random(), base: e.nextBase,
		capacity: e.o.SegmentBytes, createdNs: e.o.Now().UnixNano(),
	}
	return &Preparation{dev: e.dev, header: h, ahead: e.smallCommits}
}

// Run creates the file. The header is durable before the file gets its name,
// so a segment's name alone says that its header was good once.
func (p *Preparation) Run() {
	name := segmentName(p.header.id)
	p.err = p.create(name)
	if p.err != nil {
		if p.file != nil {
			_ = p.file.Close()
		}
		_ = p.dev.Remove(name + temporary) // recovery removes it otherwise
	}
}

func (p *Preparation) create(name string) error {
	f, err := p.dev.Create(name+temporary, p.header.capacity, p.ahead)
	if err != nil {
		return fmt.Errorf("create segment %s of %d bytes: %w", name, p.header.capacity, err)
	}
	p.file = f
	var block [segmentHeaderLen]byte
	p.header.encode(block[:])
	if _, err := f.WriteAt(block[:], 0); err != nil {
		return fmt.Errorf("write header of segment %s: %w", name, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync segment %s: %w", name, err)
	}
	if err := p.dev.Rename(name+temporary, name); err != nil {
		return fmt.Errorf("name segment %s: %w", name, err)
	}
	return nil
}

// Prepared takes the result of a preparation. A full disk is not remembered
// beyond a short pause: the next record tries again.
func (e *Engine) Prepared(p *Preparation) {
	e.preparing = false
	if p.err != nil {
		e.prepareAt = e.o.Now()
		e.prepareErr = fmt.Errorf("%w: %w", ErrFailed, p.err)
		if errors.Is(p.err, syscall.ENOSPC) {
			e.stats.DiskFull++
			e.prepareErr = fmt.Errorf("%w: %w", ErrDiskFull, p.err)
		}
		return
	}
	e.nextID++
	e.nextBase += uint64(p.header.capacity)
	s := newSegment(p.header, segmentName(p.header.id), p.file)
	if e.closed { // closed while it ran
		_ = p.file.Close()
		_ = e.dev.Remove(s.name)
		return
	}
	e.next = s
}

// PrepareFailed returns why no segment could be prepared, or nil.
func (e *Engine) PrepareFailed() error { return e.prepareErr }
