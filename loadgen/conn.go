package loadgen

import (
	"math/rand/v2"

	"github.com/nexuscore-labs/nexus/loadgen/schedule"
)

// none ends a list of slots.
const none = int32(-1)

// slot is one request between its encoding and its end.
type slot struct {
	intendedNs int64
	sentNs     int64
	token      uint64
	stream     uint32
	generation uint32 // of the slot's use; part of the request's id
	prev, next int32  // in sending order
	late       uint32 // earlier uses that timed out and may still be answered
	status     slotStatus
	measured   bool
	waited     bool
}

type slotStatus uint8

const (
	slotFree slotStatus = iota
	slotEncoded
	slotSent
)

// waiting is a closed-loop stream whose next request may go.
type waiting struct {
	stream  uint32
	sinceNs int64
}

// conn is one connection's requests. Its slots are linked in sending order;
// the slots from firstUnsent on are encoded and not yet on their way.
type conn struct {
	id      int
	up      bool
	blocked bool
	dirty   bool
	queued  bool // in the worker's heap

	schedule schedule.Schedule // nil in a closed loop
	nextNs   int64             // intended time of the next arrival

	streamFirst, streamStep, streamCount uint32
	streamTurn                           uint32
	random                               *rand.Rand // nil: streams take turns
	ready                                []waiting  // closed loop: a ring of streamCount
	readyHead, readyLen                  int

	slots         []slot
	free          []int32
	head, tail    int32
	firstUnsent   int32
	partial       []byte
	reconnectAtNs int64
	backoffNs     int64
	lostSinceNs   int64
	trace         *connTrace // nil: not traced
}

func (c *conn) init(inFlightMax int) {
	c.slots = make([]slot, inFlightMax)
	c.free = make([]int32, inFlightMax)
	for i := range c.slots {
		c.free[i] = int32(inFlightMax - 1 - i)
		c.slots[i].prev, c.slots[i].next = none, none
	}
	c.head, c.tail, c.firstUnsent = none, none, none
}

// stream draws the stream of the next arrival.
func (c *conn) stream() uint32 {
	if c.random != nil {
		return c.streamFirst + c.random.Uint32N(c.streamCount)*c.streamStep
	}
	k := c.streamTurn
	if c.streamTurn++; c.streamTurn == c.streamCount {
		c.streamTurn = 0
	}
	return c.streamFirst + k*c.streamStep
}

// take gives a free slot at the end of the list.
func (c *conn) take() (int32, *slot) {
	i := c.free[len(c.free)-1]
	c.free = c.free[:len(c.free)-1]
	s := &c.slots[i]
	s.generation++
	s.status = slotEncoded
	s.prev, s.next = c.tail, none
	if c.tail == none {
		c.head = i
	} else {
		c.slots[c.tail].next = i
	}
	c.tail = i
	if c.firstUnsent == none {
		c.firstUnsent = i
	}
	return i, s
}

// release takes a slot out of the list.
func (c *conn) release(i int32) {
	s := &c.slots[i]
	if s.prev == none {
		c.head = s.next
	} else {
		c.slots[s.prev].next = s.next
	}
	if s.next == none {
		c.tail = s.prev
	} else {
		c.slots[s.next].prev = s.prev
	}
	if c.firstUnsent == i {
		c.firstUnsent = s.next
	}
	s.status = slotFree
	c.free = append(c.free, i)
}

func (c *conn) pushReady(stream uint32, sinceNs int64) {
	c.ready[(c.readyHead+c.readyLen)%len(c.ready)] = waiting{stream, sinceNs}
	c.readyLen++
}

func (c *conn) popReady() waiting {
	w := c.ready[c.readyHead]
	c.readyHead = (c.readyHead + 1) % len(c.ready)
	c.readyLen--
	return w
}

// due is a heap of connections by the intended time of their next arrival.
type due []dueConn

type dueConn struct {
	atNs int64
	conn int32
}

func (d *due) push(atNs int64, conn int) {
	*d = append(*d, dueConn{atNs, int32(conn)})
	h := *d
	i := len(h) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if h[parent].atNs <= h[i].atNs {
			break
		}
		h[parent], h[i] = h[i], h[parent]
		i = parent
	}
}

func (d *due) pop() dueConn {
	h := *d
	top := h[0]
	last := len(h) - 1
	h[0] = h[last]
	h = h[:last]
	*d = h
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			break
		}
		if child+1 < last && h[child+1].atNs < h[child].atNs {
			child++
		}
		if h[i].atNs <= h[child].atNs {
			break
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
	return top
}
