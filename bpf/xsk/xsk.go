// Package xsk opens AF_XDP sockets: packets that an XDP program redirects arrive
// in memory that the kernel and this process share, and leave from there, without
// a system call for each and without the network stack.
//
// The protocol is that of the kernel's Documentation/networking/af_xdp.rst: four
// rings of one producer and one consumer, and frames of equal length that they
// pass around. A Socket is used by one goroutine at a time.
package xsk

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// FrameLen is the room for a packet and what precedes it, in bytes: a page,
	// the most that the kernel takes.
	FrameLen = 4096
	// PacketLenMax is the longest packet that may be sent, in bytes.
	PacketLenMax = FrameLen
)

// Options of a socket.
type Options struct {
	Ifindex int // of an interface in the calling thread's network namespace
	Queue   int // receive queue of that interface
	Frames  int // each way; a power of two, 64 to 65536
}

// Packet is one packet that arrived. It is the socket's until Release.
type Packet struct {
	Data    []byte
	address uint64
	at      uint64 // of Data in the shared memory
}

// Meta returns the n bytes in front of a packet, which a program put there.
func (s *Socket) Meta(p Packet, n int) []byte {
	start := p.at - uint64(n)
	if uint64(n) > p.at-p.address {
		return nil
	}
	return s.memory[start:p.at:p.at]
}

// Socket is a bound AF_XDP socket.
type Socket struct {
	fd       int
	memory   []byte
	mappings [][]byte
	frames   int
	zeroCopy bool

	rx, tx           descriptorRing
	fill, completion addressRing
	free             []uint64 // frames to send with
	unsent           bool     // the kernel has not been told of packets to send
}

// Open makes a socket and binds it to one queue of an interface. It needs
// CAP_NET_RAW, and memory that may be locked.
func Open(o Options) (*Socket, error) {
	if o.Frames < 64 || o.Frames > 65536 || o.Frames&(o.Frames-1) != 0 {
		return nil, fmt.Errorf("xsk: %d frames: want a power of two from 64 to 65536", o.Frames)
	}
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("xsk: open a socket: %w", err)
	}
	s := &Socket{fd: fd, frames: o.Frames}
	if err := s.prepare(o); err != nil {
		return nil, errors.Join(fmt.Errorf("xsk: %w", err), s.Close())
	}
	return s, nil
}

func (s *Socket) prepare(o Options) error {
	var err error
	s.memory, err = unix.Mmap(-1, 0, 2*o.Frames*FrameLen, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		return fmt.Errorf("map memory for %d frames: %w", 2*o.Frames, err)
	}
	register := unix.XDPUmemReg{Addr: uint64(uintptr(unsafe.Pointer(&s.memory[0]))), Len: uint64(len(s.memory)), Size: FrameLen}
	// The length is that of the first version, which every kernel takes.
	if err := setOption(s.fd, unix.XDP_UMEM_REG, unsafe.Pointer(&register), umemRegLen); err != nil {
		return fmt.Errorf("share memory with the kernel: %w", err)
	}
	for _, option := range []int{unix.XDP_UMEM_FILL_RING, unix.XDP_UMEM_COMPLETION_RING, unix.XDP_RX_RING, unix.XDP_TX_RING} {
		n := uint32(o.Frames)
		if err := setOption(s.fd, option, unsafe.Pointer(&n), 4); err != nil {
			return fmt.Errorf("size ring %d: %w", option, err)
		}
	}
	if err := s.mapRings(); err != nil {
		return err
	}
	// The first half of the frames receives, the other half sends.
	for i := range uint64(o.Frames) {
		s.fill.push(i * FrameLen)
		s.free = append(s.free, (uint64(o.Frames)+i)*FrameLen)
	}
	s.fill.publish()
	return s.bind(o)
}

// bind asks for frames without copies, and where the driver has none for copies.
func (s *Socket) bind(o Options) error {
	address := &unix.SockaddrXDP{Ifindex: uint32(o.Ifindex), QueueID: uint32(o.Queue)}
	var refusals []error
	for _, flags := range []uint16{unix.XDP_ZEROCOPY, unix.XDP_COPY} {
		address.Flags = flags | unix.XDP_USE_NEED_WAKEUP
		err := unix.Bind(s.fd, address)
		if err == nil {
			s.zeroCopy = flags == unix.XDP_ZEROCOPY
			return nil
		}
		refusals = append(refusals, err)
	}
	return fmt.Errorf("bind to queue %d of interface %d: %w", o.Queue, o.Ifindex, errors.Join(refusals...))
}

