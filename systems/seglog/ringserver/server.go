package ringserver

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/nexuscore-labs/nexus/systems/seglog"
	"github.com/nexuscore-labs/nexus/uring"
	"golang.org/x/sys/unix"
)

// What a completion belongs to: the upper 32 bits of its user data; the lower
// ones are the slot of the connection, or the staging buffer of the commit.
const (
	opAccept = iota + 1
	opReceive
	opSend
	opWrite
	opSync
	opWake
	opTick
	opCancel
	opDatagram
)

const receiveGroup = 1

func tag(op, slot int) uint64 { return uint64(op)<<32 | uint64(uint32(slot)) }

// server is one running Serve; everything but mailbox and waker belongs to its thread.
type server struct {
	o       Options
	dir     *seglog.Dir
	e       *seglog.Engine
	ring    *uring.Ring
	bufs    *uring.BufRing // nil: the kernel has none, each connection has its own buffer
	staging [commitsMax + 1][]byte
	waker   *uring.Waker

	listener  *listener
	conns     []*conn // by slot; nil is free
	freeSlots []int
	live      int
	dirty     []*conn // have answers to send
	stalled   []*conn // have input that could not be handled
	scratch   []*conn
	multishot bool
	accepting bool
	onCQE     func(*uring.CQE)

	pending  [commitsMax + 1][]pending // what to answer when a staging buffer is durable
	disk     disk
	tick     unix.Timespec
	read     []byte
	draining bool
	deadline time.Time
	fatal    error
	counts   counts

	jobs     sync.WaitGroup
	mu       sync.Mutex
	stopping bool     // under mu
	mailbox  []func() // under mu: results of other goroutines, run on the thread
}

// pending is one staged record to be answered.
type pending struct {
	to     *conn
	id     uint64
	seq    uint64
	tenant uint32
}

// Serve serves until ctx ends, then commits what it took, sends the answers,
// closes the log and returns nil. Errors: the log's (see seglog.OpenEngine), a
// busy address, a kernel without io_uring.
func Serve(ctx context.Context, o Options) error {
	o, err := o.withDefaults()
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for ever: the thread ends with this goroutine
		shortSlices()
		done <- serve(ctx, o)
	}()
	return <-done
}

// sliceNs is the shortest slice that the scheduler grants, sched_setattr(2).
const sliceNs = 100_000

// shortSlices asks for short turns on the CPU. The kernel's workers that finish
// the log's writes wake up on the same CPU and, by default, wait until this
// thread has used up a turn of a millisecond or more on requests (EEVDF's run to
// parity). Kernels before 6.12 ignore it.
func shortSlices() {
	attr, err := unix.SchedGetAttr(0, 0)
	if err != nil || attr.Policy != unix.SCHED_NORMAL {
		return // only a matter of speed
	}
	attr.Runtime = sliceNs
	_ = unix.SchedSetAttr(0, attr, 0)
}

func serve(ctx context.Context, o Options) (err error) {
	s := &server{o: o, multishot: true}
	s.onCQE = s.complete
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.open(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		s.stopping = true
		s.mu.Unlock()
		_ = s.waker.Wake() // fails only on a closed descriptor, when nobody waits
	})
	defer stop()
	s.waker.Arm(s.ring.SQE()).Data(tag(opWake, 0))
	s.armTick()
	s.listener.arm(s)
	s.firstSegment()
	if o.Ready != nil {
		if err := o.Ready(s.listener.address); err != nil {
			return fmt.Errorf("ringserver: announce %s: %w", s.listener.address, err)
		}
	}
	return s.loop()
}

// firstSegment is made before the server says that it is ready. When that fails
// (a full disk) it still serves reads, and tries again with the first record.
func (s *server) firstSegment() {
	if p := s.e.Prepare(); p != nil {
		p.Run()
		s.e.Prepared(p)
	}
}

func (s *server) open() error {
	var err error
	if s.listener, err = listen(s.o.Network, s.o.Address); err != nil {
		return err
	}
	if s.dir, err = seglog.OpenDir(s.o.Dir, s.o.Disk); err != nil {
		return err
	}
	for i := range s.staging {
		if s.staging[i], err = seglog.MapBuffer(s.o.Log.BatchBytes); err != nil {
			return fmt.Errorf("ringserver: %w", err)
		}
	}
	if s.e, err = seglog.OpenEngine(s.dir, s.o.Log, s.staging[:]); err != nil {
		return err
	}
	if s.ring, err = uring.New(uring.Options{Entries: 1024, CQEntries: 4096, SingleIssuer: true, RegisterRing: true}); err != nil {
		return fmt.Errorf("ringserver: %w", err)
	}
	if err := s.ring.RegisterBuffers(s.staging[:]...); err != nil {
		return fmt.Errorf("ringserver: %w", err)
	}
	if err := s.ring.RegisterFilesSparse(1); err != nil {
		return fmt.Errorf("ringserver: %w", err)
	}
	if s.bufs, err = s.ring.NewBufRing(receiveGroup, s.o.ReceiveBuffers, s.o.ReceiveBytes); err != nil {
		s.bufs, s.multishot = nil, false // before kernel 5.19: plain receives
	}
	s.waker, err = uring.NewWaker()
	return err
}

