// Package lrucache is a cache as lesson 10 has it, to see whether it tears: values
// lie whole in an LRU hash map, user space updates them, and a program copies them
// into packets. It runs on test packets alone and serves nobody; package projcache
// is the one that serves.
package lrucache

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -strip llvm-strip-19 -no-global-types -target bpfel -go-package lrucache object lrucache.bpf.c -- -I../headers -O2 -g -Wall -Werror -mcpu=v3

const (
	projectionLenMax = 4096
	valueHeaderLen   = 16
	programName      = "lru_cache"
	// roomLen is what a test packet has beside the key: all of a value, up to what the
	// kernel lets a test packet be.
	roomLen = 3072
)

// Cache is the map and its program. Get may be called by any goroutine, and so may
// Put.
type Cache struct {
	values, counts *ebpf.Map
	program        *ebpf.Program
}

// Open makes a cache of so many entries.
func Open(entries int) (*Cache, error) {
	spec, err := loadObject()
	if err != nil {
		return nil, fmt.Errorf("lrucache: read the program: %w", err)
	}
	spec.Maps["projections"].MaxEntries = uint32(entries)
	collection, err := ebpf.NewCollection(spec)
	if errors.Is(err, unix.EPERM) {
		err = unix.EPERM
	}
	if err != nil {
		return nil, fmt.Errorf("lrucache: load: %w", err)
	}
	defer collection.Close()
	return &Cache{
		values: collection.DetachMap("projections"), counts: collection.DetachMap("counts"), program: collection.DetachProgram(programName),
	}, nil
}

// Key names a projection.
type Key struct{ Tenant, Projection uint32 }

// Put updates the entry of key, as bpf_map_update_elem does.
func (c *Cache) Put(key Key, version uint64, projection []byte) error {
	if len(projection) > projectionLenMax {
		return fmt.Errorf("lrucache: a projection of %d bytes", len(projection))
	}
	value := make([]byte, valueHeaderLen+projectionLenMax)
	binary.NativeEndian.PutUint64(value, version)
	binary.NativeEndian.PutUint32(value[8:], uint32(len(projection)))
	copy(value[valueHeaderLen:], projection)
	if err := c.values.Put(key, value); err != nil {
		return fmt.Errorf("lrucache: update %+v: %w", key, err)
	}
	return nil
}

// Get runs the program repeat times for one key, on the calling thread's CPU.
func (c *Cache) Get(key Key, repeat int) error {
	packet := make([]byte, 8+roomLen)
	binary.NativeEndian.PutUint32(packet, key.Tenant)
	binary.NativeEndian.PutUint32(packet[4:], key.Projection)
	if _, _, err := c.program.Benchmark(packet, repeat, nil); err != nil {
		return fmt.Errorf("lrucache: run the program %d times: %w", repeat, err)
	}
	return nil
}

// Counts are copies so far: of them, Torn held parts of two values, if values are
// one 8-byte word over and over.
type Counts struct{ Answered, Missed, Torn uint64 }

// Counts sums over all CPUs.
func (c *Cache) Counts() (Counts, error) {
	var perCPU []Counts
	if err := c.counts.Lookup(uint32(0), &perCPU); err != nil {
		return Counts{}, fmt.Errorf("lrucache: read the counters: %w", err)
	}
	var sum Counts
	for _, one := range perCPU {
		sum.Answered += one.Answered
		sum.Missed += one.Missed
		sum.Torn += one.Torn
	}
	return sum, nil
}

// Close frees all.
func (c *Cache) Close() error {
	return errors.Join(c.values.Close(), c.counts.Close(), c.program.Close())
}
