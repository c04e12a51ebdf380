package nullserver

import (
	"errors"
	"unsafe"

	"github.com/nexuscore-labs/nexus/uring"
	"golang.org/x/sys/unix"
)

// datagrams is how many receives are outstanding.
const datagrams = 256

// exchange is one receive and the send that answers it. The message header
// points into it, so it never moves.
type exchange struct {
	msg  unix.Msghdr
	iov  unix.Iovec
	from unix.RawSockaddrAny
	in   [64 << 10]byte
	out  []byte
}

// serveDatagrams answers each datagram with one that holds the answers.
func serveDatagrams(fd int, waker *uring.Waker) error {
	r, err := uring.New(uring.Options{Entries: 2 * datagrams, SingleIssuer: true, RegisterRing: true})
	if err != nil {
		return err
	}
	exchanges := make([]*exchange, datagrams)
	for i := range exchanges {
		exchanges[i] = &exchange{}
		exchanges[i].recv(r, fd, i)
	}
	waker.Arm(r.SQE()).Data(opWake << 56)
	stopped, sends := false, 0
	complete := func(e *uring.CQE) {
		i := int(uint32(e.UserData))
		switch e.UserData >> 56 {
		case opWake:
			stopped = true
		case opRecv:
			if e.Res > 0 && exchanges[i].answer(r, fd, i, int(e.Res)) {
				sends++
				return
			}
			exchanges[i].recv(r, fd, i) // an error here is an ICMP answer to an earlier send
		case opSend:
			exchanges[i].recv(r, fd, i)
		}
	}
	for err == nil && !stopped {
		err = wait(r, sends)
		sends = 0
		r.ForEach(complete)
	}
	return errors.Join(err, r.Close())
}

func (x *exchange) recv(r *uring.Ring, fd, i int) {
	x.iov.Base = &x.in[0]
	x.iov.SetLen(len(x.in))
	x.msg = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&x.from)), Namelen: unix.SizeofSockaddrAny, Iov: &x.iov, Iovlen: 1}
	r.SQE().RecvMsg(fd, &x.msg, 0).Data(opRecv<<56 | uint64(i))
}

// answer sends what the datagram asks for; false: nothing whole was in it.
func (x *exchange) answer(r *uring.Ring, fd, i, n int) bool {
	out, _, _ := answerFrames(x.out[:0], x.in[:n])
	x.out = out
	if len(out) == 0 {
		return false
	}
	x.iov.Base = &x.out[0]
	x.iov.SetLen(len(x.out))
	r.SQE().SendMsg(fd, &x.msg, unix.MSG_NOSIGNAL).Data(opSend<<56 | uint64(i))
	return true
}
