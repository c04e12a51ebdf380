package seglog

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// hugePage is the size of a huge page on amd64 and arm64 (4 KiB granule).
const hugePage = 2 << 20

// MapBuffer returns zeroed memory that Go's collector doesn't know, aligned to a
// huge page and backed by huge pages where the kernel has some: a commit then
// reaches the disk as one segment of memory and not as one for every 4 KiB.
// Free it with UnmapBuffer.
func MapBuffer(size int) ([]byte, error) {
	whole := alignUp(size, hugePage)
	base, err := unix.MmapPtr(-1, 0, nil, uintptr(whole+hugePage), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANONYMOUS|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("seglog: map %d bytes: %w", size, err)
	}
	before := int(-uintptr(base) & (hugePage - 1))
	start := unsafe.Add(base, before)
	p := unsafe.Slice((*byte)(start), whole)
	if before > 0 {
		err = unix.MunmapPtr(base, uintptr(before))
	}
	err = errors.Join(err, unix.MunmapPtr(unsafe.Add(start, whole), uintptr(hugePage-before)))
	if err != nil {
		return nil, fmt.Errorf("seglog: trim the mapping of %d bytes: %w", size, err)
	}
	_ = unix.Madvise(p, unix.MADV_HUGEPAGE) // a kernel without huge pages serves small ones
	for i := 0; i < whole; i += BlockBytes {
		p[i] = 0 // now, and not under the first commits
	}
	return p[:size:size], nil
}

// UnmapBuffer frees what MapBuffer returned.
func UnmapBuffer(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	return unix.MunmapPtr(unsafe.Pointer(unsafe.SliceData(p)), uintptr(alignUp(len(p), hugePage)))
}

func mapBuffers(count, size int) ([][]byte, error) {
	var buffers [][]byte
	for range count {
		p, err := MapBuffer(size)
		if err != nil {
			return nil, errors.Join(err, unmapBuffers(buffers))
		}
		buffers = append(buffers, p)
	}
	return buffers, nil
}

func unmapBuffers(buffers [][]byte) error {
	var all error
	for _, p := range buffers {
		all = errors.Join(all, UnmapBuffer(p))
	}
	return all
}
