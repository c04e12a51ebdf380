package nullserver

import (
	"errors"
	"time"

	"github.com/nexuscore-labs/nexus/uring"
	"golang.org/x/sys/unix"
)

const (
	group      = 1
	bufLen     = 16 << 10
	connsMax   = 16384
	pendingMax = 32 << 20 // a client's unparsed bytes
)

// User data: the operation in the top byte, the descriptor's slot below.
const (
	opAccept = iota
	opWake
	opRecv
	opSend
)

type client struct {
	fd      int
	pending []byte    // part of a request
	out     [2][]byte // one is filled while the other is sent
	filling int
	sending bool
	dirty   bool
	recving bool
	closing bool
	offset  int
}

type streams struct {
	ring     *uring.Ring
	bufs     *uring.BufRing
	listener int
	waker    *uring.Waker
	answer   responder
	clients  map[int]*client // by descriptor
	dirty    []*client
	stopped  bool
	err      error
}

// serveStreams accepts and answers until the waker says stop.
func serveStreams(listener int, waker *uring.Waker, answer responder) error {
	r, err := uring.New(uring.Options{Entries: 1024, CQEntries: 8192, SingleIssuer: true, RegisterRing: true})
	if err != nil {
		return err
	}
	s := &streams{ring: r, listener: listener, waker: waker, answer: answer, clients: make(map[int]*client)}
	if s.bufs, err = r.NewBufRing(group, 1024, bufLen); err != nil {
		return errors.Join(err, r.Close())
	}
	r.SQE().AcceptMultishot(listener).Data(opAccept << 56)
	waker.Arm(r.SQE()).Data(opWake << 56)
	complete := s.complete
	sends := 0
	for !s.stopped && s.err == nil {
		if s.err = wait(r, sends); s.err != nil {
			break
		}
		r.ForEach(complete)
		s.bufs.Publish()
		sends = s.flush()
	}
	err = errors.Join(s.err, r.Close())
	for _, c := range s.clients {
		err = errors.Join(err, unix.Close(c.fd))
	}
	return err
}

// wait submits and waits for something beyond the sends, which nearly always
// complete at once. One that doesn't (a full socket, or nothing left to
// receive) holds the others up for a moment only.
func wait(r *uring.Ring, sends int) error {
	limit := time.Duration(0)
	if sends > 0 {
		limit = 200 * time.Microsecond
	}
	_, err := r.SubmitAndWait(1+sends, limit)
	return err
}

func (s *streams) complete(e *uring.CQE) {
	fd := int(uint32(e.UserData))
	switch e.UserData >> 56 {
	case opWake:
		s.stopped = true
	case opAccept:
		s.accepted(e)
	case opRecv:
		s.received(s.clients[fd], e)
	case opSend:
		s.sent(s.clients[fd], e)
	}
}

func (s *streams) accepted(e *uring.CQE) {
	if err := uring.Err(e); err != nil {
		s.err = err
		return
	}
	if e.Flags&uring.CQEMore == 0 {
		s.ring.SQE().AcceptMultishot(s.listener).Data(opAccept << 56)
	}
	fd := int(e.Res)
	if len(s.clients) >= connsMax {
		_ = unix.Close(fd)
		return
	}
	// Fails on a unix socket, where nothing is delayed anyway.
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	c := &client{fd: fd}
	s.clients[fd] = c
	s.recv(c)
}

func (s *streams) recv(c *client) {
	c.recving = true
	s.ring.SQE().RecvMultishot(c.fd, group).PollFirst().Data(opRecv<<56 | uint64(c.fd))
}

func (s *streams) received(c *client, e *uring.CQE) {
	if e.Flags&uring.CQEBuffer != 0 {
		id := uring.BufferID(e)
		if !c.closing {
			s.serve(c, s.bufs.Bytes(id, int(e.Res)))
		}
		s.bufs.Recycle(id)
	}
	if e.Flags&uring.CQEMore != 0 {
		return
	}
	c.recving = false
	if !c.closing && (e.Res > 0 || uring.Err(e) == unix.ENOBUFS) {
		s.bufs.Publish()
		s.recv(c)
		return
	}
	c.closing = true
	s.reap(c)
}

func (s *streams) serve(c *client, data []byte) {
	if len(c.pending) > 0 {
		c.pending = append(c.pending, data...)
		data = c.pending
	}
	out, taken, err := s.answer(c.out[c.filling], data)
	c.out[c.filling] = out
	c.pending = append(c.pending[:0], data[taken:]...)
	if err != nil || len(c.pending) > pendingMax {
		c.closing = true
		_ = unix.Shutdown(c.fd, unix.SHUT_RDWR)
		return
	}
	if len(out) > 0 && !c.dirty {
		c.dirty = true
		s.dirty = append(s.dirty, c)
	}
}

// flush sends what the turn's answers are and returns how many sends that is.
func (s *streams) flush() int {
	n := 0
	for _, c := range s.dirty {
		c.dirty = false
		if !c.closing && !c.sending && len(c.out[c.filling]) > 0 {
			c.filling ^= 1
			c.offset = 0
			s.send(c)
			n++
		}
	}
	s.dirty = s.dirty[:0]
	return n
}

func (s *streams) send(c *client) {
	c.sending = true
	s.ring.SQE().Send(c.fd, c.out[c.filling^1][c.offset:], unix.MSG_NOSIGNAL).Data(opSend<<56 | uint64(c.fd))
}

func (s *streams) sent(c *client, e *uring.CQE) {
	c.sending = false
	side := c.filling ^ 1
	if e.Res > 0 {
		c.offset += int(e.Res)
	}
	switch {
	case e.Res < 0 || c.closing:
		c.closing = true
		_ = unix.Shutdown(c.fd, unix.SHUT_RDWR) // ends the receive
		s.reap(c)
	case c.offset < len(c.out[side]):
		s.send(c)
	default:
		c.out[side] = c.out[side][:0]
		if len(c.out[c.filling]) > 0 && !c.dirty {
			c.dirty = true
			s.dirty = append(s.dirty, c)
		}
	}
}

// reap closes a client that no operation holds any more.
func (s *streams) reap(c *client) {
	if c.recving || c.sending || s.clients[c.fd] != c {
		return
	}
	delete(s.clients, c.fd)
	_ = unix.Close(c.fd)
}
