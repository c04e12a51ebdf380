package udpcache

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// message is struct mmsghdr (recvmmsg(2)).
type message struct {
	header unix.Msghdr
	length uint32
	_      [4]byte
}

// batch is a set of datagrams that one system call receives or sends. It is made
// once: a datagram allocates nothing, and an answer goes back to the bytes of
// the address that it came from.
type batch struct {
	conn     syscall.RawConn
	in, out  []message
	names    []unix.RawSockaddrAny
	vectors  []unix.Iovec // in, then out
	received [][]byte
	answers  [][]byte
	from     []int // answer i goes to the sender of datagram from[i]
}

func newBatch(conn *net.UDPConn, size, receiveLen int) (*batch, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("get at the UDP socket: %w", err)
	}
	b := &batch{
		conn: raw, in: make([]message, size), out: make([]message, size),
		names: make([]unix.RawSockaddrAny, size), vectors: make([]unix.Iovec, 2*size),
		received: make([][]byte, size), answers: make([][]byte, size), from: make([]int, 0, size),
	}
	for i := range size {
		b.received[i] = make([]byte, receiveLen)
		b.answers[i] = make([]byte, 0, answerLenMax)
		b.vectors[i].Base = &b.received[i][0]
		b.vectors[i].SetLen(receiveLen)
		b.in[i].header.Name = (*byte)(unsafe.Pointer(&b.names[i]))
		b.in[i].header.Iov = &b.vectors[i]
		b.in[i].header.SetIovlen(1)
		b.out[i].header.Iov = &b.vectors[size+i]
		b.out[i].header.SetIovlen(1)
	}
	return b, nil
}

// receive waits for datagrams and returns how many there are.
func (b *batch) receive() (n int, err error) {
	b.from = b.from[:0]
	for i := range b.in {
		b.in[i].header.Namelen = unix.SizeofSockaddrAny
	}
	wait := b.conn.Read(func(fd uintptr) bool {
		n, err = mmsg(unix.SYS_RECVMMSG, fd, b.in)
		return !errors.Is(err, unix.EAGAIN)
	})
	return n, errors.Join(wait, err)
}

// datagram returns a received datagram; whole is false if it was longer than the
// room for it.
func (b *batch) datagram(i int) (data []byte, whole bool) {
	return b.received[i][:b.in[i].length], b.in[i].header.Flags&unix.MSG_TRUNC == 0
}

// answer notes an answer to datagram i; made is b.room() with something appended.
func (b *batch) answer(i int, made []byte) {
	b.answers[len(b.from)] = made
	b.from = append(b.from, i)
}

// room is where the next answer is made.
func (b *batch) room() []byte { return b.answers[len(b.from)][:0] }

// address copies the sender of datagram i.
func (b *batch) address(i int) address {
	return address{b.names[i], b.in[i].header.Namelen}
}

type address struct {
	name unix.RawSockaddrAny
	len  uint32
}

// send sends the answers and returns how many the kernel took and how many it
// refused.
func (b *batch) send() (sent, refused int) {
	size := len(b.in)
	for n, i := range b.from {
		h := &b.out[n].header
		h.Name, h.Namelen = b.in[i].header.Name, b.in[i].header.Namelen
		b.vectors[size+n].Base = &b.answers[n][0]
		b.vectors[size+n].SetLen(len(b.answers[n]))
	}
	for left := b.out[:len(b.from)]; len(left) > 0; {
		var n int
		var err error
		wait := b.conn.Write(func(fd uintptr) bool {
			n, err = mmsg(unix.SYS_SENDMMSG, fd, left)
			return !errors.Is(err, unix.EAGAIN)
		})
		switch {
		case wait != nil:
			return sent, refused + len(left)
		case err != nil: // of the first one left
			refused++
			left = left[1:]
		default:
			sent += n
			left = left[n:]
		}
	}
	return sent, refused
}

func mmsg(call, fd uintptr, messages []message) (int, error) {
	for {
		n, _, errno := unix.Syscall6(call, fd, uintptr(unsafe.Pointer(&messages[0])), uintptr(len(messages)), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// sendTo sends one datagram.
func sendTo(fd uintptr, data []byte, to *address) error {
	vector := unix.Iovec{Base: &data[0]}
	vector.SetLen(len(data))
	one := [1]message{}
	one[0].header.Name, one[0].header.Namelen = (*byte)(unsafe.Pointer(&to.name)), to.len
	one[0].header.Iov = &vector
	one[0].header.SetIovlen(1)
	_, err := mmsg(unix.SYS_SENDMMSG, fd, one[:])
	return err
}
