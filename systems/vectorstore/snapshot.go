package vectorstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nexuscore-labs/nexus/systems/seglog"
)

// A snapshot is a file beside the log: a header, then frames, each an operation
// as the log has them, that together rebuild all collections as they were after
// change seq; the last frame vouches for their number. Integers are little-endian.
//
//	header           frame
//	0   8  magic     0  4  length of the operation
//	8   8  seq       4  4  CRC32C of the operation
//	16  8  time      8     the operation
//	24  4  CRC32C of bytes 0 to 23
const (
	snapshotPrefix    = "snapshot-"
	snapshotSuffix    = ".snap"
	snapshotTemporary = "snapshot.tmp" // the log removes what ends in .tmp when it is opened
	snapshotMagic     = "NXVSNAP1"
	snapshotHeadLen   = 28
	frameHeadLen      = 8
	frameLenMax       = 64 << 20
	opEnd             = 0xff
	frameFlushBytes   = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// SnapshotInfo describes a snapshot of the whole store.
type SnapshotInfo struct {
	Name  string
	Seq   uint64
	Bytes int64
	Made  time.Time
}

// snapshotState is about snapshots that the store makes by itself.
type snapshotState struct {
	running sync.WaitGroup
	mu      sync.Mutex // one snapshot at a time
	pending struct {
		sync.Mutex
		bytes  int64 // of log since the last one
		going  bool
		failed error
		made   int
	}
}

// snapshotIfDue starts a snapshot in the background when the log has grown. A
// failed one loses nothing: the log is kept and the next growth tries again.
func (s *Store) snapshotIfDue(bytes int) {
	if s.o.SnapshotBytes < 0 {
		return
	}
	p := &s.snapshots.pending
	p.Lock()
	defer p.Unlock()
	p.bytes += int64(bytes)
	if p.going || p.bytes < s.o.SnapshotBytes {
		return
	}
	s.order.Lock()
	defer s.order.Unlock()
	if s.closed {
		return // Close waits for those that began before it
	}
	p.going, p.bytes = true, 0
	s.snapshots.running.Go(func() {
		_, err := s.Snapshot(context.Background())
		p.Lock()
		p.going, p.failed = false, err
		p.Unlock()
	})
}

// SnapshotError is why the last snapshot that the store made by itself failed,
// or nil.
func (s *Store) SnapshotError() error {
	p := &s.snapshots.pending
	p.Lock()
	defer p.Unlock()
	return p.failed
}

// Snapshot writes all collections to a file, so that opening the store need not
// repeat the log up to here, and removes what it makes superfluous: older
// snapshots and the log before it. Changes and searches go on meanwhile.
func (s *Store) Snapshot(ctx context.Context) (SnapshotInfo, error) {
	s.snapshots.mu.Lock()
	defer s.snapshots.mu.Unlock()
	seq, frozen := s.freeze()
	defer func() {
		for _, f := range frozen {
			f.thaw()
		}
	}()
	info, err := s.writeSnapshot(ctx, seq, frozen)
	if err != nil {
		return SnapshotInfo{}, errors.Join(fmt.Errorf("write snapshot at change %d: %w", seq, err), s.dev.Remove(snapshotTemporary))
	}
	old, err := s.Snapshots()
	for _, o := range old {
		if o.Seq < seq {
			err = errors.Join(err, s.dev.Remove(o.Name))
		}
	}
	if err := errors.Join(err, s.log.RetainFrom(logTenant, seq+1)); err != nil {
		return info, fmt.Errorf("remove what snapshot %s made superfluous: %w", info.Name, err)
	}
	return info, nil
}

// frozen is a collection as it was at a moment: slots that are not reused while
// it is held.
type frozen struct {
	c       *collection
	config  CollectionConfig
	slots   []slot
	indexes []op
}

// freeze stops changes for the time of copying the slots' heads.
func (s *Store) freeze() (seq uint64, all []*frozen) {
	s.order.Lock()
	defer s.order.Unlock()
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, name := range slices.Sorted(maps.Keys(s.collections)) {
		c := s.collections[name]
		c.mu.Lock()
		f := &frozen{c: c, config: c.config, slots: slices.Clone(c.slots)}
		for _, key := range slices.Sorted(maps.Keys(c.indexes)) {
			f.indexes = append(f.indexes, op{kind: opCreateIndex, collection: name, keys: []string{key}, indexType: c.indexes[key].kind})
		}
		c.readers++
		c.mu.Unlock()
		all = append(all, f)
	}
	return s.applied, all
}

func (f *frozen) thaw() {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	f.c.readers--
	if f.c.readers == 0 {
		f.c.free = append(f.c.free, f.c.released...)
		f.c.released = nil
	}
}

// frameWriter collects frames and writes them to a file.
type frameWriter struct {
	file   seglog.File
	buffer []byte
	offset int64
	frames uint64
}

func (w *frameWriter) frame(operation []byte) error {
	le := binary.LittleEndian
	w.buffer = le.AppendUint32(w.buffer, uint32(len(operation)))
	w.buffer = le.AppendUint32(w.buffer, crc32.Checksum(operation, castagnoli))
	w.buffer = append(w.buffer, operation...)
	w.frames++
	if len(w.buffer) < frameFlushBytes {
		return nil
	}
	return w.flush()
}

func (w *frameWriter) flush() error {
	n, err := w.file.WriteAt(w.buffer, w.offset)
	w.offset += int64(n)
	w.buffer = w.buffer[:0]
	return err
}

func (w *frameWriter) operation(o *op) error {
	encoded, err := o.encode(nil)
	if err != nil {
		return err
	}
	return w.frame(encoded)
}

func (s *Store) writeSnapshot(ctx context.Context, seq uint64, all []*frozen) (info SnapshotInfo, err error) {
	file, err := s.dev.Create(snapshotTemporary, snapshotHeadLen, nil) // it grows; the log reserves, and nothing can reserve no bytes
	if err != nil {
		return info, err
	}
	defer func() {
		if file != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	info = SnapshotInfo{Name: fmt.Sprintf("%s%016x%s", snapshotPrefix, seq, snapshotSuffix), Seq: seq, Made: time.Now()}
	w := &frameWriter{file: file, buffer: snapshotHead(seq, info.Made)}
	for _, f := range all {
		if err := f.write(ctx, w); err != nil {
			return info, err
		}
	}
	if err := w.frame(binary.AppendUvarint([]byte{opEnd}, w.frames)); err != nil {
		return info, err
	}
	if err := w.flush(); err != nil {
		return info, err
	}
	if err := file.Sync(); err != nil {
		return info, err
	}
	err, info.Bytes = file.Close(), w.offset
	file = nil
	if err != nil {
		return info, err
	}
	return info, s.dev.Rename(snapshotTemporary, info.Name)
}

func snapshotHead(seq uint64, made time.Time) []byte {
	head := binary.LittleEndian.AppendUint64([]byte(snapshotMagic), seq)
	head = binary.LittleEndian.AppendUint64(head, uint64(made.UnixNano()))
	return binary.LittleEndian.AppendUint32(head, crc32.Checksum(head, castagnoli))
}

// write gives the collection's creation, its indexes and its points.
func (f *frozen) write(ctx context.Context, w *frameWriter) error {
	if err := w.operation(&op{kind: opCreateCollection, collection: f.c.name, config: f.config}); err != nil {
		return err
	}
	for i := range f.indexes {
		if err := w.operation(&f.indexes[i]); err != nil {
			return err
		}
	}
	perFrame := max(1, pointsPerRecordBytes/(4*f.config.Dim+256))
	points := make([]Point, 0, perFrame)
	flush := func() error {
		if len(points) == 0 {
			return nil
		}
		err := w.operation(&op{kind: opUpsert, collection: f.c.name, points: points})
		points = points[:0]
		return err
	}
	for at, slot := range f.slots {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !slot.live {
			continue
		}
		points = append(points, Point{slot.id, f.c.table.Row(uint32(at)), slot.payload})
		if len(points) == perFrame {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// Snapshots lists the snapshots in the store's folder, oldest first.
func (s *Store) Snapshots() ([]SnapshotInfo, error) {
	names, err := s.dev.List()
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	slices.Sort(names)
	var out []SnapshotInfo
	for _, name := range names {
		if !strings.HasPrefix(name, snapshotPrefix) || !strings.HasSuffix(name, snapshotSuffix) {
			continue
		}
		info, _, err := s.openSnapshot(name, false)
		if err != nil {
			return nil, err
		}
		out = append(out, info)
	}
	return out, nil
}
