package scriptserver

import (
	"container/heap"
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"github.com/nexuscore-labs/nexus/uring"
	"golang.org/x/sys/unix"
)

const (
	readLen   = 64 << 10
	connsMax  = 4096
	inLenMax  = 1 << 20 // a client's unparsed bytes
	eventsMax = 128
)

// conn is one client: a stream, or all datagrams.
type conn struct {
	fd        int
	in        []byte
	out       []byte
	wrote     int       // of out
	answering []pending // whose answers are in out
	lastDueNs int64     // ordered protocols: of the request before
	dead      bool
}

// pending is an answer that waits for its time.
type pending struct {
	dueNs     int64
	turn      uint64 // keeps the order of answers that are due together
	request   request
	arrivedNs int64
	conn      *conn
	peer      peer // datagrams
}

type peer struct {
	address unix.RawSockaddrInet6 // the longest that is used
	len     uint32
}

// loop is the server's thread: it reads what arrived, answers what is due.
type loop struct {
	cfg      Config
	proto    protocol
	listener int
	epoll    int
	wakeFd   int
	conns    map[int]*conn
	pending  queue
	blocked  []*conn // with bytes that their socket didn't take
	buf      []byte
	events   []unix.EpollEvent
	turn     uint64
	record   Record
}

func newLoop(cfg Config, proto protocol, listener, wakeFd int) *loop {
	l := &loop{cfg: cfg, proto: proto, listener: listener, epoll: -1, wakeFd: wakeFd, conns: map[int]*conn{},
		buf: make([]byte, readLen), events: make([]unix.EpollEvent, eventsMax)}
	l.record.Entries = make([]Entry, cfg.LogMax)
	clear(l.record.Entries) // touched now, not while serving
	l.record.Entries = l.record.Entries[:0]
	return l
}

func (l *loop) open() error {
	var err error
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("script server: epoll: %w", err)
	}
	if err := l.watch(l.wakeFd); err != nil {
		return err
	}
	if l.cfg.Network == "udp" {
		l.conns[l.listener] = &conn{fd: l.listener}
	}
	return l.watch(l.listener)
}

func (l *loop) watch(fd int) error {
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		return fmt.Errorf("script server: watch a socket: %w", err)
	}
	return nil
}

func (l *loop) close() error {
	err := unix.Close(l.epoll)
	for fd := range l.conns {
		if fd != l.listener {
			err = errors.Join(err, unix.Close(fd))
		}
	}
	return err
}

func (l *loop) run() error {
	for {
		n, err := l.wait(l.sleepNs(uring.Now()))
		if err != nil {
			return fmt.Errorf("script server: wait: %w", err)
		}
		for _, e := range l.events[:n] {
			stop, err := l.ready(int(e.Fd))
			if stop || err != nil {
				return err
			}
		}
		l.answer(uring.Now())
	}
}

// wait is epoll_pwait2(2), which knows shorter times than a millisecond.
func (l *loop) wait(ns int64) (int, error) {
	var limit *unix.Timespec
	if ns >= 0 {
		ts := unix.NsecToTimespec(ns)
		limit = &ts
	}
	n, _, errno := syscall.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(l.epoll), uintptr(unsafe.Pointer(&l.events[0])), uintptr(len(l.events)),
		uintptr(unsafe.Pointer(limit)), 0, 0)
	if errno == unix.EINTR {
		return 0, nil
	}
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func (l *loop) ready(fd int) (stop bool, err error) {
	switch {
	case fd == l.wakeFd:
		return true, nil
	case l.cfg.Network == "udp":
		return false, l.receive(l.conns[fd])
	case fd == l.listener:
		return false, l.accept()
	}
	return false, l.read(l.conns[fd])
}

