package host

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/tetratelabs/wazero/experimental"
	"golang.org/x/sys/unix"
)

const pageLen = 64 << 10

// mappings hands out address space for linear memories outside of Go's heap: a
// memory never moves, untouched pages cost nothing, the collector neither zeroes
// nor scans them, and a returned one is emptied by the kernel and used again.
type mappings struct {
	len     int // of each, bytes
	idleMax int

	mu     sync.Mutex
	idle   [][]byte
	closed bool
}

func (m *mappings) take() ([]byte, error) {
	m.mu.Lock()
	if n := len(m.idle); n > 0 {
		mapping := m.idle[n-1]
		m.idle = m.idle[:n-1]
		m.mu.Unlock()
		return mapping, nil
	}
	m.mu.Unlock()
	mapping, err := unix.Mmap(-1, 0, m.len, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes of guest memory: %w", m.len, err)
	}
	return mapping, nil
}

// put takes a mapping back whose first used bytes may be dirty.
func (m *mappings) put(mapping []byte, used int) {
	m.mu.Lock()
	keep := !m.closed && len(m.idle) < m.idleMax
	m.mu.Unlock()
	// MADV_DONTNEED: private anonymous pages read as zero afterwards (madvise(2)).
	if keep && (used == 0 || unix.Madvise(mapping[:used], unix.MADV_DONTNEED) == nil) {
		m.mu.Lock()
		if !m.closed {
			m.idle = append(m.idle, mapping)
			m.mu.Unlock()
			return
		}
		m.mu.Unlock()
	}
	unix.Munmap(mapping)
}

func (m *mappings) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	for _, mapping := range m.idle {
		unix.Munmap(mapping)
	}
	m.idle = nil
}

// linearMemory is one instance's memory. It belongs to the Instance, which gives
// it back when no call runs any more: wazero may call Free earlier.
type linearMemory struct {
	mapping []byte
	used    int
	huge    bool // huge pages were asked for: the mapping is not used again
	refused *atomic.Uint64
}

// giveBack lets go of the memory.
func (l *linearMemory) giveBack(m *mappings) {
	if l.huge {
		unix.Munmap(l.mapping)
		return
	}
	m.put(l.mapping, l.used)
}

var (
	_ experimental.LinearMemory    = (*linearMemory)(nil)
	_ experimental.MemoryAllocator = (*linearMemory)(nil)
)

// Allocate implements experimental.MemoryAllocator for a module's one memory.
func (l *linearMemory) Allocate(_, _ uint64) experimental.LinearMemory { return l }

// Reallocate implements experimental.LinearMemory. nil makes memory.grow fail.
func (l *linearMemory) Reallocate(size uint64) []byte {
	if size > uint64(len(l.mapping)) {
		l.refused.Add(1)
		return nil
	}
	l.used = max(l.used, int(size))
	return l.mapping[:size:len(l.mapping)]
}

// Free implements experimental.LinearMemory.
func (l *linearMemory) Free() {}