// FD is the descriptor, for the map that a program redirects by.
func (s *Socket) FD() int { return s.fd }

// ZeroCopy says whether the driver itself works on the shared memory.
func (s *Socket) ZeroCopy() bool { return s.zeroCopy }

// Receive takes packets that have arrived, as many as fit into batch. It does not
// wait.
func (s *Socket) Receive(batch []Packet) int {
	n := s.rx.available(uint32(len(batch)))
	for i := range n {
		d := s.rx.at(s.rx.tail + i)
		batch[i] = Packet{
			Data:    s.memory[d.Addr : d.Addr+uint64(d.Len) : d.Addr+uint64(d.Len)],
			address: d.Addr &^ (FrameLen - 1), at: d.Addr,
		}
	}
	s.rx.consumed(n)
	return int(n)
}

// Release gives packets back, so that others may arrive in their place.
func (s *Socket) Release(batch []Packet) {
	for _, p := range batch {
		s.fill.push(p.address)
	}
	s.fill.publish()
}

// Wait waits until a packet has arrived, or for the timeout.
func (s *Socket) Wait(timeout time.Duration) error {
	fds := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}
	_, err := unix.Poll(fds, int(timeout.Milliseconds()))
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("xsk: wait for packets: %w", err)
	}
	return nil
}

// Send sends what compose puts into a frame of PacketLenMax bytes: it returns the
// packet's length, or 0 to send nothing. Send reports false when no frame is free:
// the caller flushes and tries again, or drops the packet. Packets leave with Flush.
func (s *Socket) Send(compose func(frame []byte) int) bool {
	s.reclaim()
	if len(s.free) == 0 {
		return false
	}
	address := s.free[len(s.free)-1]
	n := compose(s.memory[address : address+FrameLen : address+FrameLen])
	if n == 0 {
		return true
	}
	s.free = s.free[:len(s.free)-1]
	s.tx.push(unix.XDPDesc{Addr: address, Len: uint32(n)})
	s.unsent = true
	return true
}

// reclaim takes back the frames of packets that have left.
func (s *Socket) reclaim() {
	n := s.completion.available(uint32(s.frames))
	for i := range n {
		s.free = append(s.free, s.completion.at(s.completion.tail+i)&^(FrameLen-1))
	}
	s.completion.consumed(n)
}

// Flush tells the kernel of packets to send.
func (s *Socket) Flush() error {
	if !s.unsent {
		return nil
	}
	s.tx.publish()
	s.unsent = false
	if !s.tx.needsWakeup() {
		return nil
	}
	for {
		_, _, errno := unix.Syscall6(unix.SYS_SENDTO, uintptr(s.fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0, unix.EBUSY, unix.ENOBUFS:
			return nil // the rest leaves with the next one
		case unix.EAGAIN: // the kernel sends so many at a time: go on
			if s.tx.pending() == 0 {
				return nil
			}
		case unix.EINTR:
		default:
			return fmt.Errorf("xsk: send: %w", errno)
		}
	}
}

// Stats are the kernel's counters of packets that it could not give or take.
func (s *Socket) Stats() (unix.XDPStatistics, error) {
	var stats unix.XDPStatistics
	length := uint32(unsafe.Sizeof(stats))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), unix.SOL_XDP, unix.XDP_STATISTICS,
		uintptr(unsafe.Pointer(&stats)), uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 {
		return stats, fmt.Errorf("xsk: read the counters: %w", errno)
	}
	return stats, nil
}

// Close ends the socket. Packets that were not released are gone.
func (s *Socket) Close() error {
	err := unix.Close(s.fd)
	for _, m := range s.mappings {
		err = errors.Join(err, unix.Munmap(m))
	}
	if s.memory != nil {
		err = errors.Join(err, unix.Munmap(s.memory))
	}
	s.mappings, s.memory = nil, nil
	return err
}
