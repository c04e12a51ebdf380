package faultdisk

import (
	"io"
	"slices"
	"syscall"
)

// file is an open file. Removal keeps it usable, as on Linux.
type file struct {
	disk *Disk
	node *inode
	name string
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	d := f.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	fault, _, err := d.step()
	if err != nil {
		return 0, err
	}
	if fault == EIO {
		return 0, d.fail("read "+f.name, syscall.EIO)
	}
	if off >= int64(len(f.node.live)) {
		return 0, io.EOF
	}
	n := copy(p, f.node.live[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	d := f.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	fault, cutNow, err := d.step()
	if cutNow {
		f.node.write(p, off) // on its way: survives like any unsynced write
	}
	switch {
	case err != nil:
		return 0, err
	case fault == EIO: // some of it may have arrived
		f.node.write(p[:d.rng.IntN(len(p)+1)], off)
		return 0, d.fail("write "+f.name, syscall.EIO)
	case fault == ENOSPC:
		return 0, d.fail("write "+f.name, syscall.ENOSPC)
	case fault == ShortWrite && len(p) > 1:
		d.faults++
		n := 1 + d.rng.IntN(len(p)-1)
		f.node.write(p[:n], off)
		return n, io.ErrShortWrite
	}
	f.node.write(p, off)
	return len(p), nil
}

func (n *inode) write(p []byte, off int64) {
	if len(p) == 0 {
		return
	}
	if need := off + int64(len(p)); need > int64(len(n.live)) {
		n.live = resize(n.live, need)
	}
	copy(n.live[off:], p)
	n.pending = append(n.pending, change{offset: off, data: slices.Clone(p)})
}

func (f *file) Truncate(size int64) error {
	d := f.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	fault, cutNow, err := d.step()
	if cutNow {
		f.node.pending = append(f.node.pending, change{size: size})
	}
	switch {
	case err != nil:
		return err
	case fault == EIO:
		return d.fail("truncate "+f.name, syscall.EIO)
	case fault == ENOSPC && size > int64(len(f.node.live)):
		return d.fail("truncate "+f.name, syscall.ENOSPC)
	}
	f.node.live = slices.Clone(resize(f.node.live, size))
	f.node.pending = append(f.node.pending, change{size: size})
	return nil
}

// Sync makes the file durable. A failed one is as on Linux: the dirty pages are
// marked clean, so that the next sync succeeds without having written them,
// while programs still read the new content.
func (f *file) Sync() error {
	d := f.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	fault, cutNow, err := d.step()
	switch {
	case cutNow && d.rng.IntN(2) == 0: // finished just before
		f.node.settle()
		return err
	case err != nil:
		return err
	case fault == EIO:
		f.node.durable, f.node.pending = d.survive(f.node), nil
		return d.fail("sync "+f.name, syscall.EIO)
	case fault == ENOSPC: // delayed allocation finds no space at writeback
		f.node.durable, f.node.pending = d.survive(f.node), nil
		return d.fail("sync "+f.name, syscall.ENOSPC)
	}
	f.node.settle()
	return nil
}

// settle makes everything pending durable, and only that: what an earlier
// failed sync lost stays lost.
func (n *inode) settle() {
	for _, c := range n.pending {
		if c.data == nil {
			n.durable = resize(n.durable, c.size)
			continue
		}
		if need := c.offset + int64(len(c.data)); need > int64(len(n.durable)) {
			n.durable = resize(n.durable, need)
		}
		copy(n.durable[c.offset:], c.data)
	}
	n.pending = nil
}

func (f *file) Size() (int64, error) {
	d := f.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cut {
		return 0, ErrPowerCut
	}
	return int64(len(f.node.live)), nil
}

func (f *file) Close() error { return nil }
