package sink

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// DeadLetter is a change that the target rejects, one JSON object a line.
type DeadLetter struct {
	Time   time.Time `json:"time"`
	Reason string    `json:"reason"`
	Change Change    `json:"change"`
}

// deadLetters appends to the file and syncs each line.
type deadLetters struct {
	mu   sync.Mutex
	file *os.File
	end  int64 // of the last whole line
}

func openDeadLetters(name string) (*deadLetters, error) {
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("sink: open dead letters: %w", err)
	}
	content, err := io.ReadAll(file)
	if err == nil {
		err = syncFolder(name)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("sink: open dead letters: %w", err), file.Close())
	}
	// A line that a crash cut off was never acknowledged: it is written over.
	return &deadLetters{file: file, end: int64(bytes.LastIndexByte(content, '\n') + 1)}, nil
}

func (d *deadLetters) add(c Change, why error) error {
	line, err := json.Marshal(DeadLetter{time.Now(), why.Error(), c})
	if err != nil {
		// What JSON can't hold (a vector with NaN) is described instead.
		described := DeadLetter{time.Now(), fmt.Sprintf("%v (the vector is left out: %v)", why, err), Change{Position: c.Position, Collection: c.Collection, Key: c.Key, Delete: c.Delete}}
		if line, err = json.Marshal(described); err != nil {
			return fmt.Errorf("sink: describe dead letter: %w", err)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.file.WriteAt(append(line, '\n'), d.end)
	if err == nil {
		err = d.file.Sync()
	}
	if err != nil {
		return fmt.Errorf("sink: write dead letter: %w", err)
	}
	d.end += int64(n)
	return nil
}

func (d *deadLetters) close() error {
	if err := d.file.Truncate(d.end); err != nil {
		return errors.Join(fmt.Errorf("sink: close dead letters: %w", err), d.file.Close())
	}
	return d.file.Close()
}

// ReadDeadLetters returns what a file holds; a line that a crash cut off is
// left out.
func ReadDeadLetters(name string) ([]DeadLetter, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("sink: read dead letters: %w", err)
	}
	defer file.Close()
	var out []DeadLetter
	for lines := bufio.NewReader(file); ; {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, fmt.Errorf("sink: read dead letters: %w", err)
		}
		var letter DeadLetter
		if err := json.Unmarshal(line, &letter); err != nil {
			return out, fmt.Errorf("sink: dead letter %d: %w", len(out)+1, err)
		}
		out = append(out, letter)
	}
}

// A checkpoint is a file of 20 bytes: a magic, the position, a CRC32C of both.
const (
	checkpointMagic = "NXCKPT01"
	checkpointLen   = 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ReadCheckpoint returns the position that a file holds, 0 when there is none.
func ReadCheckpoint(name string) (uint64, error) {
	content, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("sink: read checkpoint: %w", err)
	}
	le := binary.LittleEndian
	if len(content) != checkpointLen || string(content[:8]) != checkpointMagic || le.Uint32(content[16:]) != crc32.Checksum(content[:16], castagnoli) {
		return 0, fmt.Errorf("sink: %s is no checkpoint", name)
	}
	return le.Uint64(content[8:]), nil
}

// writeCheckpoint replaces the file; after a crash it is the old or the new one.
func writeCheckpoint(name string, position uint64) error {
	content := binary.LittleEndian.AppendUint64([]byte(checkpointMagic), position)
	content = binary.LittleEndian.AppendUint32(content, crc32.Checksum(content, castagnoli))
	temporary := name + ".tmp"
	file, err := os.Create(temporary)
	if err != nil {
		return fmt.Errorf("sink: write checkpoint: %w", err)
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	err = errors.Join(err, file.Close())
	if err == nil {
		err = os.Rename(temporary, name)
	}
	if err == nil {
		err = syncFolder(name)
	}
	if err != nil {
		return fmt.Errorf("sink: write checkpoint: %w", err)
	}
	return nil
}

func syncFolder(name string) error {
	folder, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// keepCheckpoint writes the position now and then while it moves. A failure is
// tried again: an old checkpoint costs repeated work and loses nothing.
func (s *Sink) keepCheckpoint() {
	written := uint64(0)
	save := func() {
		at := s.Position()
		if at == written {
			return
		}
		err := writeCheckpoint(s.o.CheckpointFile, at)
		s.failure.Store(&err)
		if err == nil {
			written = at
			s.stats.Checkpoints.Add(1)
		}
	}
	tick := time.NewTicker(s.o.CheckpointEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			save()
		case <-s.closing:
			save()
			return
		}
	}
}

func (s *Sink) checkpointError() error {
	if err := s.failure.Load(); err != nil {
		return *err
	}
	return nil
}
