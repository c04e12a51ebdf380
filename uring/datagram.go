package uring

import (
	"encoding/binary"
	"unsafe"

	"github.com/pawelgaczynski/giouring"
	"golang.org/x/sys/unix"
)

// Bounds of one UDP_SEGMENT send, see udp(7): the kernel's count is 64 (128
// since 6.9), and the whole must fit an IP packet of either version.
const (
	segmentsMax  = 64
	segmentedMax = 65535 - 48
)

// recvmsgOutLen is struct io_uring_recvmsg_out, in front of what a multishot
// recvmsg puts into a provided buffer.
const recvmsgOutLen = 16

// Message is one datagram, or a run of them, to be sent to an address. It
// stays where it is until the send completed.
type Message struct {
	header  unix.Msghdr
	vector  unix.Iovec
	control struct {
		header  unix.Cmsghdr
		segment uint16
		_       [6]byte
	}
	to    unix.RawSockaddrAny
	toLen uint32
}

// To sets the address of an unconnected socket's sends, in the kernel's form.
func (m *Message) To(name []byte) {
	m.toLen = uint32(copy(unsafe.Slice((*byte)(unsafe.Pointer(&m.to)), unsafe.Sizeof(m.to)), name))
}

// prepare points the header at p, to be cut into datagrams of segmentLen bytes
// (0: one datagram).
func (m *Message) prepare(p []byte, segmentLen int) *unix.Msghdr {
	m.vector.Base = unsafe.SliceData(p)
	m.vector.SetLen(len(p))
	m.header = unix.Msghdr{Iov: &m.vector, Iovlen: 1}
	if m.toLen > 0 {
		m.header.Name, m.header.Namelen = (*byte)(unsafe.Pointer(&m.to)), m.toLen
	}
	if segmentLen > 0 {
		c := &m.control
		c.header.Level, c.header.Type = unix.SOL_UDP, unix.UDP_SEGMENT
		c.header.SetLen(unix.CmsgLen(2))
		c.segment = uint16(segmentLen)
		m.header.Control = (*byte)(unsafe.Pointer(c))
		m.header.SetControllen(int(unsafe.Sizeof(*c)))
	}
	return &m.header
}

// SendRun sends p as datagrams of segmentLen bytes, the last of which may be
// shorter, in one pass through the network stack (UDP_SEGMENT, kernel 4.18).
// With 0 it is one datagram. m and p stay until completion.
func (s *SQE) SendRun(fd int, m *Message, p []byte, segmentLen int) *SQE {
	return s.SendMsg(fd, m.prepare(p, segmentLen), unix.MSG_NOSIGNAL)
}

// Run returns how many datagrams, of which the first begins at start and each
// ends at its entry of ends, one send can carry, and their segment length: 0
// for a single one. Longer ones than segmentLenMax, which don't fit a packet of
// the interface, go alone.
func Run(ends []int, start, segmentLenMax int) (count, segmentLen int) {
	first := ends[0] - start
	if first > segmentLenMax || first == 0 {
		return 1, 0
	}
	count = 1
	for count < min(len(ends), segmentsMax) && ends[count]-start <= segmentedMax {
		n := ends[count] - ends[count-1]
		if n > first || n == 0 {
			break
		}
		count++
		if n < first {
			break
		}
	}
	if count == 1 {
		return 1, 0
	}
	return count, first
}

// RecvHeader is the layout of what RecvMsgMultishot receives. It must stay
// until the request ended.
type RecvHeader struct {
	header unix.Msghdr
}

// controlLen holds one UDP_GRO message.
var controlLen = unix.CmsgSpace(4)

// NewRecvHeader makes room for the sender's address, if wanted, and for the
// length of a bunch's datagrams.
func NewRecvHeader(wantsName bool) *RecvHeader {
	h := &RecvHeader{}
	h.header.SetControllen(controlLen)
	if wantsName {
		h.header.Namelen = unix.SizeofSockaddrAny
	}
	return h
}

// Overhead is the part of a provided buffer that isn't payload, in bytes.
func (h *RecvHeader) Overhead() int {
	return recvmsgOutLen + int(h.header.Namelen) + controlLen
}

// RecvMsgMultishot receives datagrams, each with a header as h describes, into
// buffers of the group (kernel 6.0): see RecvMultishot and RecvHeader.Parse.
func (s *SQE) RecvMsgMultishot(fd int, h *RecvHeader, group uint16) *SQE {
	s.RecvMsg(fd, &h.header, 0)
	s.BufIG = group
	s.IoPrio |= giouring.RecvMultishot
	return s.With(BufferSelect)
}

// Bunch is what one receive gave: a datagram, or with UDP_GRO several of one
// sender.
type Bunch struct {
	Name       []byte // the sender's address
	Payload    []byte
	SegmentLen int  // of each datagram but the last, in bytes; 0: one datagram
	Truncated  bool // the buffer was too short: Payload is its beginning
}

// Parse reads a buffer that RecvMsgMultishot filled; false: it is none.
func (h *RecvHeader) Parse(p []byte) (Bunch, bool) {
	if len(p) < h.Overhead() {
		return Bunch{}, false
	}
	nameLen := min(binary.NativeEndian.Uint32(p), h.header.Namelen)
	controlUsed := min(int(binary.NativeEndian.Uint32(p[4:])), controlLen)
	flags := binary.NativeEndian.Uint32(p[12:])
	b := Bunch{Name: p[recvmsgOutLen:][:nameLen], Payload: p[h.Overhead():], Truncated: flags&unix.MSG_TRUNC != 0}
	control := p[recvmsgOutLen+int(h.header.Namelen):][:controlUsed]
	if len(control) >= unix.CmsgLen(4) {
		c := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
		if c.Level == unix.SOL_UDP && c.Type == unix.UDP_GRO {
			b.SegmentLen = int(int32(binary.NativeEndian.Uint32(control[unix.CmsgLen(0):])))
		}
	}
	return b, true
}

// Next takes the first datagram off the bunch; false: none is left. The part
// of one that a short buffer left is dropped, like all behind it.
func (b *Bunch) Next() ([]byte, bool) {
	n := len(b.Payload)
	if n == 0 {
		return nil, false
	}
	if b.SegmentLen > 0 {
		n = min(n, b.SegmentLen)
	}
	if b.Truncated && n == len(b.Payload) {
		// A cut may fall between two datagrams; the kernel doesn't say where.
		if n < b.SegmentLen || b.SegmentLen == 0 {
			return nil, false
		}
	}
	p := b.Payload[:n:n]
	b.Payload = b.Payload[n:]
	return p, true
}
