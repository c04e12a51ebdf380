// Package rediscache keeps projections in Redis before a source that computes
// them (cache-aside): a read asks Redis, and on a miss the source, and then stores
// what it got. Writers call Invalidate.
package rediscache

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/singleflight"

	fold "github.com/nexuscore-labs/nexus/components/projection"
	"github.com/nexuscore-labs/nexus/systems/projection"
)

// headerLen is what a value has before the projection: its u64 sequence and u32
// snapshot version, as the body of an answer has.
const headerLen = 12

// Source computes projections.
type Source interface {
	Rebuild(ctx context.Context, tenant, projection uint32) (projection.Result, error)
}

// Stats are a cache's counters.
type Stats struct {
	Hits, Misses atomic.Uint64
	Wrong        atomic.Uint64 // values that are none of ours: taken for misses
}

// Cache is a cache in Redis. It is for concurrent use.
type Cache struct {
	client *redis.Client
	source Source
	ttl    time.Duration
	flight singleflight.Group
	stats  Stats
}

// Open connects to Redis. Values live for ttl, 0: until they are evicted.
func Open(ctx context.Context, url string, connections int, ttl time.Duration, source Source) (*Cache, error) {
	options, err := redis.ParseURL(url)
	if err != nil {
		return nil, errors.New("rediscache: URL can't be read") // err quotes the password
	}
	options.PoolSize = connections
	c := &Cache{client: redis.NewClient(options), source: source, ttl: ttl}
	if err := c.client.Ping(ctx).Err(); err != nil {
		return nil, errors.Join(fmt.Errorf("connect to Redis: %w", err), c.client.Close())
	}
	return c, nil
}

// Close ends the connections.
func (c *Cache) Close() error { return c.client.Close() }

// Stats returns the live counters.
func (c *Cache) Stats() *Stats { return &c.stats }

// Key is where a projection is in Redis.
func Key(tenant, number uint32) string {
	return "projection:" + strconv.FormatUint(uint64(tenant), 10) + ":" + strconv.FormatUint(uint64(number), 10)
}

// Value is how a projection is stored: as the body of an answer.
func Value(r projection.Result) []byte {
	value := binary.LittleEndian.AppendUint64(make([]byte, 0, headerLen+len(r.Data)), r.Seq)
	value = binary.LittleEndian.AppendUint32(value, r.Version)
	return append(value, r.Data...)
}

// Rebuild returns a projection, from Redis if it is there. Misses of the same
// projection share one computation.
func (c *Cache) Rebuild(ctx context.Context, tenant, number uint32) (projection.Result, error) {
	key := Key(tenant, number)
	value, err := c.client.Get(ctx, key).Bytes()
	if err == nil && len(value) >= headerLen {
		c.stats.Hits.Add(1)
		return projection.Result{
			Seq: binary.LittleEndian.Uint64(value), Version: binary.LittleEndian.Uint32(value[8:]), Data: value[headerLen:],
		}, nil
	}
	if err != nil && !errors.Is(err, redis.Nil) {
		return projection.Result{}, fmt.Errorf("ask Redis for %s: %w", key, err)
	}
	if err == nil {
		c.stats.Wrong.Add(1)
	}
	c.stats.Misses.Add(1)
	shared, err, _ := c.flight.Do(key, func() (any, error) { return c.fill(ctx, key, tenant, number) })
	if err != nil {
		return projection.Result{}, err
	}
	return shared.(projection.Result), nil
}

func (c *Cache) fill(ctx context.Context, key string, tenant, number uint32) (projection.Result, error) {
	r, err := c.source.Rebuild(ctx, tenant, number)
	if err != nil {
		return r, err
	}
	if err := c.client.Set(ctx, key, Value(r), c.ttl).Err(); err != nil {
		return r, fmt.Errorf("store %s in Redis: %w", key, err)
	}
	return r, nil
}

// Invalidate removes all projections of a tenant, after it got events.
func (c *Cache) Invalidate(ctx context.Context, tenant uint32) error {
	keys := make([]string, len(fold.Views))
	for i := range keys {
		keys[i] = Key(tenant, uint32(i+1))
	}
	if err := c.client.Del(ctx, keys...).Err(); err != nil {
		return fmt.Errorf("invalidate projections of tenant %d: %w", tenant, err)
	}
	return nil
}
