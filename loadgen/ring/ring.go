// Package ring drives many client sockets on one io_uring: it connects them,
// coalesces what is written to each into one send, receives with one multishot
// request per socket where the kernel can, and enters the kernel once a turn
// for all of it.
package ring

import (
	"errors"
	"fmt"
	"time"

	"github.com/nexuscore-labs/nexus/uring"
	"golang.org/x/sys/unix"
)

// Bounds of Options.
const (
	ConnsMax   = 16384
	OutLenMax  = 32 << 20 // a socket's buffered output, in bytes
	recvGroup  = 1
	outLenKept = 1 << 20 // a larger heap buffer is dropped after its send
)

// Options describe the sockets of one Set.
type Options struct {
	Conns  int
	Target Address
	OutLen int // registered output buffer per socket and side, in bytes; 0 means 16 KiB
	InLen  int // receive buffer, in bytes; 0 means 16 KiB, with UDP offload 64 KiB
	// PlainRecv gives up multishot receive, to compare or where it fails.
	PlainRecv bool
	// HeapSend gives up registered output buffers.
	HeapSend bool
	// UDPOffload hands the datagrams of one flush to the kernel as runs of equal
	// length and takes what arrived together as one, where the kernel can. To
	// the network it makes no difference unless an interface takes whole runs.
	UDPOffload bool
}

// Handler is told what happened to a socket. Its methods run on the goroutine
// that calls Turn and may write to any socket.
type Handler interface {
	Connected(conn int)
	// Received gives bytes that are the handler's until it returns.
	Received(conn int, data []byte)
	// Writable says that all that was flushed has been sent.
	Writable(conn int)
	// Closed says that a socket ended or never connected; err is never nil. The
	// handler may Connect again.
	Closed(conn int, err error)
}

// ErrClosedByPeer says that the server ended a connection.
var ErrClosedByPeer = errors.New("the server closed the connection")

// Set is the sockets and their ring. It belongs to one goroutine, locked to
// its thread before New.
type Set struct {
	ring     *uring.Ring
	handler  Handler
	target   Address
	conns    []socket
	bufs     *uring.BufRing // nil: plain receive
	slab     []byte         // registered; nil: plain send
	slabLen  int            // per side of a socket
	inLen    int
	recycled int
	prepared int // small sends since the last turn
	datagram bool
	recvHead *uring.RecvHeader // with UDP offload
	cut      int               // receives that lost datagrams to a short buffer
	turnErr  error
	onCQE    func(*uring.CQE)
	features []string
	retry    []int // sockets to be armed again after the turn
}

