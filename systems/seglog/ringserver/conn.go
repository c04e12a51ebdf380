package ringserver

import (
	"encoding/binary"
	"syscall"
	"time"

	"github.com/nexuscore-labs/nexus/frame"
	"github.com/nexuscore-labs/nexus/uring"
	"golang.org/x/sys/unix"
)

// conn is one client. Its slot is reused only after all its operations ended.
type conn struct {
	fd, slot int
	ops      int // in the ring

	in        []byte // received, not handled: part of a frame, or what stalled
	own       []byte // receive buffer where the kernel has no buffer rings
	skip      int    // bytes of an oversized frame still to be dropped
	receiving bool
	cancelled bool // a cancel of the receive is under way
	eof       bool // nothing more is received
	stalled   bool
	last      bool // close when the answers are sent
	dead      bool
	waiting   int // staged records that are not answered

	out          []byte // answers to be sent next
	sending      []byte // answers being sent
	dirty        bool
	sendingSince time.Time

	reply *datagram // udp: where the answers go; nil for streams
}

func (s *server) accepted(q *uring.CQE) {
	if q.Flags&uring.CQEMore == 0 {
		s.accepting = false
		if !s.draining {
			if q.Res == -int32(unix.EINVAL) {
				s.listener.single = true // before kernel 5.19
			}
			s.listener.arm(s)
		}
	}
	if q.Res < 0 {
		if q.Res != -int32(unix.ECANCELED) {
			s.counts.acceptErrors++
		}
		return
	}
	fd := int(q.Res)
	if s.draining || s.live >= s.o.ConnectionsMax {
		s.counts.connectionsRefused++
		_ = syscall.Close(fd)
		return
	}
	if s.o.Network == "tcp" {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // answers are coalesced here already
	}
	s.counts.connections++
	s.live++
	c := &conn{fd: fd}
	if n := len(s.freeSlots); n > 0 {
		c.slot, s.freeSlots = s.freeSlots[n-1], s.freeSlots[:n-1]
		s.conns[c.slot] = c
	} else {
		c.slot = len(s.conns)
		s.conns = append(s.conns, c)
	}
	s.receive(c)
}

// receive arms the connection's receive.
func (s *server) receive(c *conn) {
	if c.receiving || c.eof || c.dead || c.last || s.draining {
		return
	}
	q := s.sqe()
	switch {
	case s.bufs == nil:
		if c.own == nil {
			c.own = make([]byte, s.o.ReceiveBytes)
		}
		q.Recv(c.fd, c.own)
	case s.multishot:
		q.RecvMultishot(c.fd, receiveGroup)
	default:
		q.RecvSelect(c.fd, receiveGroup)
	}
	q.Data(tag(opReceive, c.slot))
	c.receiving = true
	c.ops++
}

func (s *server) stopReceiving(c *conn) {
	if c.receiving && !c.cancelled {
		s.sqe().Cancel(tag(opReceive, c.slot), false).Data(tag(opCancel, 0))
		c.cancelled = true
	}
}

func (s *server) received(c *conn, q *uring.CQE) {
	if q.Flags&uring.CQEMore == 0 {
		c.receiving, c.cancelled = false, false
		c.ops--
	}
	switch {
	case q.Res > 0:
		s.counts.receivedBytes += uint64(q.Res)
		if q.Flags&uring.CQEBuffer != 0 {
			id := uring.BufferID(q)
			s.feed(c, s.bufs.Bytes(id, int(q.Res)))
			s.bufs.Recycle(id)
		} else {
			s.feed(c, c.own[:q.Res])
		}
	case q.Res == 0:
		s.ended(c)
		return
	case q.Res == -int32(unix.EINVAL) && s.multishot:
		s.multishot = false // before kernel 6.0
	case q.Res == -int32(unix.ENOBUFS):
		s.counts.receiveBuffersEmpty++
		s.bufs.Publish()
	case q.Res == -int32(unix.ECANCELED), q.Res == -int32(unix.EINTR), q.Res == -int32(unix.EAGAIN):
	default:
		s.counts.connectionErrors++
		s.kill(c)
		return
	}
	s.settle(c)
}

// settle decides whether the connection goes on receiving.
func (s *server) settle(c *conn) {
	switch {
	case c.dead:
		s.free(c)
	case c.stalled && len(c.in) >= s.o.InputBytesMax:
		s.counts.receivePauses++
		s.stopReceiving(c)
	default:
		s.receive(c)
	}
}

