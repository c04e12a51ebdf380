package projcache

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
)

// Random operations against a dumb map: what is found is what was put last, and
// what was put and is not found was evicted or dropped.
func TestCacheAgainstAMap(t *testing.T) {
	c := openCache(t, Options{Slots: 64, Tenants: 8})
	random := rand.New(rand.NewPCG(3, 4))
	put := map[Key]string{}
	for i := range 20_000 {
		key := Key{Tenant: random.Uint32N(8), Projection: random.Uint32N(16), Snapshot: 1 + random.Uint32N(2)}
		switch random.IntN(4) {
		case 0, 1:
			value := fmt.Sprintf("%d %v", i, key)
			if err := c.Put(key, uint64(i), []byte(value)); err != nil {
				t.Fatal(err)
			}
			put[key] = value
		case 2:
			if err := c.Drop(key); err != nil {
				t.Fatal(err)
			}
			delete(put, key)
		}
		if body, found := c.Get(nil, key); found && string(body[BodyHeaderLen:]) != put[key] {
			t.Fatalf("%+v: found %q, put %q", key, body[BodyHeaderLen:], put[key])
		}
	}
	s := c.Stats()
	if s.Evicted == 0 || s.Dropped == 0 || s.Values == 0 {
		t.Errorf("the walk did not reach evictions and drops: %+v", s)
	}
	entries := 0
	var key Key
	var at uint32
	for all := c.maps[mapProjections].Iterate(); all.Next(&key, &at); entries++ {
		if c.owner[key] != at || c.memory.slot(at).key != key {
			t.Errorf("%+v leads to slot %d, which is %+v's", key, at, c.memory.slot(at).key)
		}
	}
	if entries != s.Values || c.frees != 64-entries {
		t.Errorf("%d keys lead to values, %d values are known, %d slots are free", entries, s.Values, c.frees)
	}
}

// What is asked for stays when room is made.
func TestEvictionSparesWhatIsUsed(t *testing.T) {
	c := openCache(t, Options{Slots: 32, Tenants: 5})
	p := loadProgram(t, c)
	if err := c.SetSnapshot(1, 1); err != nil {
		t.Fatal(err)
	}
	wanted := plain(1, 0).packet()
	for i := range uint32(500) {
		if err := c.Put(Key{Tenant: 1, Projection: i, Snapshot: 1}, 1, []byte("x")); err != nil {
			t.Fatal(err)
		}
		if action, _, err := p.Run(wanted); err != nil || action != ActionTX {
			t.Fatalf("after %d puts the value in use is gone: action %d, error %v", i+1, action, err)
		}
	}
	if s := c.Stats(); s.Evicted < 400 {
		t.Errorf("nothing made room: %+v", s)
	}
}

// A rolled-back snapshot version is not served, though its values are still there.
func TestRollback(t *testing.T) {
	c := openCache(t, Options{Slots: 32, Tenants: 5})
	p := loadProgram(t, c)
	for snapshot := uint32(1); snapshot <= 2; snapshot++ {
		if err := c.Put(Key{Tenant: 1, Projection: 0, Snapshot: snapshot}, uint64(snapshot), []byte{byte(snapshot)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, snapshot := range []uint32{1, 2, 1, 2} {
		if err := c.SetSnapshot(1, snapshot); err != nil {
			t.Fatal(err)
		}
		_, out, err := p.Run(plain(1, 0).packet())
		if err != nil || out[len(out)-1] != byte(snapshot) {
			t.Errorf("snapshot %d: served %x, error %v", snapshot, out[len(out)-1], err)
		}
	}
	if err := c.SetSnapshot(1, 3); err != nil {
		t.Fatal(err)
	}
	if outcome := compare(t, c, p, plain(1, 0).packet()); outcome != Missed {
		t.Errorf("a snapshot without values: %s", outcome)
	}
}

func TestRefusals(t *testing.T) {
	for _, options := range []Options{{}, {Slots: 15, Tenants: 1}, {Slots: 16}, {Slots: 1 << 21, Tenants: 1}, {Slots: 16, Tenants: 1 << 25}} {
		if _, err := Open(options); err == nil {
			t.Errorf("%+v was accepted", options)
		}
	}
	c := openCache(t, Options{Slots: 16, Tenants: 4})
	if err := c.Put(Key{Tenant: 1, Snapshot: 1}, 1, make([]byte, ProjectionLenMax+1)); err == nil {
		t.Error("a projection that is too long was accepted")
	}
	if err := c.Put(Key{Tenant: 4, Snapshot: 1}, 1, nil); err == nil {
		t.Error("a tenant beyond the table was accepted")
	}
	if err := c.Put(Key{Tenant: 1}, 1, nil); err == nil {
		t.Error("a key without a snapshot was accepted")
	}
	if err := c.SetSnapshot(4, 1); err == nil {
		t.Error("a snapshot of a tenant beyond the table was accepted")
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Put(Key{Tenant: 1, Snapshot: 1}, 1, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("put after close: %v", err)
	}
	if err := c.Drop(Key{}); !errors.Is(err, ErrClosed) {
		t.Errorf("drop after close: %v", err)
	}
	if _, err := c.Counts(); !errors.Is(err, ErrClosed) {
		t.Errorf("counts after close: %v", err)
	}
}
