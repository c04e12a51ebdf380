package rediscache

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/nexuscore-labs/nexus/systems/projection"
	"github.com/nexuscore-labs/nexus/systems/realserver"
)

var ctx = context.Background()

// counted gives results that say how often it was asked.
type counted struct{ asked atomic.Uint64 }

func (c *counted) Rebuild(_ context.Context, tenant, number uint32) (projection.Result, error) {
	if tenant == 404 {
		return projection.Result{}, fmt.Errorf("no: %w", projection.ErrTenant)
	}
	n := c.asked.Add(1)
	return projection.Result{Version: 1, Seq: n, Data: fmt.Appendf(nil, "%d %d", tenant, number)}, nil
}

func openTest(t *testing.T, source Source) (*Cache, *redis.Client) {
	t.Helper()
	server, err := realserver.Redis(ctx)
	if errors.Is(err, realserver.ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	c, err := Open(ctx, server.URL, 8, time.Hour, source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, redis.NewClient(&redis.Options{Addr: server.Address})
}

func TestCacheAside(t *testing.T) {
	source := &counted{}
	c, raw := openTest(t, source)
	get := func(want uint64) {
		t.Helper()
		r, err := c.Rebuild(ctx, 7, 3)
		if wanted := (projection.Result{Version: 1, Seq: want, Data: []byte("7 3")}); err != nil || !reflect.DeepEqual(r, wanted) {
			t.Fatalf("got %+v, want %+v, error %v", r, wanted, err)
		}
	}
	get(1)
	get(1)
	if ttl := raw.TTL(ctx, Key(7, 3)).Val(); ttl <= 0 || ttl > time.Hour {
		t.Fatalf("lives for %v", ttl)
	}
	if err := c.Invalidate(ctx, 7); err != nil {
		t.Fatal(err)
	}
	get(2)
	raw.Set(ctx, Key(7, 3), "short", 0)
	get(3)
	get(3)
	s := c.Stats()
	if s.Hits.Load() != 2 || s.Misses.Load() != 3 || s.Wrong.Load() != 1 {
		t.Fatalf("%d hits, %d misses, %d wrong", s.Hits.Load(), s.Misses.Load(), s.Wrong.Load())
	}
	if _, err := c.Rebuild(ctx, 404, 1); !errors.Is(err, projection.ErrTenant) {
		t.Fatalf("unknown tenant: error %v", err)
	}
}

func TestHammer(t *testing.T) {
	c, _ := openTest(t, &counted{})
	var clients sync.WaitGroup
	for client := range uint32(8) {
		clients.Go(func() {
			for n := range uint32(300) {
				tenant, number := n%20, n%8+1
				r, err := c.Rebuild(ctx, tenant, number)
				if err != nil || string(r.Data) != fmt.Sprintf("%d %d", tenant, number) {
					t.Errorf("got %+v, error %v", r, err)
					return
				}
				if client == 0 && n%50 == 0 {
					if err := c.Invalidate(ctx, tenant); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	clients.Wait()
}

func TestRedisGone(t *testing.T) {
	if _, err := Open(ctx, "redis://127.0.0.1:1", 1, 0, &counted{}); err == nil {
		t.Fatal("connected to nothing")
	}
	c, raw := openTest(t, &counted{})
	raw.ShutdownNoSave(ctx)
	if _, err := c.Rebuild(ctx, 1, 1); err == nil {
		t.Fatal("answered without Redis")
	}
}
