package vectorstore

import "sync"

// indexer moves a collection's points from the tail into the graph, one at a
// time, and takes deleted ones out, so that a change is acknowledged before the
// graph knows it. It is the only one who changes the graph.
type indexer struct {
	work    chan struct{}
	stopped chan struct{}
	once    sync.Once
	turns   chan struct{} // shared by all collections: how many work at a time
}

func (x *indexer) init() {
	x.work, x.stopped = make(chan struct{}, 1), make(chan struct{})
}

func (x *indexer) wake() {
	select {
	case x.work <- struct{}{}:
	default:
	}
}

func (x *indexer) stop() { x.once.Do(func() { close(x.stopped) }) }

func (x *indexer) run(c *collection) {
	for {
		select {
		case <-x.stopped:
			return
		case <-x.work:
		}
		select {
		case <-x.stopped:
			return
		case x.turns <- struct{}{}:
		}
		for x.step(c) {
		}
		<-x.turns
	}
}

const (
	// consolidateShare of deleted slots in the graph makes it worth a pass over
	// all of it, and not less than consolidateMin.
	consolidateShare = 0.2
	consolidateMin   = 64
)

// step does one piece of work and reports whether there was any.
func (x *indexer) step(c *collection) bool {
	select {
	case <-x.stopped:
		return false
	default:
	}
	deleted, at := c.nextForGraph()
	for _, slot := range deleted {
		c.graph.Delete(slot)
	}
	if at >= 0 {
		if err := c.graph.Insert(uint32(at)); err != nil {
			panic(err) // the slot was not in the tail: the collection's own books are wrong
		}
		c.moved(uint32(at))
	}
	alive, dead := c.graph.Len()
	if dead >= consolidateMin && float64(dead) > consolidateShare*float64(alive+dead) {
		freed := c.graph.Consolidate()
		c.mu.Lock()
		c.inGraph -= len(freed)
		c.release(freed...)
		c.mu.Unlock()
	}
	return at >= 0 || len(deleted) > 0
}

// nextForGraph takes the deletions to be told, and the oldest slot of the tail
// (-1: none) if the collection is large enough for a graph.
func (c *collection) nextForGraph() (deleted []uint32, at int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	deleted, c.deleted = c.deleted, nil
	at = -1
	if c.graphDue() && len(c.tail) > 0 {
		at = int64(c.tail[0])
	}
	c.moving = at
	return deleted, at
}

func (c *collection) graphDue() bool {
	from := c.config.IndexFromBytes
	if from == 0 {
		from = DefaultIndexFromBytes
	}
	return from > 0 && (c.inGraph > 0 || int64(len(c.byID)*c.config.Dim*4) >= from)
}

// moved notes that a slot is in the graph. It may have died meanwhile.
func (c *collection) moved(at uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.moving = -1
	c.inGraph++
	c.slots[at].graphed = true
	if c.slots[at].live {
		c.leaveTail(at)
	} else {
		c.deleted = append(c.deleted, at)
	}
}
