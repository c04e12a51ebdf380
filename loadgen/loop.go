package loadgen

import (
	"errors"
	"fmt"

	"github.com/nexuscore-labs/nexus/loadgen/ring"
	"golang.org/x/sys/unix"
)

// errStopped says that the run's context ended.
var errStopped = errors.New("stopped")

// run sends from start to end, drains, and closes the books.
func (w *worker) run() error {
	w.running = true
	w.nowNs = ring.Now()
	w.nextHouseNs = w.nowNs
	w.rec.tickEndNs = w.measureNs + tickNs
	w.rec.pace.begin(w.measureNs)
	w.begin()
	err := w.loop(w.measureNs, false)
	cpuStartNs, spinStartNs := threadCPUNs(), w.spinNs
	if err == nil {
		err = w.loop(w.endNs, false)
	}
	w.cpuNs, w.spinNs = threadCPUNs()-cpuStartNs, w.spinNs-spinStartNs
	if err == nil {
		// Whatever was sent in time is answered or times out within the timeout.
		err = w.loop(w.endNs+w.timeoutNs+drainExtraNs, true)
	}
	w.rec.lastTick()
	w.settle(errors.Is(err, errStopped) || errors.Is(err, ErrServerLost))
	if errors.Is(err, errStopped) {
		return nil // Run reports its context's error
	}
	return err
}

// begin queues every connection's first arrival.
func (w *worker) begin() {
	for i := range w.conns {
		c := &w.conns[i]
		if w.closed {
			for k := range c.streamCount {
				c.pushReady(c.streamFirst+k*c.streamStep, w.startNs)
			}
			w.due.push(w.startNs, i)
			continue
		}
		c.nextNs = w.startNs + c.schedule.Next()
		c.queued = true
		w.due.push(c.nextNs, i)
	}
}

// loop turns until the time, or while draining until nothing is in flight. A
// turn enters the kernel once, for all sends prepared and all completions.
func (w *worker) loop(untilNs int64, draining bool) error {
	for w.nowNs < untilNs {
		if draining && w.inFlight() == 0 {
			return nil
		}
		w.sent = false
		more := w.pumpDue()
		w.flush()
		if err := w.enter(untilNs, more); err != nil {
			return err
		}
		if err := w.set.Dispatch(); err != nil {
			return err
		}
		if w.fatal != nil {
			return w.fatal
		}
		if w.nowNs >= w.nextHouseNs {
			if err := w.housekeeping(); err != nil {
				return err
			}
		}
	}
	return nil
}

// pumpDue sends what is due and says whether more is left for the next turn.
func (w *worker) pumpDue() bool {
	for len(w.due) > 0 && w.due[0].atNs <= w.nowNs {
		if len(w.dirty) >= flushesPerTurn {
			return true
		}
		c := &w.conns[w.due.pop().conn]
		c.queued = false
		w.pump(c)
	}
	return false
}

// enter submits and, when nothing is left to do, waits: up to the next arrival
// or housekeeping. A pinned worker spins through the last of the wait, since
// waking up takes longer than the lag that it is allowed.
func (w *worker) enter(untilNs int64, more bool) error {
	deadlineNs := min(untilNs, w.nextHouseNs)
	if len(w.due) > 0 {
		next := w.due[0].atNs
		if w.pinned {
			next -= spinLeadNs
		}
		deadlineNs = min(deadlineNs, next)
	}
	if w.sent {
		deadlineNs = min(deadlineNs, w.nowNs+heldUpNs)
	}
	spin := false
	var n int
	var err error
	if more || deadlineNs <= w.nowNs {
		spin = !more && !w.sent
		n, err = w.set.Poll()
	} else {
		n, err = w.set.Wait(deadlineNs)
	}
	before := w.nowNs
	w.nowNs = ring.Now()
	if spin && n == 0 {
		// Time beyond a turn's worth was not spent spinning but preempted.
		w.spinNs += min(w.nowNs-before, spinTurnNsMax)
	}
	return err
}

