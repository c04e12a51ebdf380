package uring

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"unsafe"

	"github.com/pawelgaczynski/giouring"
	"golang.org/x/sys/unix"
)

// BufRing is a group of equal buffers that the kernel picks from when data
// arrives (provided buffer ring, kernel 5.19).
type BufRing struct {
	Group   uint16
	ring    *Ring
	entries []giouring.BufAndRing // shared with the kernel
	memory  []byte
	size    int
	mask    uint16
	tail    uint16
}

// NewBufRing registers count buffers (a power of two, at most 32768) of size
// bytes under the group, all of them given to the kernel.
func (r *Ring) NewBufRing(group uint16, count, size int) (*BufRing, error) {
	if count <= 0 || count > 32768 || count&(count-1) != 0 || size <= 0 || size > 1<<24 {
		return nil, fmt.Errorf("uring: buffer ring of %d buffers of %d bytes: want a power of two up to 32768", count, size)
	}
	shared, err := unix.Mmap(-1, 0, count*int(unsafe.Sizeof(giouring.BufAndRing{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANONYMOUS|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("uring: map a buffer ring: %w", err)
	}
	memory, err := unix.Mmap(-1, 0, count*size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANONYMOUS|unix.MAP_PRIVATE|unix.MAP_POPULATE)
	if err != nil {
		_ = unix.Munmap(shared)
		return nil, fmt.Errorf("uring: map %d buffers of %d bytes: %w", count, size, err)
	}
	unmap := func() error {
		if err := unix.Munmap(memory); err != nil {
			return fmt.Errorf("uring: unmap buffers: %w", err)
		}
		return unix.Munmap(shared)
	}
	b := &BufRing{
		Group:   group,
		ring:    r,
		entries: unsafe.Slice((*giouring.BufAndRing)(unsafe.Pointer(&shared[0])), count),
		memory:  memory,
		size:    size,
		mask:    uint16(count - 1),
	}
	reg := &giouring.BufReg{RingAddr: uint64(uintptr(unsafe.Pointer(&shared[0]))), RingEntries: uint32(count), Bgid: group}
	_, err = r.register(giouring.RegisterPbufRing, unsafe.Pointer(reg), 1)
	runtime.KeepAlive(reg)
	if err != nil {
		_ = unmap()
		return nil, fmt.Errorf("uring: register buffer group %d: %w", group, err)
	}
	r.unmap = append(r.unmap, unmap)
	for id := range count {
		b.put(uint16(id))
	}
	b.Publish()
	return b, nil
}

// Bytes returns the first n bytes of a buffer that a completion named. They
// are the caller's until Recycle.
func (b *BufRing) Bytes(id uint16, n int) []byte {
	start := int(id) * b.size
	return b.memory[start : start+n : start+b.size]
}

// Size is the length of each buffer in bytes.
func (b *BufRing) Size() int { return b.size }

// Recycle gives a buffer back; the kernel sees it with the next Publish.
func (b *BufRing) Recycle(id uint16) { b.put(id) }

// Publish makes recycled buffers available, many with one store.
func (b *BufRing) Publish() {
	// The tail lives in the last 16 bits of the first entry, whose other fields
	// only this side writes: a 32-bit store with release order covers both.
	first := &b.entries[0]
	word := (*uint32)(unsafe.Pointer(&first.Bid))
	atomic.StoreUint32(word, uint32(b.tail)<<16|uint32(first.Bid))
}

// put writes the entry's fields but never Tail, which in entry 0 is the ring's.
func (b *BufRing) put(id uint16) {
	e := &b.entries[b.tail&b.mask]
	e.Addr = uint64(uintptr(unsafe.Pointer(&b.memory[int(id)*b.size])))
	e.Len = uint32(b.size)
	e.Bid = id
	b.tail++
}
