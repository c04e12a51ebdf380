package recordserver

import (
	"encoding/binary"
	"errors"
	"sync"

	"github.com/nexuscore-labs/nexus/frame"
)

// request is one queued request; body is its own copy.
type request struct {
	kind   frame.Kind
	tenant uint32
	id     uint64
	body   []byte
}

// bodyKeepMax bounds the bodies that the pool keeps alive.
const bodyKeepMax = 64 << 10

var requests = sync.Pool{New: func() any { return new(request) }}

func newRequest(f frame.Frame) *request {
	r := requests.Get().(*request)
	r.kind, r.tenant, r.id = f.Kind, f.Tenant, f.ID
	r.body = append(r.body[:0], f.Body...)
	return r
}

func (r *request) recycle() {
	if cap(r.body) <= bodyKeepMax {
		requests.Put(r)
	}
}

// tenantQueue holds what one tenant has waiting on one connection. It exists,
// with a worker that serves it, while the tenant has requests under way.
type tenantQueue struct {
	tenant  uint32
	pending []*request // guarded by conn.mu
}

// idleWorkersMax bounds the goroutines that a connection keeps for the next
// tenants with requests. A fresh one would grow its stack anew on its way into
// the store: behind a fast store that was a quarter of the server's CPU time.
const idleWorkersMax = 64

// worker is a goroutine that serves one tenant's queue at a time.
type worker struct {
	next chan *tenantQueue // room for one; closed to end an idle worker
}

// request takes one well-formed frame. It reports false when the connection
// must end because the server is giving up.
func (c *conn) request(f frame.Frame) bool {
	switch {
	case f.Status != frame.StatusOK || f.Kind&frame.KindReply != 0:
		c.refuse(f, frame.StatusMalformed)
	case f.Kind == frame.KindPing:
		c.answers.answer(frame.Frame{Kind: f.Kind | frame.KindReply, Tenant: f.Tenant, ID: f.ID, Body: f.Body})
	case f.Tenant > c.server.opts.TenantIDMax:
		c.refuse(f, frame.StatusUnknown)
	case f.Kind == frame.KindAppend:
		return c.enqueue(f)
	case f.Kind == frame.KindRead && len(f.Body) == 8, f.Kind == frame.KindTail && len(f.Body) == 12:
		if _, ok := c.server.opts.Store.(Reader); !ok {
			c.refuse(f, frame.StatusUnknown)
			return true
		}
		return c.enqueue(f)
	case f.Kind == frame.KindRead, f.Kind == frame.KindTail:
		c.refuse(f, frame.StatusMalformed)
	default:
		c.refuse(f, frame.StatusUnknown)
	}
	return true
}

func (c *conn) refuse(f frame.Frame, status frame.Status) {
	c.answers.answer(frame.Frame{Kind: f.Kind | frame.KindReply, Status: status, Tenant: f.Tenant, ID: f.ID})
}

// enqueue hands f to its tenant's goroutine. It waits while the connection has
// too many bytes under way, which makes the client wait in its socket.
func (c *conn) enqueue(f frame.Frame) bool {
	cost := requestCost(len(f.Body))
	if err := c.inFlight.Acquire(c.server.work, cost); err != nil {
		c.refuse(f, frame.StatusUnavailable)
		return false
	}
	c.mu.Lock()
	queue, running := c.tenants[f.Tenant]
	if running && len(queue.pending) >= c.server.opts.TenantQueueMax {
		c.mu.Unlock()
		c.inFlight.Release(cost)
		c.refuse(f, frame.StatusOverloaded)
		return true
	}
	var idle *worker
	if !running {
		queue = &tenantQueue{tenant: f.Tenant}
		c.tenants[f.Tenant] = queue
		if n := len(c.idle); n > 0 {
			idle = c.idle[n-1]
			c.idle = c.idle[:n-1]
		}
	}
	queue.pending = append(queue.pending, newRequest(f))
	c.mu.Unlock()
	switch {
	case running:
	case idle != nil:
		idle.next <- queue
	default:
		c.workers.Add(1)
		go c.work(queue)
	}
	return true
}

// work serves queue and then others, until too many workers are idle or the
// connection ends.
func (c *conn) work(queue *tenantQueue) {
	defer c.workers.Done()
	self := &worker{next: make(chan *tenantQueue, 1)}
	work := tenantWork{conn: c}
	work.batcher, _ = c.server.opts.Store.(Batcher)
	for ok := true; ok; queue, ok = <-self.next {
		if !c.serveTenant(queue, self, &work) {
			return
		}
	}
}

