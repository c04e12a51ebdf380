package ring

import (
	"fmt"

	"github.com/nexuscore-labs/nexus/uring"
	"golang.org/x/sys/unix"
)

// inlineLenMax is what a socket's buffer takes at once as a rule, in bytes.
const inlineLenMax = 32 << 10

type state uint8

const (
	idle state = iota
	connecting
	open
)

// socket is one connection. Output has two sides: one is filled while the
// other is being sent, so that bytes go out in order with one send in flight.
// A datagram socket sends each flushed mark as its own datagram.
type socket struct {
	set        *Set
	id         int
	fd         int
	generation uint32
	pending    int // operations that the kernel still holds
	state      state
	reopen     bool
	filling    int       // index of the side that takes bytes
	side       [2][]byte // bytes to send, in the slab or on the heap
	marks      [2][]int  // datagram ends
	offset     int       // sent of the side in flight
	sending    int       // sends in flight
	in         []byte    // plain receive
	segmentMax int       // the longest datagram of a run, in bytes; 0: no runs
	runs       []*uring.Message
	timeout    unix.Timespec
}

func (k *socket) init(s *Set, id int) {
	k.set, k.id, k.fd = s, id, -1
	for side := range k.side {
		k.side[side] = k.home(side)
	}
	if s.bufs == nil {
		k.in = make([]byte, s.inLen)
	}
}

// home is the registered memory of a side, empty.
func (k *socket) home(side int) []byte {
	n := k.set.slabLen
	if k.set.slab == nil {
		return make([]byte, 0, n)
	}
	start := (2*k.id + side) * n
	return k.set.slab[start : start : start+n]
}

// Connect opens socket conn, after the kernel let go of its predecessor.
func (s *Set) Connect(conn int) {
	k := &s.conns[conn]
	if k.pending > 0 {
		k.reopen = true
		return
	}
	k.open()
}

func (k *socket) open() {
	s := k.set
	fd, err := s.target.socket()
	if err == nil {
		err = s.ring.UpdateFiles(k.id, []int32{int32(fd)})
	}
	if err != nil {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
		s.handler.Closed(k.id, err)
		return
	}
	k.fd, k.state = fd, connecting
	k.generation++
	k.filling, k.offset, k.sending = 0, 0, 0
	for side := range k.side {
		k.side[side], k.marks[side] = k.side[side][:0], k.marks[side][:0]
	}
	k.timeout = uring.Timespec(connectLimit)
	if err := s.ring.Reserve(2); err != nil {
		s.turnErr = err
		return
	}
	s.sqe().Connect(k.id, s.target.sockaddr).With(uring.FixedFile | uring.Link).Data(pack(opConnect, k.generation, k.id))
	// Its own completion says nothing that the connect's doesn't.
	s.sqe().LinkTimeout(&k.timeout).Data(pack(opTimer, k.generation, k.id))
	k.pending += 2
}

func (k *socket) connected(c *uring.CQE) {
	if err := uring.Err(c); err != nil {
		k.lose(fmt.Errorf("connect %s: %w", k.set.target, err))
		return
	}
	k.state = open
	k.segmentMax = 0
	if k.set.recvHead != nil {
		k.segmentMax = offload(k.fd, k.set.target)
	}
	k.arm()
	k.set.handler.Connected(k.id)
}

// arm asks for bytes.
func (k *socket) arm() {
	if k.state != open {
		return
	}
	s := k.set
	e := s.sqe()
	switch {
	case s.recvHead != nil:
		e.RecvMsgMultishot(k.id, s.recvHead, recvGroup)
	case s.bufs != nil:
		e.RecvMultishot(k.id, recvGroup)
	default:
		e.Recv(k.id, k.in)
	}
	e.PollFirst().With(uring.FixedFile).Data(pack(opRecv, k.generation, k.id))
	k.pending++
}

func (k *socket) received(c *uring.CQE, current bool) {
	s := k.set
	if c.Res > 0 {
		data := k.in
		if c.Flags&uring.CQEBuffer != 0 {
			data = s.bufs.Bytes(uring.BufferID(c), int(c.Res))
		}
		switch {
		case !current || k.state != open:
		case s.recvHead != nil:
			k.bunch(data[:c.Res])
		default:
			s.handler.Received(k.id, data[:c.Res])
		}
	}
	if c.Flags&uring.CQEBuffer != 0 {
		s.bufs.Recycle(uring.BufferID(c))
		s.recycled++
	}
	if !current || k.state != open || c.Flags&uring.CQEMore != 0 {
		return
	}
	err := uring.Err(c)
	switch {
	case err == unix.ENOBUFS || err == unix.EINTR || err == unix.EAGAIN || c.Res > 0:
		s.retry = append(s.retry, k.id)
	case err != nil && s.datagram:
		// An ICMP error says that the server's port is closed.
		k.lose(fmt.Errorf("receive from %s: %w", s.target, err))
	case err != nil:
		k.lose(fmt.Errorf("receive from %s: %w", s.target, err))
	case s.datagram:
		s.retry = append(s.retry, k.id) // an empty datagram
	default:
		k.lose(ErrClosedByPeer)
	}
}

