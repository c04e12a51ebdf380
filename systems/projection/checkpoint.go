package projection

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	fold "github.com/nexuscore-labs/nexus/components/projection"
)

const (
	checkpointMagic     = 0x0031_5450_4b43_584e // "NXCKPT1\0", little-endian
	checkpointHeaderLen = 24
	snapshotHeaderLen   = 24
	// snapshotsMax bounds what a checkpoint may claim to hold.
	snapshotsMax = 16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errCheckpoint says that a checkpoint doesn't verify.
var errCheckpoint = errors.New("projection: checkpoint is corrupt")

// snapshot is a tenant's state after so many events.
type snapshot struct {
	version uint32
	seq     uint64 // events folded
	record  uint64 // of the log, the last one folded
	state   []byte
}

// checkpoint is what of a tenant is durable beside its events.
type checkpoint struct {
	version   uint32
	snapshots []snapshot // oldest first
}

// newest is the snapshot that a rebuild starts from, nil for none.
func (c *checkpoint) newest() *snapshot {
	if len(c.snapshots) == 0 {
		return nil
	}
	return &c.snapshots[len(c.snapshots)-1]
}

func (c *checkpoint) encode(tenant uint32) []byte {
	le := binary.LittleEndian
	dst := le.AppendUint64(nil, checkpointMagic)
	dst = le.AppendUint32(dst, tenant)
	dst = le.AppendUint32(dst, uint32(len(c.snapshots)))
	dst = le.AppendUint32(dst, c.version)
	dst = le.AppendUint32(dst, crc32.Checksum(dst, castagnoli))
	for _, s := range c.snapshots {
		start := len(dst)
		dst = le.AppendUint32(dst, s.version)
		dst = le.AppendUint32(dst, uint32(len(s.state)))
		dst = le.AppendUint64(dst, s.seq)
		dst = le.AppendUint64(dst, s.record)
		dst = append(dst, s.state...)
		dst = le.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
	}
	return dst
}

// decodeCheckpoint reads a checkpoint. With errCheckpoint it returns what stands
// before the broken place. States alias src.
func decodeCheckpoint(src []byte, tenant uint32) (c checkpoint, err error) {
	le := binary.LittleEndian
	if len(src) < checkpointHeaderLen || le.Uint64(src) != checkpointMagic ||
		le.Uint32(src[20:]) != crc32.Checksum(src[:20], castagnoli) {
		return c, fmt.Errorf("%w: header", errCheckpoint)
	}
	if found := le.Uint32(src[8:]); found != tenant {
		return c, fmt.Errorf("%w: of tenant %d, not %d", errCheckpoint, found, tenant)
	}
	count := le.Uint32(src[12:])
	if count > snapshotsMax {
		return c, fmt.Errorf("%w: %d snapshots", errCheckpoint, count)
	}
	c.version = le.Uint32(src[16:])
	src = src[checkpointHeaderLen:]
	for range count {
		if len(src) < snapshotHeaderLen+fold.StateLen+4 || le.Uint32(src[4:]) != fold.StateLen {
			return c, fmt.Errorf("%w: cut short", errCheckpoint)
		}
		end := snapshotHeaderLen + fold.StateLen
		if le.Uint32(src[end:]) != crc32.Checksum(src[:end], castagnoli) {
			return c, fmt.Errorf("%w: snapshot %d", errCheckpoint, len(c.snapshots))
		}
		c.snapshots = append(c.snapshots, snapshot{
			version: le.Uint32(src),
			seq:     le.Uint64(src[8:]),
			record:  le.Uint64(src[16:]),
			state:   src[snapshotHeaderLen:end:end],
		})
		src = src[end+4:]
	}
	if len(src) != 0 {
		return c, fmt.Errorf("%w: %d bytes too many", errCheckpoint, len(src))
	}
	return c, nil
}

// folder is where checkpoints are.
type folder string

func (f folder) name(tenant uint32) string {
	return filepath.Join(string(f), fmt.Sprintf("%08x.ckpt", tenant))
}

// load reads a tenant's checkpoint; one that never was is empty and no error.
// With errCheckpoint it returns what could be read.
func (f folder) load(tenant uint32) (checkpoint, error) {
	src, err := os.ReadFile(f.name(tenant))
	if errors.Is(err, fs.ErrNotExist) {
		return checkpoint{version: noCheckpoint}, nil
	}
	if err != nil {
		return checkpoint{}, fmt.Errorf("read checkpoint of tenant %d: %w", tenant, err)
	}
	return decodeCheckpoint(src, tenant)
}

// store replaces a tenant's checkpoint; it is durable when store returns.
func (f folder) store(tenant uint32, c *checkpoint) error {
	name := f.name(tenant)
	if err := writeDurably(name+".tmp", c.encode(tenant)); err != nil {
		return fmt.Errorf("write checkpoint of tenant %d: %w", tenant, err)
	}
	if err := os.Rename(name+".tmp", name); err != nil {
		return fmt.Errorf("replace checkpoint of tenant %d: %w", tenant, err)
	}
	return f.sync()
}

// sync makes renames durable.
func (f folder) sync() error {
	dir, err := os.Open(string(f))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func writeDurably(name string, data []byte) error {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	if _, err := file.Write(data); err != nil {
		return errors.Join(err, file.Close())
	}
	return errors.Join(file.Sync(), file.Close())
}