// New creates the ring and its memory; sockets are opened by Connect.
func New(o Options, h Handler) (*Set, error) {
	if o.Conns < 1 || o.Conns > ConnsMax {
		return nil, fmt.Errorf("%d connections on a ring: want 1 to %d", o.Conns, ConnsMax)
	}
	if o.OutLen == 0 {
		o.OutLen = 16 << 10
	}
	offload := o.UDPOffload && o.Target.Datagram() && !o.PlainRecv && offloads(o.Target)
	if o.InLen == 0 {
		o.InLen = 16 << 10
		if offload {
			o.InLen = bunchLenMax
		}
	}
	entries := powerOfTwo(max(64, min(4*o.Conns, 8192)))
	r, err := uring.New(uring.Options{Entries: uint32(entries), CQEntries: uint32(4 * entries), SingleIssuer: true, RegisterRing: true})
	if err != nil {
		return nil, err
	}
	s := &Set{ring: r, handler: h, target: o.Target, conns: make([]socket, o.Conns), inLen: o.InLen, slabLen: o.OutLen, datagram: o.Target.Datagram()}
	s.onCQE = s.complete
	if offload {
		s.recvHead = uring.NewRecvHeader(false)
		s.inLen += s.recvHead.Overhead()
		o.InLen = s.inLen
	}
	s.features = append([]string{"io_uring"}, r.Flags()...)
	if err := s.prepare(o); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Set) prepare(o Options) error {
	if err := s.ring.RegisterFilesSparse(o.Conns); err != nil {
		return err
	}
	s.features = append(s.features, "fixed_file")
	if !o.PlainRecv {
		// Enough for every socket to have an answer waiting and some a backlog,
		// within 64 MiB.
		count := powerOfTwo(max(256, min(2*o.Conns, (64<<20)/o.InLen, 32768)))
		bufs, err := s.ring.NewBufRing(recvGroup, count, o.InLen)
		if err == nil {
			s.bufs = bufs
			s.features = append(s.features, "buf_ring", "multishot_recv")
			if s.recvHead != nil {
				s.features = append(s.features, "udp_segment", "udp_gro")
			}
		} else if !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	if s.bufs == nil {
		s.recvHead = nil
		s.features = append(s.features, "plain_recv")
	}
	if !o.HeapSend {
		s.registerSlab(o)
	}
	for i := range s.conns {
		s.conns[i].init(s, i)
	}
	return nil
}

// registerSlab pins the output buffers; without the right to lock memory the
// sockets send from ordinary memory.
func (s *Set) registerSlab(o Options) {
	slab, err := unix.Mmap(-1, 0, 2*o.Conns*o.OutLen, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANONYMOUS|unix.MAP_PRIVATE)
	if err != nil {
		return
	}
	if err := s.ring.RegisterBuffers(slab); err != nil {
		_ = unix.Munmap(slab)
		return
	}
	s.slab = slab
	s.features = append(s.features, "fixed_buffer")
}

// Features names what the ring uses, for results.
func (s *Set) Features() []string { return s.features }

// Close cancels everything, closes the sockets and frees the memory.
func (s *Set) Close() error {
	err := s.ring.Close()
	for i := range s.conns {
		s.conns[i].closeFd()
	}
	if s.slab != nil {
		err = errors.Join(err, unix.Munmap(s.slab))
		s.slab = nil
	}
	return err
}

// Poll submits what is prepared, without waiting, and handles what completed.
// It returns the number of completions.
func (s *Set) Poll() (int, error) { return s.turn(0, 0) }

// Wait is Poll that waits for a completion until the deadline, in ns of Now.
// The sends of this turn don't end the wait: nearly always they complete at
// once, and something beyond them is worth waking up for. A send that is held
// up by a full socket therefore may prolong the wait up to the deadline.
func (s *Set) Wait(deadlineNs int64) (int, error) { return s.turn(1+s.prepared, deadlineNs) }

func (s *Set) turn(wait int, deadlineNs int64) (int, error) {
	if s.recycled > 0 {
		s.bufs.Publish()
		s.recycled = 0
	}
	s.prepared = 0
	var err error
	if wait == 0 || s.ring.Ready() > 0 {
		_, err = s.ring.Submit()
	} else {
		_, err = s.ring.SubmitAndWaitUntil(wait, deadlineNs)
	}
	if err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EBUSY) {
		return 0, err
	}
	return s.ring.Ready(), nil
}

// Dispatch calls the handler for each completion that a turn found.
func (s *Set) Dispatch() error {
	s.ring.ForEach(s.onCQE)
	if len(s.retry) > 0 {
		// Buffers came back during the walk; show them before asking again.
		if s.recycled > 0 {
			s.bufs.Publish()
			s.recycled = 0
		}
		for _, i := range s.retry {
			s.conns[i].arm()
		}
		s.retry = s.retry[:0]
	}
	err := s.turnErr
	s.turnErr = nil
	return err
}

// User data: what the completion is of, the socket's generation (a completion
// of an earlier connection is dropped), and its number.
const (
	opConnect = iota
	opRecv
	opSend
	opTimer // a connect's limit, or the cancelling of a lost socket
)

func pack(op uint64, generation uint32, conn int) uint64 {
	return op<<56 | uint64(generation&0xffffff)<<32 | uint64(uint32(conn))
}

func (s *Set) complete(c *uring.CQE) {
	conn := int(uint32(c.UserData))
	k := &s.conns[conn]
	current := uint32(c.UserData>>32)&0xffffff == k.generation&0xffffff
	switch c.UserData >> 56 {
	case opConnect:
		k.pending--
		if current {
			k.connected(c)
		}
	case opRecv:
		if c.Flags&uring.CQEMore == 0 {
			k.pending--
		}
		k.received(c, current)
	case opTimer:
		k.pending--
	case opSend:
		k.pending--
		if current {
			k.sent(c)
		}
	}
	if k.pending == 0 && k.reopen {
		k.reopen = false
		k.open()
	}
}

// sqe never fails for long: the queue holds an entry per pending operation.
func (s *Set) sqe() *uring.SQE {
	e := s.ring.SQE()
	if e == nil {
		s.turnErr = uring.ErrFull
		return &uring.SQE{} // dropped; the error ends the run
	}
	return e
}

func powerOfTwo(n int) int {
	p := 1
	for p < n {
		p *= 2
	}
	return p
}

// Now is the clock of Wait.
func Now() int64 { return uring.Now() }

// Forever is a deadline that Wait never reaches within a run.
const Forever = int64(1) << 62

// connectLimit bounds one attempt to connect.
const connectLimit = 2 * time.Second
