package loadgen

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/nexuscore-labs/nexus/loadgen/codec"
	"github.com/nexuscore-labs/nexus/loadgen/ring"
)

const (
	housekeepingNs  = int64(1e6)
	drainExtraNs    = int64(100e6) // for what stood behind a send in flight at the end
	spinLeadNs      = int64(60e3)  // a pinned worker spins through the last of a wait
	heldUpNs        = int64(200e3) // bounds what one held up send costs the others, see ring.Set.Wait
	spinTurnNsMax   = int64(5e3)
	flushesPerTurn  = 32      // bounds how long a batch of sends delays its last one
	bufferedMax     = 1 << 20 // bytes encoded ahead per connection
	partialLenMax   = codec.AnswerLenMax + 64<<10
	reconnectMinNs  = int64(5e6)
	reconnectMaxNs  = int64(500e6)
	serverLostAfter = int64(2e9)
)

// ErrServerLost says that no connection could be had any more.
var ErrServerLost = errors.New("the server is gone")

// worker drives its share of the connections. All its methods run on one
// locked thread.
type worker struct {
	set      *ring.Set
	codec    codec.Codec
	ordered  bool
	source   Source
	closed   bool
	pinned   bool
	datagram bool
	conns    []conn
	due      due
	dirty    []int32 // connections with bytes to flush
	flushed  []int32 // connections whose flushed requests want a time stamp
	rec      *recorder
	tracer   tracer

	startNs, measureNs, endNs int64
	timeoutNs                 int64
	ordinary                  bool
	nowNs                     int64
	nextHouseNs               int64
	sent                      bool // in this turn

	connectedCount int
	toConnect      int
	connectErr     error
	fatal          error
	running        bool
	stop           *atomic.Bool
	realtime       realtime

	op      Op
	request codec.Request
	reply   Reply
	spinNs  int64
	cpuNs   int64
}

