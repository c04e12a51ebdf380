package projcache

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// spareShare is the part of the slots that is kept free (one in so many), at
// most spareMax: the longer a slot rests before it is used again, the rarer a
// reader is still in it.
const (
	spareShare = 8
	spareMax   = 64
)

// take returns the slot that has been free for longest.
func (c *Cache) take() (uint32, error) {
	spare := min(c.options.Slots/spareShare, spareMax)
	for c.frees <= spare {
		if err := c.evict(); err != nil {
			return 0, err
		}
	}
	at := c.free[c.first]
	c.first = (c.first + 1) % len(c.free)
	c.frees--
	return at, nil
}

func (c *Cache) release(at uint32) {
	c.taken[at] = false
	c.free[(c.first+c.frees)%len(c.free)] = at
	c.frees++
}

// evict makes one value go: the first that nobody has asked for since the clock's
// hand passed it last.
func (c *Cache) evict() error {
	for range 2*c.options.Slots + 1 {
		at := uint32(c.hand)
		c.hand = (c.hand + 1) % c.options.Slots
		if !c.taken[at] || c.memory.slot(at).wasUsed() {
			continue
		}
		if err := c.forget(c.keys[at], at); err != nil {
			return err
		}
		c.stats.Evicted++
		return nil
	}
	// All were asked for again while the hand went round: take the next one.
	for !c.taken[c.hand] {
		c.hand = (c.hand + 1) % c.options.Slots
	}
	at := uint32(c.hand)
	if err := c.forget(c.keys[at], at); err != nil {
		return err
	}
	c.stats.Evicted++
	return nil
}

func (c *Cache) forget(key Key, at uint32) error {
	err := c.maps[mapProjections].Delete(key)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("projcache: forget %+v: %w", key, err)
	}
	delete(c.owner, key)
	c.release(at)
	return nil
}
