package nullserver

import (
	"errors"

	"github.com/nexuscore-labs/nexus/frame"
	"github.com/nexuscore-labs/nexus/uring"
	"golang.org/x/sys/unix"
)

const (
	bunches          = 256      // received and not yet answered, at most
	bunchLenMax      = 64 << 10 // what UDP_GRO joins, in bytes
	receiveBufferLen = 64 << 20 // unread bytes of all clients
	mtu              = 1500     // longer answers leave alone: the way back is unknown
	segmentLenMax    = mtu - 48
)

// answers are what one bunch asked for. Its memory is the kernel's until every
// send completed.
type answers struct {
	out     []byte
	ends    []int // of each datagram
	runs    []*uring.Message
	sending int
}

// datagramServer answers each datagram with one that holds the answers.
// Those that arrive together (UDP_GRO) leave together (UDP_SEGMENT).
type datagramServer struct {
	ring    *uring.Ring
	fd      int
	header  *uring.RecvHeader
	bufs    *uring.BufRing
	answers []answers // by the number of the receive buffer
	rearm   bool
	stopped bool
	sends   int // of this turn
	err     error
}

func serveDatagrams(fd int, waker *uring.Waker) error {
	r, err := uring.New(uring.Options{Entries: 4 * bunches, SingleIssuer: true, RegisterRing: true})
	if err != nil {
		return err
	}
	// What is dropped here would be counted against the generator. Without the
	// right to exceed the system's bound, it is the limit.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBufferLen) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBufferLen)
	}
	// Fails before kernel 5.0: then each datagram is a bunch.
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1)
	s := &datagramServer{ring: r, fd: fd, header: uring.NewRecvHeader(true), answers: make([]answers, bunches), rearm: true}
	if s.bufs, err = r.NewBufRing(group, bunches, bunchLenMax+s.header.Overhead()); err != nil {
		return errors.Join(err, r.Close())
	}
	waker.Arm(r.SQE()).Data(opWake << 56)
	complete := s.complete
	for s.err == nil && !s.stopped {
		if s.rearm {
			s.rearm = false
			r.SQE().RecvMsgMultishot(fd, s.header, group).PollFirst().Data(opRecv << 56)
		}
		s.err = wait(r, s.sends)
		s.sends = 0
		r.ForEach(complete)
		s.bufs.Publish()
	}
	return errors.Join(s.err, r.Close())
}

func (s *datagramServer) complete(e *uring.CQE) {
	switch e.UserData >> 56 {
	case opWake:
		s.stopped = true
	case opRecv:
		s.rearm = s.rearm || e.Flags&uring.CQEMore == 0 // an error here is an ICMP answer to an earlier send
		if e.Flags&uring.CQEBuffer != 0 {
			s.received(uring.BufferID(e), int(e.Res))
		}
	case opSend:
		id := uint16(e.UserData)
		if s.answers[id].sending--; s.answers[id].sending == 0 {
			s.bufs.Recycle(id)
		}
	}
}

// received answers a bunch, whose buffer stays taken until that is sent: so the
// buffers bound what is in flight.
func (s *datagramServer) received(id uint16, n int) {
	a := &s.answers[id]
	a.out, a.ends = a.out[:0], a.ends[:0]
	bunch, ok := s.header.Parse(s.bufs.Bytes(id, n))
	for ok {
		var datagram []byte
		if datagram, ok = bunch.Next(); ok {
			a.add(datagram)
		}
	}
	if len(a.ends) == 0 {
		s.bufs.Recycle(id)
		return
	}
	start, ends := 0, a.ends
	for run := 0; len(ends) > 0; run++ {
		if run == len(a.runs) {
			a.runs = append(a.runs, &uring.Message{})
		}
		count, segmentLen := uring.Run(ends, start, segmentLenMax)
		m := a.runs[run]
		m.To(bunch.Name)
		s.ring.SQE().SendRun(s.fd, m, a.out[start:ends[count-1]], segmentLen).Data(opSend<<56 | uint64(id))
		start, ends = ends[count-1], ends[count:]
		a.sending++
		s.sends++
	}
}

// add answers one datagram, if anything whole was in it. The answers must fit
// a datagram too.
func (a *answers) add(datagram []byte) {
	start := len(a.out)
	a.out, _, _ = answerFrames(a.out, datagram)
	if length := len(a.out) - start; length > 0 && length <= bunchLenMax-frame.HeaderLen {
		a.ends = append(a.ends, len(a.out))
		return
	}
	a.out = a.out[:start]
}