// Out returns the bytes that are waiting for Flush, to be appended to and
// given back with SetOut.
func (s *Set) Out(conn int) []byte {
	k := &s.conns[conn]
	return k.side[k.filling]
}

// SetOut takes back what Out gave, extended. For datagram sockets it ends a
// datagram.
func (s *Set) SetOut(conn int, out []byte) {
	k := &s.conns[conn]
	k.side[k.filling] = out
	if s.datagram {
		k.marks[k.filling] = append(k.marks[k.filling], len(out))
	}
}

// Flush prepares the send of what Out holds. It returns false when an earlier
// send is in flight (or the socket isn't open): Writable then says when to
// flush again.
func (s *Set) Flush(conn int) bool {
	k := &s.conns[conn]
	if k.state != open || k.sending > 0 || len(k.side[k.filling]) == 0 {
		return false
	}
	k.filling ^= 1
	k.offset = 0
	if !s.datagram {
		k.send(0, len(k.side[k.filling^1]))
		return true
	}
	ends := k.marks[k.filling^1]
	for start, run := 0, 0; len(ends) > 0; run++ {
		count, segmentLen := uring.Run(ends, start, k.segmentMax)
		end := ends[count-1]
		if segmentLen > 0 {
			k.sendRun(run, start, end, segmentLen)
		} else {
			k.send(start, end)
		}
		start, ends = end, ends[count:]
	}
	return true
}

// send prepares bytes start to end of the side that isn't being filled.
func (k *socket) send(start, end int) {
	s := k.set
	side := k.filling ^ 1
	bytes := k.side[side][start:end]
	e := s.sqe()
	if s.slab != nil && cap(k.side[side]) <= s.slabLen {
		e.WriteFixed(k.id, bytes, 0, 0)
	} else {
		e.Send(k.id, bytes, unix.MSG_NOSIGNAL|unix.MSG_WAITALL)
	}
	e.With(uring.FixedFile).Data(pack(opSend, k.generation, k.id))
	k.sending++
	k.pending++
	if len(bytes) <= inlineLenMax {
		s.prepared++
	}
}

func (k *socket) sent(c *uring.CQE) {
	s := k.set
	k.sending--
	if k.state != open {
		return
	}
	side := k.filling ^ 1
	if err := uring.Err(c); err != nil {
		k.lose(fmt.Errorf("send to %s: %w", s.target, err))
		return
	}
	if !s.datagram {
		k.offset += int(c.Res)
		if k.offset < len(k.side[side]) {
			k.send(k.offset, len(k.side[side]))
			return
		}
	}
	if k.sending > 0 {
		return
	}
	k.side[side], k.marks[side] = k.side[side][:0], k.marks[side][:0]
	if cap(k.side[side]) > outLenKept {
		k.side[side] = k.home(side)
	}
	s.handler.Writable(k.id)
}

// Drop ends a connection from this side; the handler isn't told.
func (s *Set) Drop(conn int) {
	k := &s.conns[conn]
	if k.state == idle {
		return
	}
	k.end()
}

// lose ends a connection and tells the handler.
func (k *socket) lose(err error) {
	k.end()
	k.set.handler.Closed(k.id, err)
}

func (k *socket) end() {
	k.state = idle
	k.generation++ // what is still in flight belongs to nobody
	if k.fd >= 0 {
		// Wakes every operation that the kernel holds for this socket, which
		// closing the descriptor alone doesn't do for a registered file.
		_ = unix.Shutdown(k.fd, unix.SHUT_RDWR)
		if k.pending > 0 {
			k.set.sqe().CancelFd(k.id, true).Data(pack(opTimer, k.generation, k.id))
			k.pending++
		}
	}
	k.closeFd()
}

func (k *socket) closeFd() {
	if k.fd >= 0 {
		_ = unix.Close(k.fd)
		k.fd = -1
	}
}

// LocalPort returns the port that socket conn has on this side, 0 when it has
// none (a unix socket, or a lost one).
func (s *Set) LocalPort(conn int) uint16 {
	address, err := unix.Getsockname(s.conns[conn].fd)
	if err != nil {
		return 0
	}
	switch a := address.(type) {
	case *unix.SockaddrInet4:
		return uint16(a.Port)
	case *unix.SockaddrInet6:
		return uint16(a.Port)
	}
	return 0
}

// Buffered returns how many bytes wait for Flush.
func (s *Set) Buffered(conn int) int {
	k := &s.conns[conn]
	return len(k.side[k.filling])
}