func (l *loop) accept() error {
	fd, _, err := unix.Accept4(l.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if err == unix.EAGAIN || err == unix.ECONNABORTED {
		return nil
	}
	if err != nil {
		return fmt.Errorf("script server: accept: %w", err)
	}
	if len(l.conns) >= connsMax {
		return unix.Close(fd)
	}
	// Fails on a unix socket, where nothing is delayed anyway.
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	l.conns[fd] = &conn{fd: fd}
	return l.watch(fd)
}

func (l *loop) read(c *conn) error {
	if c == nil {
		return nil
	}
	n, err := unix.Read(c.fd, l.buf)
	if err == unix.EAGAIN || err == unix.EINTR {
		return nil
	}
	if err != nil || n == 0 || len(c.in)+n > inLenMax {
		return l.drop(c)
	}
	nowNs := uring.Now()
	c.in = append(c.in, l.buf[:n]...)
	taken := 0
	for {
		r, k, err := l.proto.parse(c.in[taken:])
		if err != nil {
			return l.drop(c)
		}
		if k == 0 {
			break
		}
		taken += k
		l.arrived(c, r, nowNs, peer{})
	}
	c.in = append(c.in[:0], c.in[taken:]...)
	return nil
}

func (l *loop) drop(c *conn) error {
	c.dead = true
	delete(l.conns, c.fd)
	return unix.Close(c.fd)
}

// receive reads one datagram. The system call is used directly: x/sys makes a
// new address for each.
func (l *loop) receive(c *conn) error {
	from := peer{len: uint32(unsafe.Sizeof(unix.RawSockaddrInet6{}))}
	n, _, errno := syscall.Syscall6(unix.SYS_RECVFROM, uintptr(c.fd), uintptr(unsafe.Pointer(&l.buf[0])), uintptr(len(l.buf)), unix.MSG_DONTWAIT,
		uintptr(unsafe.Pointer(&from.address)), uintptr(unsafe.Pointer(&from.len)))
	if errno != 0 {
		return nil // nothing there, or an ICMP answer to an earlier send
	}
	nowNs := uring.Now()
	for taken := 0; taken < int(n); {
		r, k, err := l.proto.parse(l.buf[taken:n])
		if err != nil || k == 0 {
			return nil
		}
		taken += k
		l.arrived(c, r, nowNs, from)
	}
	return nil
}

// arrived plans the answer. A stall that begins holds up what was
// planned before too; Held sees to that when the answer's time comes.
func (l *loop) arrived(c *conn, r request, nowNs int64, from peer) {
	s := l.cfg.Script
	if s.Stall > 0 && r.id == s.StallFrom && l.record.StallNs == 0 {
		l.record.StallNs = nowNs
	}
	dueNs := nowNs + int64(s.Delay(r.id))
	if l.proto.ordered {
		dueNs = max(dueNs, c.lastDueNs)
		c.lastDueNs = dueNs
	}
	l.turn++
	heap.Push(&l.pending, pending{dueNs: dueNs, turn: l.turn, request: r, arrivedNs: nowNs, conn: c, peer: from})
}

// answer sends what is due.
func (l *loop) answer(nowNs int64) {
	for len(l.blocked) > 0 {
		c := l.blocked[len(l.blocked)-1]
		if !l.write(c) {
			break
		}
		l.blocked = l.blocked[:len(l.blocked)-1]
	}
	var filled []*conn
	for len(l.pending) > 0 && l.cfg.Script.Held(l.pending[0].dueNs, l.record.StallNs) <= nowNs {
		p := heap.Pop(&l.pending).(pending)
		c := p.conn
		if c.dead {
			continue
		}
		if l.cfg.Network == "udp" {
			l.sendTo(c, p)
			continue
		}
		if len(c.answering) == 0 {
			filled = append(filled, c)
		}
		c.out = l.proto.answer(c.out, p.request)
		c.answering = append(c.answering, p)
	}
	for _, c := range filled {
		if !l.write(c) {
			l.blocked = append(l.blocked, c)
		}
	}
}

// write sends a stream's bytes; false: the socket is full.
func (l *loop) write(c *conn) bool {
	for !c.dead && c.wrote < len(c.out) {
		n, err := unix.Write(c.fd, c.out[c.wrote:])
		if err == unix.EAGAIN {
			return false
		}
		if err != nil && err != unix.EINTR {
			break // the reader sees the end too
		}
		c.wrote += max(n, 0)
	}
	nowNs := uring.Now()
	for _, p := range c.answering {
		l.log(p, nowNs)
	}
	c.out, c.answering, c.wrote = c.out[:0], c.answering[:0], 0
	return true
}

func (l *loop) sendTo(c *conn, p pending) {
	c.out = l.proto.answer(c.out[:0], p.request)
	// A full socket loses the datagram, as networks do; the client counts it.
	_, _, _ = syscall.Syscall6(unix.SYS_SENDTO, uintptr(c.fd), uintptr(unsafe.Pointer(&c.out[0])), uintptr(len(c.out)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL,
		uintptr(unsafe.Pointer(&p.peer.address)), uintptr(p.peer.len))
	l.log(p, uring.Now())
}

func (l *loop) log(p pending, nowNs int64) {
	if len(l.record.Entries) == cap(l.record.Entries) {
		l.record.Lost++
		return
	}
	l.record.Entries = append(l.record.Entries, Entry{p.request.id, p.arrivedNs, l.cfg.Script.Held(p.dueNs, l.record.StallNs), nowNs})
}

// queue is a heap by due time. Holding in a stall keeps its order.
type queue []pending

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].dueNs < q[j].dueNs || q[i].dueNs == q[j].dueNs && q[i].turn < q[j].turn
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(pending)) }
func (q *queue) Pop() any {
	old := *q
	last := old[len(old)-1]
	*q = old[:len(old)-1]
	return last
}
