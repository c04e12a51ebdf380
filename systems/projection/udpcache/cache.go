package udpcache

import (
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/nexuscore-labs/nexus/systems/projection"
)

const (
	shards = 256
	// bodyHeaderLen is what an answer's body has before the projection: its u64
	// sequence and u32 snapshot version.
	bodyHeaderLen = 12
)

// Cache is a map of projections in shards. Each value is the body of an answer
// as it is sent.
type Cache struct {
	shardMax int // entries of a shard
	evicted  atomic.Uint64
	shards   [shards]shard
}

type shard struct {
	sync.RWMutex
	entries map[key][]byte
	_       [32]byte // shards share no line of the CPU's cache
}

type key struct{ tenant, projection uint32 }

// NewCache makes a cache of at most so many projections.
func NewCache(entriesMax int) *Cache {
	c := &Cache{shardMax: max(1, entriesMax/shards)}
	for i := range c.shards {
		c.shards[i].entries = make(map[key][]byte)
	}
	return c
}

func (c *Cache) shard(k key) *shard {
	mixed := (uint64(k.tenant)<<32 | uint64(k.projection)) * 0x9e3779b97f4a7c15
	return &c.shards[mixed>>56]
}

// Append appends the body for a projection to dst; false if it isn't here.
func (c *Cache) Append(dst []byte, tenant, number uint32) ([]byte, bool) {
	k := key{tenant, number}
	s := c.shard(k)
	s.RLock()
	body, ok := s.entries[k]
	s.RUnlock()
	// A body is never written again, so it may be copied without the lock.
	return append(dst, body...), ok
}

// Put takes a rebuilt projection, unless a newer one is here. In a full shard an
// entry picked at random makes room.
func (c *Cache) Put(tenant, number uint32, r projection.Result) []byte {
	body := make([]byte, bodyHeaderLen, bodyHeaderLen+len(r.Data))
	binary.LittleEndian.PutUint64(body, r.Seq)
	binary.LittleEndian.PutUint32(body[8:], r.Version)
	body = append(body, r.Data...)
	k := key{tenant, number}
	s := c.shard(k)
	s.Lock()
	defer s.Unlock()
	old, found := s.entries[k]
	if found && newer(old, body) {
		return body
	}
	if !found && len(s.entries) >= c.shardMax {
		s.evict()
		c.evicted.Add(1)
	}
	s.entries[k] = body
	return body
}

// newer compares versions first: a rollback's is higher, whatever its sequence.
func newer(a, b []byte) bool {
	versionA, versionB := binary.LittleEndian.Uint32(a[8:]), binary.LittleEndian.Uint32(b[8:])
	if versionA != versionB {
		return versionA > versionB
	}
	return binary.LittleEndian.Uint64(a) > binary.LittleEndian.Uint64(b)
}

// evict removes one of the entries that Go's random order of maps begins with.
func (s *shard) evict() {
	skip := rand.IntN(4)
	for k := range s.entries {
		if skip == 0 || len(s.entries) <= 4 {
			delete(s.entries, k)
			return
		}
		skip--
	}
}

// Drop removes all projections of a tenant.
func (c *Cache) Drop(tenant uint32, projections uint32) {
	for number := uint32(1); number <= projections; number++ {
		k := key{tenant, number}
		s := c.shard(k)
		s.Lock()
		delete(s.entries, k)
		s.Unlock()
	}
}

// Len counts the entries.
func (c *Cache) Len() (n int) {
	for i := range c.shards {
		s := &c.shards[i]
		s.RLock()
		n += len(s.entries)
		s.RUnlock()
	}
	return n
}

// Evicted counts the entries that made room for others.
func (c *Cache) Evicted() uint64 { return c.evicted.Load() }