// connectAll opens every connection before the clock starts, some at a time so
// that a short accept queue isn't overrun.
func (w *worker) connectAll(ctx context.Context) error {
	const together = 64
	w.toConnect = 0
	for ; w.toConnect < min(together, len(w.conns)); w.toConnect++ {
		w.set.Connect(w.toConnect)
	}
	for w.connectedCount < len(w.conns) {
		if w.connectErr != nil {
			return w.connectErr
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if _, err := w.set.Wait(ring.Now() + 50e6); err != nil {
			return err
		}
		if err := w.set.Dispatch(); err != nil {
			return err
		}
	}
	return nil
}

// Connected implements ring.Handler.
func (w *worker) Connected(i int) {
	c := &w.conns[i]
	c.up = true
	c.backoffNs, c.lostSinceNs = 0, 0
	if c.trace != nil {
		c.trace.opened(w.set.LocalPort(i))
	}
	if w.running {
		w.pump(c)
		return
	}
	w.connectedCount++
	if w.toConnect < len(w.conns) && w.connectErr == nil {
		next := w.toConnect
		w.toConnect++
		w.set.Connect(next)
	}
}

// Closed implements ring.Handler.
func (w *worker) Closed(i int, err error) {
	c := &w.conns[i]
	if !w.running {
		if w.connectErr == nil {
			w.connectErr = fmt.Errorf("%w (is the server running?)", err)
		}
		return
	}
	w.noteError(err.Error())
	w.lost(c)
}

// Writable implements ring.Handler.
func (w *worker) Writable(i int) {
	c := &w.conns[i]
	if w.set.Buffered(i) > 0 {
		w.markDirty(c)
	}
	if c.blocked {
		w.pump(c)
	}
}

// lost ends all requests of a connection and plans its return.
func (w *worker) lost(c *conn) {
	if c.up || c.lostSinceNs == 0 {
		c.lostSinceNs = w.nowNs
	}
	c.up = false
	c.partial = c.partial[:0]
	for c.head != none {
		i := c.head
		s := &c.slots[i]
		switch s.status {
		case slotSent:
			w.failed(c, s, &w.rec.errors)
		case slotEncoded:
			w.failed(c, s, &w.rec.unsent)
		}
		c.release(i)
	}
	c.firstUnsent = none
	for i := range c.slots {
		c.slots[i].late = 0
	}
	c.backoffNs = min(max(2*c.backoffNs, reconnectMinNs), reconnectMaxNs)
	c.reconnectAtNs = w.nowNs + c.backoffNs
	c.blocked = true
}

// failed ends a request without an answer.
func (w *worker) failed(c *conn, s *slot, count *uint64) {
	if s.measured {
		*count++
	}
	w.source.Check(s.stream, s.token, nil)
	if w.closed {
		c.pushReady(s.stream, w.nowNs)
	}
}

// pump sends what is due on a connection, as far as its pipeline has room.
func (w *worker) pump(c *conn) {
	if w.nowNs >= w.endNs {
		return
	}
	if w.closed {
		for c.readyLen > 0 {
			if !w.canSend(c) {
				c.blocked = true
				return
			}
			next := c.popReady()
			w.encode(c, next.stream, next.sinceNs)
		}
		c.blocked = false
		return
	}
	for c.nextNs <= w.nowNs && c.nextNs < w.endNs {
		if !w.canSend(c) {
			c.blocked = true
			return
		}
		w.encode(c, c.stream(), c.nextNs)
		c.nextNs = w.startNs + c.schedule.Next()
	}
	c.blocked = false
	if !c.queued && c.nextNs < w.endNs {
		c.queued = true
		w.due.push(c.nextNs, c.id)
	}
}

func (w *worker) canSend(c *conn) bool {
	return c.up && len(c.free) > 0 && w.set.Buffered(c.id) < bufferedMax
}

// encode puts one request into its connection's buffer.
func (w *worker) encode(c *conn, stream uint32, intendedNs int64) {
	w.op = Op{Stream: stream}
	w.source.Next(stream, &w.op)
	i, s := c.take()
	s.intendedNs, s.stream, s.token = intendedNs, stream, w.op.Token
	s.measured = intendedNs >= w.measureNs && intendedNs < w.endNs
	s.waited = c.blocked
	w.request = codec.Request{
		ID: uint64(s.generation)<<32 | uint64(uint32(i)), Tenant: w.op.Tenant, Kind: w.op.Kind, Key: w.op.Key, Body: w.op.Body, Unchecked: w.op.Unchecked,
	}
	if s.measured {
		w.rec.intended++
	}
	buffered := w.set.Out(c.id)
	before := len(buffered)
	out, err := w.codec.Append(buffered, &w.request)
	if err != nil && w.fatal == nil {
		w.fatal = fmt.Errorf("the source's request for stream %d: %w", stream, err)
	}
	if c.trace != nil {
		c.trace.encoded(i, len(out)-before)
	}
	w.set.SetOut(c.id, out)
	w.markDirty(c)
}

func (w *worker) markDirty(c *conn) {
	if !c.dirty {
		c.dirty = true
		w.dirty = append(w.dirty, int32(c.id))
	}
}

// flush prepares the sends of this turn and stamps their requests.
func (w *worker) flush() {
	if len(w.dirty) == 0 {
		return
	}
	for _, i := range w.dirty {
		c := &w.conns[i]
		c.dirty = false
		if w.set.Flush(int(i)) {
			w.flushed = append(w.flushed, i)
		}
	}
	w.dirty = w.dirty[:0]
	w.sent = len(w.flushed) > 0
	if !w.sent {
		return
	}
	// One reading for the batch, taken as late as can be: the entries go to the
	// kernel next.
	sentNs := ring.Now()
	for _, i := range w.flushed {
		w.stamp(&w.conns[i], sentNs)
	}
	w.flushed = w.flushed[:0]
}

func (w *worker) stamp(c *conn, sentNs int64) {
	for i := c.firstUnsent; i != none; {
		s := &c.slots[i]
		s.sentNs, s.status = sentNs, slotSent
		if s.measured {
			w.rec.departed(s)
		}
		i = s.next
	}
	c.firstUnsent = none
}
