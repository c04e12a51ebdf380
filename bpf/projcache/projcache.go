// Package projcache answers requests for projections from within the network
// driver: an XDP program looks a request up in shared memory and sends it back
// with the projection in it. What it cannot answer goes to the stack, to the
// socket of whoever fills the cache.
//
// Nothing is copied into a BPF map by a system call: values lie in slots of a
// memory-mapped array, and a hash map says which slot a key is in. A value is
// never changed in place while anybody may find it: it is written to a free
// slot, then the key is led there, so readers find the old value or the new one.
// A reader that was so slow that its slot has been used again sees that by the
// slot's sequence number and reads again, see projcache.h. So no answer is torn,
// and a writer that dies half-way has changed nothing that is served.
//
// Any number of CPUs read at the same time; one Cache in one process writes.
package projcache

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -strip llvm-strip-19 -no-global-types -target amd64,arm64 -go-package projcache object projcache.bpf.c -- -I../headers -O2 -g -Wall -Werror -mcpu=v3

// Of projcache.h.
const (
	layoutVersion = 1
	// ProjectionLenMax is the longest projection, in bytes. What the driver's
	// buffer has room for may be less: see TooLarge.
	ProjectionLenMax = 4096
	// BodyHeaderLen is what an answer's body has before the projection: its u64
	// version and u32 snapshot version.
	BodyHeaderLen = 12
	bodyLenMax    = BodyHeaderLen + ProjectionLenMax
)

// Bounds of Options.
const (
	slotsMin   = 16
	slotsMax   = 1 << 20
	tenantsMax = 1 << 24
)

// Key names one projection as of one snapshot version of its tenant.
type Key struct {
	Tenant     uint32
	Projection uint32
	Snapshot   uint32
}

// Options say what a Cache is made of.
type Options struct {
	Slots   int // values that it holds, 16 to 1,048,576; each takes 4,224 bytes of memory
	Tenants int // tenants are numbered from 0 to Tenants-1
	// Pins is a folder in a BPF file system, made if need be, in which maps and
	// link stay when the process ends; what is there already is used. Empty: all
	// ends with the process.
	Pins string
}

func (o Options) check() error {
	if o.Slots < slotsMin || o.Slots > slotsMax {
		return fmt.Errorf("projcache: %d slots: want %d to %d", o.Slots, slotsMin, slotsMax)
	}
	if o.Tenants < 1 || o.Tenants > tenantsMax {
		return fmt.Errorf("projcache: %d tenants: want 1 to %d", o.Tenants, tenantsMax)
	}
	return nil
}

// Stats count what happened to values since Open.
type Stats struct {
	Values  int    // in the cache now
	Puts    uint64 // values written
	Evicted uint64 // values that made room for others
	Dropped uint64 // values taken out by Drop
}

// Cache is the writer's side. Its methods may be called by any goroutine.
type Cache struct {
	options Options
	maps    map[string]*ebpf.Map
	lock    int // descriptor that holds the pins' lock; -1 without pins
	memory  *memory

	mu     sync.Mutex
	owner  map[Key]uint32 // slot of each value that can be found
	keys   []Key          // of each slot that is taken
	taken  []bool
	free   []uint32 // a ring: the slot that was freed first is used first
	first  int      // in free
	frees  int
	hand   int // of the eviction's clock
	stats  Stats
	closed bool
}

// ErrClosed says that the cache was closed.
var ErrClosed = errors.New("projcache: closed")