// inFlight counts the requests that are encoded or sent, and still awaited.
func (w *worker) inFlight() int {
	n := 0
	for i := range w.conns {
		c := &w.conns[i]
		for k := c.head; k != none; k = c.slots[k].next {
			n++
		}
	}
	return n
}

// housekeeping is what has time: timeouts, reconnecting, progress, stopping.
func (w *worker) housekeeping() error {
	w.nextHouseNs = w.nowNs + housekeepingNs
	if w.stop.Load() {
		return errStopped
	}
	if w.nowNs >= w.rec.tickEndNs && (w.nowNs < w.endNs+tickNs || w.rec.tick.TotalCount() > 0) {
		w.rec.endTick(w.nowNs)
	}
	if err := w.mindRealtime(); err != nil {
		return err
	}
	down := 0
	for i := range w.conns {
		c := &w.conns[i]
		w.expire(c)
		if c.up {
			continue
		}
		if w.nowNs-c.lostSinceNs > serverLostAfter {
			down++
		}
		if c.reconnectAtNs > 0 && c.reconnectAtNs <= w.nowNs {
			c.reconnectAtNs = 0
			w.set.Connect(i)
		}
	}
	if down == len(w.conns) {
		return fmt.Errorf("%w: no connection for %d s: %s", ErrServerLost, serverLostAfter/1e9, w.rec.firstError)
	}
	return nil
}

// expire ends the requests of a connection that waited beyond the timeout.
// Where answers come in order, one that is missing makes all later ones be
// taken for another's: such a connection is given up, as any client would.
func (w *worker) expire(c *conn) {
	limit := w.nowNs - w.timeoutNs
	ended := false
	for c.head != none {
		i := c.head
		s := &c.slots[i]
		if s.status != slotSent || s.sentNs > limit {
			break
		}
		w.failed(c, s, &w.rec.timeouts)
		s.late++
		c.release(i)
		ended = true
	}
	if !ended {
		return
	}
	if w.ordered {
		w.noteError(fmt.Sprintf("connection %d: given up after a request timed out", c.id))
		w.set.Drop(c.id)
		w.lost(c)
		return
	}
	if w.closed || c.blocked {
		w.pump(c)
	}
}

// settle counts what never got sent. After a stop the schedule ends now: later
// arrivals were never intended.
func (w *worker) settle(stopped bool) {
	endNs := w.endNs
	if stopped {
		endNs = min(endNs, w.nowNs)
	}
	for i := range w.conns {
		c := &w.conns[i]
		for k := c.head; k != none; {
			s := &c.slots[k]
			next := s.next
			if s.status == slotEncoded {
				w.failed(c, s, &w.rec.unsent)
				c.release(k)
			}
			k = next
		}
		if w.closed {
			for c.readyLen > 0 {
				w.neverSent(c.popReady().sinceNs, endNs)
			}
			continue
		}
		for c.nextNs < endNs {
			w.neverSent(c.nextNs, endNs)
			c.nextNs = w.startNs + c.schedule.Next()
		}
	}
}

func (w *worker) neverSent(intendedNs, endNs int64) {
	if intendedNs >= w.measureNs && intendedNs < endNs {
		w.rec.intended++
		w.rec.unsent++
	}
}

// measuredInFlight is what Result.InFlight counts: sent and still open.
func (w *worker) measuredInFlight() uint64 {
	var n uint64
	for i := range w.conns {
		c := &w.conns[i]
		for k := c.head; k != none; k = c.slots[k].next {
			if s := &c.slots[k]; s.status == slotSent && s.measured {
				n++
			}
		}
	}
	return n
}

// threadCPUNs is the CPU time of the calling thread.
func threadCPUNs() int64 {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts) != nil {
		return 0 // cannot fail for this clock, see clock_gettime(2)
	}
	return ts.Nano()
}
