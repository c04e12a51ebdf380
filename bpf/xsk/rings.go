package xsk

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// umemRegLen is struct xdp_umem_reg up to its flags, which are 0 here.
const umemRegLen = 24

func setOption(fd, option int, value unsafe.Pointer, length uintptr) error {
	_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_XDP, uintptr(option), uintptr(value), length, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// ring is one ring of the shared memory. Its numbers grow without end; an entry's
// place is a number modulo the size.
type ring struct {
	producer, consumer, flags *atomic.Uint32
	mask                      uint32
	// head is what we have produced, tail what we have consumed.
	head, tail uint32
}

// available is how many entries the other side has produced, at most limit.
func (r *ring) available(limit uint32) uint32 { return min(limit, r.producer.Load()-r.tail) }

// consumed gives n entries back.
func (r *ring) consumed(n uint32) {
	if n > 0 {
		r.tail += n
		r.consumer.Store(r.tail)
	}
}

// publish shows the other side what was pushed.
func (r *ring) publish() { r.producer.Store(r.head) }

// pending is what the other side has not taken yet.
func (r *ring) pending() uint32 { return r.head - r.consumer.Load() }

func (r *ring) needsWakeup() bool { return r.flags.Load()&unix.XDP_RING_NEED_WAKEUP != 0 }

type descriptorRing struct {
	ring
	entries []unix.XDPDesc
}

func (r *descriptorRing) at(number uint32) unix.XDPDesc { return r.entries[number&r.mask] }

// push adds an entry. There is room: rings have as many entries as there are frames.
func (r *descriptorRing) push(d unix.XDPDesc) {
	r.entries[r.head&r.mask] = d
	r.head++
}

type addressRing struct {
	ring
	entries []uint64
}

func (r *addressRing) at(number uint32) uint64 { return r.entries[number&r.mask] }

func (r *addressRing) push(address uint64) {
	r.entries[r.head&r.mask] = address
	r.head++
}

// mapRings maps the four rings into memory.
func (s *Socket) mapRings() error {
	var offsets unix.XDPMmapOffsets
	length := uint32(unsafe.Sizeof(offsets))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), unix.SOL_XDP, unix.XDP_MMAP_OFFSETS,
		uintptr(unsafe.Pointer(&offsets)), uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 || length != uint32(unsafe.Sizeof(offsets)) {
		return fmt.Errorf("ask where the rings are (%d bytes): %w", length, errno)
	}
	for _, r := range []struct {
		ring      *ring
		offset    unix.XDPRingOffset
		page      int64
		entryLen  int
		addresses *[]uint64
		descs     *[]unix.XDPDesc
	}{
		{&s.rx.ring, offsets.Rx, unix.XDP_PGOFF_RX_RING, int(unsafe.Sizeof(unix.XDPDesc{})), nil, &s.rx.entries},
		{&s.tx.ring, offsets.Tx, unix.XDP_PGOFF_TX_RING, int(unsafe.Sizeof(unix.XDPDesc{})), nil, &s.tx.entries},
		{&s.fill.ring, offsets.Fr, unix.XDP_UMEM_PGOFF_FILL_RING, 8, &s.fill.entries, nil},
		{&s.completion.ring, offsets.Cr, unix.XDP_UMEM_PGOFF_COMPLETION_RING, 8, &s.completion.entries, nil},
	} {
		m, err := unix.Mmap(s.fd, r.page, int(r.offset.Desc)+s.frames*r.entryLen, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
		if err != nil {
			return fmt.Errorf("map a ring: %w", err)
		}
		s.mappings = append(s.mappings, m)
		r.ring.producer = (*atomic.Uint32)(unsafe.Pointer(&m[r.offset.Producer]))
		r.ring.consumer = (*atomic.Uint32)(unsafe.Pointer(&m[r.offset.Consumer]))
		r.ring.flags = (*atomic.Uint32)(unsafe.Pointer(&m[r.offset.Flags]))
		r.ring.mask = uint32(s.frames - 1)
		if r.descs != nil {
			*r.descs = unsafe.Slice((*unix.XDPDesc)(unsafe.Pointer(&m[r.offset.Desc])), s.frames)
		} else {
			*r.addresses = unsafe.Slice((*uint64)(unsafe.Pointer(&m[r.offset.Desc])), s.frames)
		}
	}
	return nil
}