// Open makes the maps, or takes over those that are pinned. It needs CAP_BPF and
// CAP_NET_ADMIN (or root) and Linux 5.18 or later.
func Open(options Options) (*Cache, error) {
	if err := options.check(); err != nil {
		return nil, err
	}
	c := &Cache{options: options, lock: -1, owner: map[Key]uint32{}}
	err := c.openMaps()
	if err == nil {
		c.memory, err = mapMemory(c.maps[mapSlots], c.maps[mapSnapshots], options)
	}
	if err == nil {
		err = c.recover()
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// recover finds out what a predecessor left: which slots hold values that can be
// found. A slot that was being written when the writer died holds none.
func (c *Cache) recover() error {
	n := c.options.Slots
	c.keys, c.taken, c.free = make([]Key, n), make([]bool, n), make([]uint32, n)
	for i := range uint32(n) {
		s := c.memory.slot(i)
		key, whole := s.settle()
		if whole && c.options.Pins != "" {
			var found uint32
			err := c.maps[mapProjections].Lookup(key, &found)
			if err == nil && found == i {
				c.owner[key], c.keys[i], c.taken[i] = i, key, true
				continue
			}
			if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				return fmt.Errorf("projcache: look for %+v: %w", key, err)
			}
		}
		c.release(i)
	}
	c.stats.Values = len(c.owner)
	return c.forgetStrays()
}

// forgetStrays removes keys that lead to a slot of another key: a writer died
// between giving a slot away and saying so.
func (c *Cache) forgetStrays() error {
	if c.options.Pins == "" {
		return nil
	}
	var key Key
	var at uint32
	var strays []Key
	entries := c.maps[mapProjections].Iterate()
	for entries.Next(&key, &at) {
		if found, known := c.owner[key]; !known || found != at {
			strays = append(strays, key)
		}
	}
	if err := entries.Err(); err != nil {
		return fmt.Errorf("projcache: list the keys: %w", err)
	}
	for _, key := range strays {
		if err := c.maps[mapProjections].Delete(key); err != nil {
			return fmt.Errorf("projcache: forget %+v: %w", key, err)
		}
	}
	return nil
}

// Put makes a projection what requests for key are answered with from now on.
// It may evict a value that was not asked for lately. The bytes are copied.
func (c *Cache) Put(key Key, version uint64, projection []byte) error {
	if len(projection) > ProjectionLenMax {
		return fmt.Errorf("projcache: a projection of %d bytes: at most %d", len(projection), ProjectionLenMax)
	}
	if int64(key.Tenant) >= int64(c.options.Tenants) || key.Snapshot == 0 {
		return fmt.Errorf("projcache: tenant %d, snapshot version %d: tenants go to %d, snapshots from 1", key.Tenant, key.Snapshot, c.options.Tenants-1)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	at, err := c.take()
	if err != nil {
		return err
	}
	c.memory.slot(at).write(key, version, projection)
	if err := c.maps[mapProjections].Put(key, at); err != nil {
		c.release(at)
		return fmt.Errorf("projcache: lead %+v to its value: %w", key, err)
	}
	if old, known := c.owner[key]; known {
		c.release(old)
	}
	c.owner[key], c.keys[at], c.taken[at] = at, key, true
	c.stats.Puts++
	return nil
}

// Drop takes a value out; requests for it then reach user space. A key that is
// not there is no error.
func (c *Cache) Drop(key Key) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	at, known := c.owner[key]
	if !known {
		return nil
	}
	if err := c.forget(key, at); err != nil {
		return err
	}
	c.stats.Dropped++
	return nil
}

// SetSnapshot says which snapshot version of a tenant is served from now on;
// values of any other are then not found. 0 serves none.
func (c *Cache) SetSnapshot(tenant, snapshot uint32) error {
	if int64(tenant) >= int64(c.options.Tenants) {
		return fmt.Errorf("projcache: tenant %d: they go to %d", tenant, c.options.Tenants-1)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	c.memory.setSnapshot(tenant, snapshot)
	return nil
}

// RaiseSnapshot is SetSnapshot, unless the tenant is served from a higher version.
func (c *Cache) RaiseSnapshot(tenant, snapshot uint32) error {
	if int64(tenant) >= int64(c.options.Tenants) {
		return fmt.Errorf("projcache: tenant %d: they go to %d", tenant, c.options.Tenants-1)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	if snapshot > c.memory.snapshot(tenant) {
		c.memory.setSnapshot(tenant, snapshot)
	}
	return nil
}

// Snapshot returns the snapshot version that a tenant is served from.
func (c *Cache) Snapshot(tenant uint32) uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || int64(tenant) >= int64(c.options.Tenants) {
		return 0
	}
	return c.memory.snapshot(tenant)
}

// Get appends the body that key is answered with to dst.
func (c *Cache) Get(dst []byte, key Key) (body []byte, found bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, known := c.owner[key]
	if c.closed || !known {
		return dst, false
	}
	return append(dst, c.memory.slot(at).bytes()...), true
}

// Stats returns the counts so far.
func (c *Cache) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.Values = len(c.owner)
	return c.stats
}

// Close lets go of the maps. What is pinned stays, and goes on being served.
func (c *Cache) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	err := c.memory.close()
	for _, m := range c.maps {
		err = errors.Join(err, m.Close())
	}
	if c.lock >= 0 {
		err = errors.Join(err, unix.Close(c.lock))
	}
	return err
}
