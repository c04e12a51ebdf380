// Package nbd is a disk with a volatile write cache whose power can be cut, served
// over the NBD protocol to a virtual machine.
//
// What a flush, or a write that bypasses the cache, has made durable survives the
// cut. Of all other writes each 512-byte sector survives or not by a seeded coin,
// so they are lost, reordered and torn as on a real disk that honours flushes.
package nbd

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
)

// SectorLen is what a disk writes as a whole: the unit of tearing.
const SectorLen = 512

// ErrPowerOff is the answer to everything after the cut.
var ErrPowerOff = errors.New("the disk has no power")

// Counts are what a disk was asked for.
type Counts struct {
	Writes, Flushes uint64 // before the cut
	Volatile        uint64 // sectors in the cache at the cut
	Survived        uint64 // of them, those that the coin let through
}

// Disk is a file with a cache in front. It is safe for concurrent use.
type Disk struct {
	// Lies, set before use, makes it acknowledge flushes and do nothing: with such
	// a disk an experiment must find losses, or it would find none anywhere.
	Lies bool

	mu     sync.Mutex
	file   *os.File
	size   int64
	cache  map[int64][]byte // sector number → its newest contents, not yet durable
	off    bool
	counts Counts
	armed  *rand.Rand // cut at the next write by this coin
	then   func(Counts, error)
}

// cacheLenMax bounds the cache: a full one writes itself out, as a real one does.
const cacheLenMax = 128 << 20 / SectorLen

// Open opens a disk whose durable contents are the file at path.
func Open(path string) (*Disk, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open a disk: %w", err)
	}
	info, err := file.Stat()
	if err == nil && info.Size()%SectorLen != 0 {
		err = fmt.Errorf("%d bytes are no whole number of sectors", info.Size())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open a disk: %w", err), file.Close())
	}
	return &Disk{file: file, size: info.Size(), cache: map[int64][]byte{}}, nil
}

// Size is in bytes.
func (d *Disk) Size() int64 { return d.size }

func (d *Disk) check(offset int64, length int) error {
	if d.off {
		return ErrPowerOff
	}
	if offset < 0 || offset%SectorLen != 0 || length%SectorLen != 0 || offset+int64(length) > d.size {
		return fmt.Errorf("%d bytes at %d: not whole sectors of a disk of %d bytes", length, offset, d.size)
	}
	return nil
}

// ReadAt fills p; cached sectors are newer than the file's.
func (d *Disk) ReadAt(p []byte, offset int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.check(offset, len(p)); err != nil {
		return err
	}
	if _, err := d.file.ReadAt(p, offset); err != nil {
		return fmt.Errorf("read the disk: %w", err)
	}
	for at := 0; at < len(p); at += SectorLen {
		if sector, cached := d.cache[(offset+int64(at))/SectorLen]; cached {
			copy(p[at:], sector)
		}
	}
	return nil
}

// WriteAt puts p into the cache; through makes it durable at once (FUA).
func (d *Disk) WriteAt(p []byte, offset int64, through bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.check(offset, len(p)); err != nil {
		return err
	}
	d.counts.Writes++
	through = through && !d.Lies
	for at := 0; at < len(p); at += SectorLen {
		number := (offset + int64(at)) / SectorLen
		if through {
			delete(d.cache, number)
			continue
		}
		d.cache[number] = slices.Clone(p[at : at+SectorLen])
	}
	if through {
		if _, err := d.file.WriteAt(p, offset); err != nil {
			return fmt.Errorf("write the disk: %w", err)
		}
	}
	if d.armed != nil {
		counts, err := d.cut(d.armed)
		go d.then(counts, err)
		return ErrPowerOff
	}
	if len(d.cache) > cacheLenMax {
		return d.writeOut()
	}
	return nil
}

// Flush makes durable what was written before.
func (d *Disk) Flush() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		return ErrPowerOff
	}
	d.counts.Flushes++
	if d.Lies {
		return nil
	}
	return d.writeOut()
}

func (d *Disk) writeOut() error {
	for number, sector := range d.cache {
		if _, err := d.file.WriteAt(sector, number*SectorLen); err != nil {
			return fmt.Errorf("write the disk: %w", err)
		}
	}
	clear(d.cache)
	return nil
}

// Cut takes the power away. No request that it has not answered by now is ever
// answered, and each sector of the cache survives by a coin of rng.
func (d *Disk) Cut(rng *rand.Rand) (Counts, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cut(rng)
}

// CutAtWrite is Cut at the next write, which reaches the cache and is not
// answered; then is called with the outcome, on a goroutine of its own.
func (d *Disk) CutAtWrite(rng *rand.Rand, then func(Counts, error)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.armed, d.then = rng, then
}

func (d *Disk) cut(rng *rand.Rand) (Counts, error) {
	if d.off {
		return d.counts, ErrPowerOff
	}
	d.off = true
	d.counts.Volatile = uint64(len(d.cache))
	numbers := make([]int64, 0, len(d.cache))
	for number := range d.cache {
		numbers = append(numbers, number)
	}
	slices.Sort(numbers) // a map's order would not repeat by the seed
	// Between all and nothing: a coin of its own for this cut decides how many.
	share := rng.Float64()
	for _, number := range numbers {
		if rng.Float64() >= share {
			continue
		}
		d.counts.Survived++
		if _, err := d.file.WriteAt(d.cache[number], number*SectorLen); err != nil {
			return d.counts, fmt.Errorf("write the disk: %w", err)
		}
	}
	d.cache = nil
	return d.counts, nil
}

// Close closes the file; what is in the cache of a disk that was not cut is lost.
func (d *Disk) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = true
	return d.file.Close()
}
