package seglog

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"
)

// Log is an append-only log for concurrent use. Appends of all goroutines are
// committed together by one thread: while one batch is written and synced, the
// next one fills.
type Log struct {
	dev   Device
	owned *Dir // opened by Open, closed with the log

	mu       sync.Mutex
	e        *Engine
	waiting  [2][]*waiter // by staging buffer, in the order of the records
	free     []*waiter
	closing  bool
	retiring bool
	room     broadcast // a commit or preparation ended
	news     broadcast // records became durable
	closeErr error

	wake       chan struct{}
	done       chan struct{} // committer has ended
	stop       chan struct{} // closed by Close
	background sync.WaitGroup
}

// waiter is one blocked Append.
type waiter struct{ result chan error }

// broadcast wakes all who wait, under Log.mu. It allocates only when there are any.
type broadcast struct{ ch chan struct{} }

func (b *broadcast) wait() <-chan struct{} {
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *broadcast) fire() {
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

// Open opens or makes the log in the folder, recovering it. See OpenDir and
// OpenEngine for the errors.
func Open(dir string, o Options) (*Log, error) {
	d, err := OpenDir(dir, DirOptions{})
	if err != nil {
		return nil, err
	}
	l, err := OpenDevice(d, o)
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	l.owned = d
	return l, nil
}

// OpenDevice is Open on a device, which stays the caller's.
func OpenDevice(dev Device, o Options) (*Log, error) {
	l := &Log{
		dev:  dev,
		wake: make(chan struct{}, 1), done: make(chan struct{}), stop: make(chan struct{}),
	}
	opened := make(chan error)
	go l.committer(o, opened)
	if err := <-opened; err != nil {
		return nil, err
	}
	if o.RetainBytes > 0 || o.RetainAge > 0 {
		l.background.Go(l.retainer)
	}
	return l, nil
}

// Append stores the record and returns its sequence in the tenant's log (1, 2,
// 3 …) when it is durable. Records of one goroutine keep their order; payload
// is not kept. When ctx ends first the outcome is unknown: the record may
// become durable. Errors: ErrTooLarge, ErrTenants, ErrDiskFull, ErrClosed
// (nothing stored), ErrFailed (not acknowledged).
func (l *Log) Append(ctx context.Context, tenant uint32, payload []byte) (uint64, error) {
	l.mu.Lock()
	seq, err := l.stage(ctx, tenant, payload)
	if err != nil {
		l.mu.Unlock()
		return 0, err
	}
	w := l.waiter()
	b := l.e.OpenBuffer()
	l.waiting[b] = append(l.waiting[b], w)
	first := len(l.waiting[b]) == 1
	l.mu.Unlock()
	if first {
		l.kick()
	}
	if err := w.wait(ctx); err != nil {
		if ctx.Err() != nil && err == ctx.Err() {
			return 0, err // the committer still holds w
		}
		l.recycle(w)
		return 0, err
	}
	l.recycle(w)
	return seq, nil
}

// stage waits for room. It holds l.mu on return.
func (l *Log) stage(ctx context.Context, tenant uint32, payload []byte) (uint64, error) {
	for {
		if l.closing {
			return 0, ErrClosed
		}
		seq, err := l.e.Stage(tenant, payload)
		l.prepare()
		if err != ErrBusy {
			return seq, err
		}
		room := l.room.wait()
		l.mu.Unlock()
		l.kick()
		select {
		case <-room:
			err = nil
		case <-ctx.Done():
			err = ctx.Err()
		}
		l.mu.Lock()
		if err != nil {
			return 0, err
		}
	}
}

func (w *waiter) wait(ctx context.Context) error {
	if ctx.Done() == nil {
		return <-w.result
	}
	select {
	case err := <-w.result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *Log) waiter() *waiter {
	if n := len(l.free); n > 0 {
		w := l.free[n-1]
		l.free = l.free[:n-1]
		return w
	}
	return &waiter{result: make(chan error, 1)}
}

func (l *Log) recycle(w *waiter) {
	l.mu.Lock()
	l.free = append(l.free, w)
	l.mu.Unlock()
}

func (l *Log) kick() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// prepare starts the preparation of the next segment if one is due. It is
// called with l.mu held.
func (l *Log) prepare() {
	p := l.e.Prepare()
	if p == nil {
		return
	}
	l.background.Go(func() {
		p.Run()
		l.mu.Lock()
		l.e.Prepared(p)
		l.room.fire()
		l.mu.Unlock()
	})
}

// committer is the one thread that writes. The device's ring and buffers
// belong to it.
func (l *Log) committer(o Options, opened chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(l.done)
	o, err := o.withDefaults()
	if err != nil {
		opened <- err
		return
	}
	c, err := l.dev.NewCommitter(2, o.BatchBytes)
	if err != nil {
		opened <- err
		return
	}
	l.e, err = OpenEngine(l.dev, o, [][]byte{c.Buffer(0), c.Buffer(1)})
	if err != nil {
		opened <- errors.Join(err, c.Close())
		return
	}
	opened <- nil
	linger := newLinger(o)
	for l.commit(c, linger) {
	}
	l.background.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	err = l.e.Close(func(k Commit) error { return c.Commit(k.File, k.Buffer, k.Bytes, k.Offset) })
	l.closeErr = errors.Join(err, c.Close())
}

// commit writes one batch, or waits for one. It returns false when the log is
// closing and everything staged was written.
func (l *Log) commit(c Committer, linger *linger) bool {
	linger.wait(l)
	l.mu.Lock()
	k, ok := l.e.Cut()
	closing := l.closing
	l.mu.Unlock()
	if !ok {
		if closing {
			return false
		}
		<-l.wake
		return true
	}
	err := c.Commit(k.File, k.Buffer, k.Bytes, k.Offset)
	l.mu.Lock()
	out := l.e.Finish(err)
	l.prepare()
	l.answer(k.Buffer, out.Err)
	for _, b := range out.AlsoFailed {
		l.answer(b, out.Err)
	}
	l.room.fire()
	l.news.fire()
	l.mu.Unlock()
	return true
}

// answer gives the result to all Appends of a batch.
func (l *Log) answer(buffer int, err error) {
	for i, w := range l.waiting[buffer] {
		w.result <- err // has room: each waiter gets one result per use
		l.waiting[buffer][i] = nil
	}
	l.waiting[buffer] = l.waiting[buffer][:0]
}

// Read returns a durable record. Errors: ErrNotFound, ErrRetired, ErrClosed,
// ErrCorrupt.
func (l *Log) Read(tenant uint32, seq uint64) ([]byte, error) {
	return l.ReadInto(nil, tenant, seq)
}

// ReadInto appends the record to dst. The slice needs a little spare room (40
// bytes) beyond the record for it not to be reallocated.
func (l *Log) ReadInto(dst []byte, tenant uint32, seq uint64) ([]byte, error) {
	l.mu.Lock()
	if l.closing {
		l.mu.Unlock()
		return dst, ErrClosed
	}
	at, err := l.e.Find(tenant, seq)
	l.mu.Unlock()
	if err != nil {
		return dst, err
	}
	defer at.Release()
	return at.Read(dst)
}

// Range returns a tenant's first kept and last durable sequence; first is
// last+1 when there is none.
func (l *Log) Range(tenant uint32) (first, last uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.e.Range(tenant)
}

// Stats returns a copy of the counters.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.e.Stats()
}

// Recovery returns what opening the log found.
func (l *Log) Recovery() Recovery { return l.e.Recovery() }

// Retain removes what the retention options ask to remove. It also runs by
// itself every RetireEvery when one of them is set.
func (l *Log) Retain() error {
	return l.retire(func() *Retirement { return l.e.Retire() })
}

// RetainFrom removes segments whose records all belong to the tenant and have
// lower sequences than seq, which a snapshot elsewhere covers. It does nothing
// while Retain or another RetainFrom is at work.
func (l *Log) RetainFrom(tenant uint32, seq uint64) error {
	return l.retire(func() *Retirement { return l.e.RetireBelow(tenant, seq) })
}

func (l *Log) retire(choose func() *Retirement) error {
	l.mu.Lock()
	if l.closing || l.retiring {
		l.mu.Unlock()
		return nil
	}
	r := choose()
	if r == nil {
		l.mu.Unlock()
		return nil
	}
	l.retiring = true
	l.background.Add(1)
	l.mu.Unlock()
	defer l.background.Done()
	err := r.Run()
	l.mu.Lock()
	if err == nil {
		l.e.Retired(r)
	}
	l.retiring = false
	l.mu.Unlock()
	if err != nil {
		return err
	}
	return r.Remove()
}

func (l *Log) retainer() {
	tick := time.NewTicker(RetireEvery)
	defer tick.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-tick.C:
			_ = l.Retain() // nothing is lost by it; it is tried again
		}
	}
}

// Close commits what is staged, ends the log and returns the first error. Later
// and blocked calls get ErrClosed.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closing {
		l.mu.Unlock()
		<-l.done
		return ErrClosed
	}
	l.closing = true
	close(l.stop)
	l.room.fire()
	l.news.fire()
	l.mu.Unlock()
	l.kick()
	<-l.done
	if l.owned != nil {
		return errors.Join(l.closeErr, l.owned.Close())
	}
	return l.closeErr
}
