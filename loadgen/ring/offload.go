package ring

import (
	"github.com/nexuscore-labs/nexus/uring"
	"golang.org/x/sys/unix"
)

const (
	// bunchLenMax is the most that UDP_GRO joins, in bytes.
	bunchLenMax = 64 << 10
	// receiveBufferLen lets a socket hold all answers that a pipeline can have
	// out: what is dropped there is the generator's fault. The kernel counts some
	// 800 bytes for a small datagram.
	receiveBufferLen = 4 << 20
	headersLen4      = 20 + 8 // IPv4 and UDP
	headersLen6      = 40 + 8
)

// growReceiveBuffer raises a socket's limit of unread bytes, beyond the
// system's bound where the process may.
func growReceiveBuffer(fd int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBufferLen) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBufferLen)
	}
}

// offloads tries whether sockets of the target's kind take both options.
func offloads(target Address) bool {
	fd, err := target.socket()
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT, 0) == nil &&
		unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1) == nil
}

// offload makes a connected socket take bunches and returns the longest
// datagram that it can send in a run, which must fit the path's packets; 0
// where runs can't be sent.
func offload(fd int, target Address) int {
	if unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1) != nil {
		return 0
	}
	level, option, headersLen := unix.IPPROTO_IP, unix.IP_MTU, headersLen4
	if target.sockaddr.Family() == unix.AF_INET6 {
		level, option, headersLen = unix.IPPROTO_IPV6, unix.IPV6_MTU, headersLen6
	}
	mtu, err := unix.GetsockoptInt(fd, level, option)
	if err != nil {
		return 0
	}
	return max(mtu-headersLen, 0)
}

// sendRun prepares bytes start to end of the side in flight, to leave as
// datagrams of segmentLen bytes.
func (k *socket) sendRun(run, start, end, segmentLen int) {
	s := k.set
	for len(k.runs) <= run {
		k.runs = append(k.runs, &uring.Message{})
	}
	bytes := k.side[k.filling^1][start:end]
	s.sqe().SendRun(k.id, k.runs[run], bytes, segmentLen).With(uring.FixedFile).Data(pack(opSend, k.generation, k.id))
	k.sending++
	k.pending++
	if len(bytes) <= inlineLenMax {
		s.prepared++
	}
}

// bunch hands on each datagram of a receive.
func (k *socket) bunch(data []byte) {
	s := k.set
	b, ok := s.recvHead.Parse(data)
	if !ok {
		return
	}
	if b.Truncated {
		s.cut++
	}
	generation := k.generation
	for {
		datagram, ok := b.Next()
		if !ok || k.state != open || k.generation != generation {
			return // the handler may have dropped the connection
		}
		s.handler.Received(k.id, datagram)
	}
}

// Cut returns how many receives lost datagrams because a buffer was too short
// for what arrived.
func (s *Set) Cut() int { return s.cut }