// ended: the client sends no more; it still gets its answers.
func (s *server) ended(c *conn) {
	c.eof = true
	if !c.stalled && (len(c.in) > 0 || c.skip > 0) {
		s.counts.framesTruncated++
	}
	s.closeIfDone(c)
}

func (s *server) closeIfDone(c *conn) {
	if (c.last || c.eof && !c.stalled) && c.waiting == 0 && len(c.out) == 0 && len(c.sending) == 0 {
		s.kill(c)
	}
}

// kill ends a connection at once.
func (s *server) kill(c *conn) {
	if c.dead {
		return
	}
	c.dead = true
	c.in, c.out = nil, nil
	if c.ops > 0 {
		s.sqe().CancelFd(c.fd, false).Data(tag(opCancel, 0))
		_ = unix.Shutdown(c.fd, unix.SHUT_RDWR) // ends the rest; fails when the client is gone
	}
	s.free(c)
}

func (s *server) free(c *conn) {
	if c.ops > 0 || s.conns[c.slot] != c {
		return
	}
	_ = syscall.Close(c.fd)
	s.conns[c.slot] = nil
	s.freeSlots = append(s.freeSlots, c.slot)
	s.live--
}

// feed handles received bytes, in place unless part of a frame waits already.
func (s *server) feed(c *conn, data []byte) {
	if c.dead || c.last {
		return
	}
	if c.stalled || len(c.in) > 0 {
		c.in = append(c.in, data...)
		if !c.stalled {
			s.consume(c)
		}
		return
	}
	n := s.parse(c, data)
	if n < len(data) && !c.dead {
		c.in = append(c.in, data[n:]...)
	}
}

// consume handles what waits in c.in.
func (s *server) consume(c *conn) {
	n := s.parse(c, c.in)
	if c.dead {
		return
	}
	c.in = c.in[:copy(c.in, c.in[n:])]
	if len(c.in) == 0 && cap(c.in) > s.o.InputBytesMax {
		c.in = nil
	}
}

// parse handles whole frames and returns how many bytes it took.
func (s *server) parse(c *conn, src []byte) int {
	at := 0
	for at < len(src) && !c.dead && !c.last {
		if c.skip > 0 {
			n := min(c.skip, len(src)-at)
			c.skip -= n
			at += n
			continue
		}
		if c.reply == nil && len(c.out)+len(c.sending) > s.o.OutputBytesMax {
			s.stall(c)
			return at
		}
		if n := s.oversized(c, src[at:]); n > 0 {
			at += n
			continue
		}
		f, n, err := frame.Parse(src[at:])
		if err != nil {
			s.counts.framesMalformed++
			s.refuse(c, frame.Frame{}, frame.StatusMalformed)
			c.last = true // the stream cannot be resynchronised
			return len(src)
		}
		if n == 0 {
			return at
		}
		if !s.request(c, f) {
			s.stall(c)
			return at
		}
		at += n
	}
	return at
}

// oversized answers a frame that is too long as soon as its header is there and
// drops its body as it comes. It returns the bytes taken of src.
func (s *server) oversized(c *conn, src []byte) int {
	if len(src) < frame.HeaderLen || src[4] != frame.Version {
		return 0
	}
	total := int(binary.LittleEndian.Uint32(src)) + 4
	if total <= frame.HeaderLen+max(s.o.Log.RecordBytesMax, 4096) || total > frame.HeaderLen+frame.BodyLenMax {
		return 0
	}
	s.counts.framesOversized++
	s.refuse(c, frame.Frame{
		Kind:   frame.Kind(src[5]),
		ID:     binary.LittleEndian.Uint64(src[8:]),
		Tenant: binary.LittleEndian.Uint32(src[16:]),
	}, frame.StatusTooLarge)
	c.skip = total - frame.HeaderLen
	return frame.HeaderLen
}

// stall keeps the connection's input until there is room for it.
func (s *server) stall(c *conn) {
	s.counts.stalls++
	if !c.stalled {
		c.stalled = true
		s.stalled = append(s.stalled, c)
	}
}

// resume goes on with connections that were stalled, in their order.
func (s *server) resume() {
	if s.draining || len(s.stalled) == 0 {
		return
	}
	list := s.stalled
	s.stalled, s.scratch = s.scratch[:0], nil
	for _, c := range list {
		c.stalled = false
		if c.dead {
			continue
		}
		s.consume(c)
		if c.dead {
			continue
		}
		if c.reply != nil {
			c.reply.parsed(s)
		} else if c.eof {
			s.closeIfDone(c)
		} else if len(c.in) < s.o.InputBytesMax {
			s.receive(c)
		}
	}
	clear(list)
	s.scratch = list[:0]
}