// loop handles completions until the drain is over.
func (s *server) loop() error {
	for {
		wait := time.Duration(0)
		if s.draining {
			if s.drained() {
				return nil
			}
			wait = 50 * time.Millisecond
		}
		_, err := s.ring.SubmitAndWait(1, wait)
		if err != nil && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EAGAIN) {
			return fmt.Errorf("ringserver: %w", err)
		}
		s.ring.ForEach(s.onCQE)
		if s.bufs != nil {
			s.bufs.Publish()
		}
		s.background()
		s.startCommit()
		s.finishCommits() // those that could not be submitted
		s.flush()
		if s.fatal != nil {
			return s.fatal
		}
	}
}

func (s *server) complete(q *uring.CQE) {
	op, slot := int(q.UserData>>32), int(uint32(q.UserData))
	switch op {
	case opReceive:
		s.received(s.conns[slot], q)
	case opSend:
		s.sent(s.conns[slot], q.Res)
	case opWrite, opSync:
		s.committed(op, slot, q.Res)
	case opAccept:
		s.accepted(q)
	case opWake:
		s.waker.Arm(s.sqe()).Data(tag(opWake, 0))
		s.mail()
	case opTick:
		s.ticked()
	case opDatagram:
		s.listener.datagrams.complete(s, slot, q.Res)
	}
}

// sqe never returns nil: the queue has room for everything that one round of
// completions can ask for once it was submitted.
func (s *server) sqe() *uring.SQE {
	for {
		if q := s.ring.SQE(); q != nil {
			return q
		}
		s.counts.queueFull++
		if _, err := s.ring.Submit(); err != nil && s.fatal == nil && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EAGAIN) {
			s.fatal = fmt.Errorf("ringserver: %w", err)
		}
	}
}

// post runs f on the server's thread. It may be called from any goroutine.
func (s *server) post(f func()) {
	s.mu.Lock()
	s.mailbox = append(s.mailbox, f)
	s.mu.Unlock()
	_ = s.waker.Wake()
}

func (s *server) mail() {
	s.mu.Lock()
	letters, stopping := s.mailbox, s.stopping
	s.mailbox = nil
	s.mu.Unlock()
	for _, f := range letters {
		f()
	}
	if stopping && !s.draining {
		s.startDrain()
	}
}

func (s *server) armTick() {
	s.tick = uring.Timespec(seglog.RetireEvery)
	s.sqe().Timeout(&s.tick, 0, false).Data(tag(opTick, 0))
}

// ticked runs once a second: retention, and clients that take nothing.
func (s *server) ticked() {
	s.armTick()
	s.retire()
	now := time.Now()
	for _, c := range s.conns {
		if c != nil && c.sendingSince.Before(now.Add(-s.o.StuckTimeout)) && len(c.sending) > 0 {
			s.counts.clientsStuck++
			s.kill(c)
		}
	}
	s.resume() // a full disk may have room again
}

func (s *server) startDrain() {
	s.draining = true
	s.deadline = time.Now().Add(s.o.DrainTimeout)
	s.listener.disarm(s)
	for _, c := range s.conns {
		if c != nil {
			s.stopReceiving(c)
		}
	}
}

// drained says that everything taken was answered, or that time is up.
func (s *server) drained() bool {
	if time.Now().After(s.deadline) {
		return true
	}
	if staged, _ := s.e.Staged(); s.e.Flying() > 0 || staged > 0 {
		return false
	}
	for _, c := range s.conns {
		if c != nil && !c.dead && (len(c.out) > 0 || len(c.sending) > 0) {
			return false
		}
	}
	return s.listener.datagrams == nil || s.listener.datagrams.idle()
}

// close frees everything, in an order that is right after any partial open.
func (s *server) close() error {
	var err error
	if s.listener != nil {
		err = s.listener.close()
	}
	s.jobs.Wait()
	if s.waker != nil {
		s.mail() // what the jobs posted last
	}
	if s.ring != nil {
		err = errors.Join(err, s.ring.Close()) // waits for what is in flight
	}
	for _, c := range s.conns {
		if c != nil {
			_ = syscall.Close(c.fd) // its client is gone or was told
		}
	}
	if s.waker != nil {
		err = errors.Join(err, s.waker.Close())
	}
	if s.e != nil {
		err = errors.Join(err, s.e.Close(func(k seglog.Commit) error {
			return seglog.WriteDurably(k.File, s.staging[k.Buffer][:k.Bytes], k.Offset)
		}))
		s.report()
	}
	for _, p := range s.staging {
		err = errors.Join(err, seglog.UnmapBuffer(p))
	}
	if s.dir != nil {
		err = errors.Join(err, s.dir.Close())
	}
	return err
}
