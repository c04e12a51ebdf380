// Package drivercache publishes rebuilt projections to the cache in the network
// driver (bpf/projcache): what a request missed there is rebuilt, answered from user
// space, and answered by the driver from then on.
package drivercache

import (
	"context"
	"fmt"
	"sync"

	"github.com/nexuscore-labs/nexus/bpf/projcache"
	"github.com/nexuscore-labs/nexus/systems/projection"
)

// Source rebuilds projections. *projection.Engine is one.
type Source interface {
	Rebuild(ctx context.Context, tenant, projection uint32) (projection.Result, error)
}

// lockCount is how many locks the projections share: two results of one projection
// must not overtake each other on their way into the cache.
const lockCount = 256

// Publisher is a Source that publishes what it gives. It is for concurrent use.
type Publisher struct {
	source Source
	cache  *projcache.Cache
	locks  [lockCount]sync.Mutex
}

// New makes a publisher from source to cache.
func New(source Source, cache *projcache.Cache) *Publisher {
	return &Publisher{source: source, cache: cache}
}

// Rebuild rebuilds a projection with everything that was durable when it was called,
// and makes it what the driver answers.
func (p *Publisher) Rebuild(ctx context.Context, tenant, number uint32) (projection.Result, error) {
	lock := &p.locks[(tenant*31+number)%lockCount]
	lock.Lock()
	defer lock.Unlock()
	r, err := p.source.Rebuild(ctx, tenant, number)
	if err != nil {
		return r, err
	}
	// A tenant that the driver has no room for is answered from user space alone.
	key := projcache.Key{Tenant: tenant, Projection: number, Snapshot: r.Version}
	if err := p.cache.Put(key, r.Seq, r.Data); err != nil {
		return r, fmt.Errorf("publish projection %d of tenant %d: %w", number, tenant, err)
	}
	return r, p.Versioned(tenant, r.Version)
}

// Versioned makes a version of a tenant the one that is served; none older is found
// any more. Versions of a tenant only grow, so an older one that comes late changes
// nothing.
func (p *Publisher) Versioned(tenant, version uint32) error {
	return p.cache.RaiseSnapshot(tenant, version)
}
