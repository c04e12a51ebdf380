package projcache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/bpf/datagram"
)

// slot is struct slot of projcache.h.
type slot struct {
	sequence atomic.Uint32
	used     atomic.Uint32
	key      Key
	bodyLen  uint32
	bodySum  uint32
	_        [9]uint32
	body     [(bodyLenMax + 63) / 64 * 64]byte
}

const slotLen = int(unsafe.Sizeof(slot{}))

// memory is what both sides share.
type memory struct {
	slots     []byte
	snapshots []byte
}

func mapMemory(slots, snapshots *ebpf.Map, options Options) (*memory, error) {
	if int(slots.ValueSize()) != slotLen {
		return nil, fmt.Errorf("projcache: a slot has %d bytes in the program and %d here", slots.ValueSize(), slotLen)
	}
	m := &memory{}
	var err error
	if m.slots, err = mmap(slots, options.Slots*slotLen); err != nil {
		return nil, fmt.Errorf("projcache: map the slots: %w", err)
	}
	if m.snapshots, err = mmap(snapshots, options.Tenants*8); err != nil {
		return nil, errors.Join(fmt.Errorf("projcache: map the snapshot versions: %w", err), m.close())
	}
	return m, nil
}

func mmap(m *ebpf.Map, length int) ([]byte, error) {
	page := unix.Getpagesize()
	return unix.Mmap(m.FD(), 0, (length+page-1)/page*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

func (m *memory) close() error {
	if m == nil {
		return nil
	}
	var errs []error
	for _, part := range [][]byte{m.slots, m.snapshots} {
		if part != nil {
			errs = append(errs, unix.Munmap(part))
		}
	}
	return errors.Join(errs...)
}

func (m *memory) slot(i uint32) *slot {
	return (*slot)(unsafe.Pointer(&m.slots[int(i)*slotLen]))
}

// tenantWord is a tenant's entry: an array's elements are 8 bytes apart.
func (m *memory) tenantWord(tenant uint32) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&m.snapshots[int(tenant)*8]))
}

func (m *memory) setSnapshot(tenant, version uint32) { m.tenantWord(tenant).Store(version) }
func (m *memory) snapshot(tenant uint32) uint32      { return m.tenantWord(tenant).Load() }

// write makes the slot hold a value. Its sequence is odd meanwhile.
func (s *slot) write(key Key, version uint64, projection []byte) {
	s.sequence.Add(1)
	s.key = key
	binary.LittleEndian.PutUint64(s.body[0:], version)
	binary.LittleEndian.PutUint32(s.body[8:], key.Snapshot)
	n := BodyHeaderLen + copy(s.body[BodyHeaderLen:], projection)
	s.bodyLen, s.bodySum = uint32(n), uint32(datagram.Sum(s.body[:n]))
	s.used.Store(0)
	s.sequence.Add(1)
}

// settle ends a write that its writer did not live to end, and says what the slot
// holds.
func (s *slot) settle() (key Key, whole bool) {
	if s.sequence.Load()&1 == 1 {
		s.bodyLen = 0
		s.sequence.Add(1)
	}
	return s.key, s.bodyLen >= BodyHeaderLen && s.bodyLen <= bodyLenMax
}

func (s *slot) bytes() []byte { return s.body[:s.bodyLen] }

// wasUsed says whether the slot was read since it was asked last.
func (s *slot) wasUsed() bool { return s.used.Swap(0) != 0 }