// serveTenant runs the tenant's requests in order until none is left, and
// reports whether self is to wait for another tenant.
func (c *conn) serveTenant(queue *tenantQueue, self *worker, work *tenantWork) bool {
	work.tenant = queue.tenant
	for {
		c.mu.Lock()
		if len(queue.pending) == 0 {
			delete(c.tenants, queue.tenant)
			wait := !c.ending && len(c.idle) < idleWorkersMax
			if wait {
				c.idle = append(c.idle, self)
			}
			c.mu.Unlock()
			return wait
		}
		work.taken, queue.pending = queue.pending, work.taken[:0]
		c.mu.Unlock()
		work.run(work.taken)
		clear(work.taken)
	}
}

// endWorkers waits for everything under way and ends all workers. The reader
// has ended before.
func (c *conn) endWorkers() {
	c.mu.Lock()
	c.ending = true
	for _, idle := range c.idle {
		close(idle.next)
	}
	c.idle = nil
	c.mu.Unlock()
	c.workers.Wait()
}

// tenantWork executes the requests of one tenant; its slices are reused.
type tenantWork struct {
	conn     *conn
	tenant   uint32
	batcher  Batcher // nil when the store has none
	taken    []*request
	payloads [][]byte
	results  []Result
}

func (w *tenantWork) run(taken []*request) {
	for len(taken) > 0 {
		n := 1
		if w.batcher != nil {
			n = leadingAppends(taken, w.conn.server.opts.BatchMax)
		}
		if n > 1 {
			w.appendBatch(taken[:n])
		} else {
			w.runOne(taken[0])
			n = 1
		}
		taken = taken[n:]
	}
}

func leadingAppends(taken []*request, most int) int {
	for i, r := range taken {
		if i == most || r.kind != frame.KindAppend {
			return i
		}
	}
	return len(taken)
}

func (w *tenantWork) runOne(r *request) {
	s := w.conn.server
	switch r.kind {
	case frame.KindAppend:
		s.stats.Appends.Add(1)
		s.stats.Batches.Add(1)
		seq, err := s.opts.Store.Append(s.work, r.tenant, r.body)
		w.appended(r, seq, err)
	case frame.KindRead:
		seq := binary.LittleEndian.Uint64(r.body)
		record, err := s.opts.Store.(Reader).Read(s.work, r.tenant, seq)
		w.answer(r, StatusOf(err), record)
	case frame.KindTail:
		records, err := w.tail(binary.LittleEndian.Uint64(r.body), binary.LittleEndian.Uint32(r.body[8:]))
		w.answer(r, StatusOf(err), records)
	}
}

func (w *tenantWork) appendBatch(batch []*request) {
	s := w.conn.server
	w.payloads, w.results = w.payloads[:0], w.results[:0]
	for _, r := range batch {
		w.payloads = append(w.payloads, r.body)
		w.results = append(w.results, Result{})
	}
	s.stats.Appends.Add(uint64(len(batch)))
	s.stats.Batches.Add(1)
	w.batcher.AppendBatch(s.work, w.tenant, w.payloads, w.results)
	for i, r := range batch {
		w.appended(r, w.results[i].Seq, w.results[i].Err)
	}
	clear(w.payloads)
	clear(w.results)
}

// tail reads up to most records from first on, as many as fit one answer. It
// ends without an error where the tenant's log ends.
func (w *tenantWork) tail(first uint64, most uint32) ([]byte, error) {
	s := w.conn.server
	reader := s.opts.Store.(Reader)
	var body []byte
	for i := range uint64(most) {
		record, err := reader.Read(s.work, w.tenant, first+i)
		if errors.Is(err, ErrUnknown) && i > 0 {
			return body, nil
		}
		if err != nil {
			return nil, err
		}
		if i > 0 && len(body)+4+len(record) > s.opts.RecordLenMax {
			return body, nil
		}
		body = binary.LittleEndian.AppendUint32(body, uint32(len(record)))
		body = append(body, record...)
	}
	return body, nil
}

func (w *tenantWork) appended(r *request, seq uint64, err error) {
	if err != nil {
		w.answer(r, StatusOf(err), nil)
		return
	}
	var body [8]byte
	binary.LittleEndian.PutUint64(body[:], seq)
	w.answer(r, frame.StatusOK, body[:])
}

// answer answers r and is done with it.
func (w *tenantWork) answer(r *request, status frame.Status, body []byte) {
	if status != frame.StatusOK {
		body = nil
	}
	w.conn.answers.answer(frame.Frame{
		Kind: r.kind | frame.KindReply, Status: status, Tenant: r.tenant, ID: r.id, Body: body,
	})
	w.conn.inFlight.Release(requestCost(len(r.body)))
	r.recycle()
}
