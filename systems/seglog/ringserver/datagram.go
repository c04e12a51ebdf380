package ringserver

import (
	"fmt"
	"net"
	"os"
	"unsafe"

	"github.com/nexuscore-labs/nexus/frame"
	"golang.org/x/sys/unix"
)

// datagramSlots bounds the datagrams that are being handled at once; more wait
// in the socket's buffer, and the kernel drops what doesn't fit there.
const (
	datagramSlots = 512
	datagramBytes = 64 << 10
)

// datagrams is a UDP socket. Each slot receives one datagram of whole frames,
// waits until all of them are answered, and sends the answers as one datagram.
type datagrams struct {
	fd    int
	slots []*datagram
}

type datagram struct {
	conn
	slotID  int
	reading bool
	buf     []byte
	from    unix.RawSockaddrAny
	iov     unix.Iovec
	msg     unix.Msghdr
}

func listenDatagram(address string) (*listener, error) {
	p, err := net.ListenPacket("udp", address)
	if err != nil {
		return nil, fmt.Errorf("ringserver: listen on udp %s: %w", address, err)
	}
	file, err := p.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		_ = p.Close()
		return nil, fmt.Errorf("ringserver: %w", err)
	}
	d := &datagrams{fd: int(file.Fd())}
	// More room for bursts; the kernel caps it at net.core.rmem_max.
	_ = unix.SetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20)
	return &listener{address: p.LocalAddr().String(), file: file, closer: p, datagrams: d}, nil
}

func (d *datagrams) arm(s *server) {
	for i := range datagramSlots {
		g := &datagram{slotID: i, buf: make([]byte, datagramBytes)}
		g.conn = conn{fd: d.fd, reply: g}
		d.slots = append(d.slots, g)
		g.receive(s)
	}
}

// idle says that no answer is owed or on its way.
func (d *datagrams) idle() bool {
	for _, g := range d.slots {
		if g.waiting > 0 || len(g.out) > 0 || len(g.sending) > 0 {
			return false
		}
	}
	return true
}

func (g *datagram) prepare(p []byte) {
	g.iov.Base = &p[0]
	g.iov.SetLen(len(p))
	g.msg = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&g.from)), Iov: &g.iov, Iovlen: 1}
}

func (g *datagram) receive(s *server) {
	if s.draining {
		return
	}
	g.prepare(g.buf)
	g.msg.Namelen = unix.SizeofSockaddrAny
	g.last, g.skip, g.in, g.reading = false, 0, nil, true
	s.sqe().RecvMsg(g.fd, &g.msg, 0).Data(tag(opDatagram, g.slotID))
}

// send sends the answers when the last of the datagram's frames is answered.
func (g *datagram) send(s *server, c *conn) {
	if c.waiting > 0 {
		return
	}
	c.sending, c.out = c.out, c.sending[:0]
	namelen := g.msg.Namelen
	g.prepare(c.sending)
	g.msg.Namelen = namelen
	s.counts.sends++
	s.sqe().SendMsg(g.fd, &g.msg, 0).Data(tag(opDatagram, g.slotID))
}

func (d *datagrams) complete(s *server, slot int, res int32) {
	g := d.slots[slot]
	if !g.reading { // the answers are sent
		if res < 0 {
			s.counts.connectionErrors++
		} else {
			s.counts.sentBytes += uint64(res)
		}
		g.sending = g.sending[:0]
		g.receive(s)
		return
	}
	g.reading = false
	if res < 0 {
		if res != -int32(unix.ECANCELED) {
			s.counts.connectionErrors++ // such as an ICMP answer to an earlier send
			g.receive(s)
		}
		return
	}
	s.counts.receivedBytes += uint64(res)
	g.in = g.buf[:res]
	s.consume(&g.conn)
	g.parsed(s)
}

// parsed looks at what is left of a datagram: it waits for room in the log, is
// damaged, or the slot waits for the answers.
func (g *datagram) parsed(s *server) {
	if g.stalled {
		return
	}
	if !g.last && (len(g.in) > 0 || g.skip > 0) {
		s.counts.framesTruncated++
		s.refuse(&g.conn, frame.Frame{}, frame.StatusMalformed)
	}
	if g.waiting == 0 && len(g.out) == 0 {
		g.receive(s)
	}
}
