package seglog

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// zeroChunk is how much of a new segment is zeroed with one write: small enough
// not to hold up a commit that comes behind it in the disk's queue.
const zeroChunk = 256 << 10

// DirOptions choose how a folder is used as a Device.
type DirOptions struct {
	// Posix commits with pwrite and fdatasync instead of io_uring.
	Posix bool
	// Buffered writes through the page cache instead of O_DIRECT.
	Buffered bool
	// Reserve never writes zeros to a new segment but only reserves its blocks
	// (fallocate). Then each first write of a block changes the file's extents,
	// and its fdatasync has to commit the file system's journal too. Without it
	// the log chooses by the size of its commits, see Engine.Prepare.
	Reserve bool
	// Linked commits with a write and an fdatasync linked to it, instead of one
	// write that carries RWF_DSYNC. The guarantee is the same, pwritev2(2); the
	// linked pair costs a worker thread's wake-up more.
	Linked bool
	// ReadOnly takes no lock and refuses every change; for Scan.
	ReadOnly bool
}

// Dir is a Device on a folder of a Linux file system.
type Dir struct {
	path string
	o    DirOptions
	dir  *os.File

	mu    sync.Mutex // zeros is written from by one Create at a time
	zeros []byte
}

// OpenDir makes the folder if needed and locks it against other processes
// (flock on the folder, held until Close).
func OpenDir(path string, o DirOptions) (*Dir, error) {
	if !o.ReadOnly {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return nil, fmt.Errorf("seglog: make log folder: %w", err)
		}
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("seglog: open log folder: %w", err)
	}
	if !o.ReadOnly {
		err = unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err != nil {
			_ = dir.Close()
			return nil, fmt.Errorf("seglog: log folder %s is in use by another process: %w", path, err)
		}
	}
	return &Dir{path: path, o: o, dir: dir}, nil
}

// Close gives the folder back.
func (d *Dir) Close() error { return d.dir.Close() }

// List implements Device.
func (d *Dir) List() ([]string, error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Create implements Device. Blocks are reserved first, so a full disk is found
// here and not under a commit.
func (d *Dir) Create(name string, size int64, ahead func() bool) (File, error) {
	if d.o.ReadOnly {
		return nil, unix.EROFS
	}
	path := filepath.Join(d.path, name)
	plain, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, err
	}
	f := d.file(plain, path)
	if err := d.allocate(f, size, ahead); err != nil {
		_ = f.Close()
		_ = os.Remove(path)
		return nil, err
	}
	return f, nil
}

func (d *Dir) allocate(f *dirFile, size int64, ahead func() bool) error {
	err := ignoreEINTR(func() error { return unix.Fallocate(int(f.plain.Fd()), 0, 0, size) })
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = f.plain.Truncate(size)
	}
	if err != nil || d.o.Reserve || ahead == nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.zeros == nil {
		if d.zeros, err = MapBuffer(zeroChunk); err != nil {
			return err
		}
	}
	for at := int64(0); at < size && ahead(); {
		n := min(zeroChunk, size-at)
		fd := f.fd
		if n%BlockBytes != 0 {
			fd = int(f.plain.Fd())
		}
		if err := pwriteAll(fd, d.zeros[:n], at); err != nil {
			return err
		}
		at += n
	}
	return nil
}

// Open implements Device.
func (d *Dir) Open(name string) (File, error) {
	path := filepath.Join(d.path, name)
	if d.o.ReadOnly {
		plain, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		return &dirFile{plain: plain, fd: int(plain.Fd())}, nil
	}
	plain, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return d.file(plain, path), nil
}

// file adds a second descriptor for commits. O_DIRECT is given up where the
// file system hasn't it.
func (d *Dir) file(plain *os.File, path string) *dirFile {
	f := &dirFile{plain: plain, fd: int(plain.Fd())}
	if d.o.Buffered {
		return f
	}
	if fd, err := unix.Open(path, unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0); err == nil {
		f.fd, f.direct = fd, true
	}
	return f
}

// Rename implements Device.
func (d *Dir) Rename(from, to string) error {
	if err := os.Rename(filepath.Join(d.path, from), filepath.Join(d.path, to)); err != nil {
		return err
	}
	return d.dir.Sync()
}

// Remove implements Device. A file that is gone already is no error.
func (d *Dir) Remove(name string) error {
	if d.o.ReadOnly {
		return unix.EROFS
	}
	if err := os.Remove(filepath.Join(d.path, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return d.dir.Sync()
}

// NewCommitter implements Device: io_uring, or pwrite and fdatasync where the
// kernel refuses a ring.
func (d *Dir) NewCommitter(count, size int) (Committer, error) {
	if !d.o.Posix {
		c, err := newRingCommitter(count, size, d.o.Linked)
		if err == nil {
			return c, nil
		}
		if !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EPERM) {
			return nil, err
		}
	}
	buffers, err := mapBuffers(count, size)
	if err != nil {
		return nil, err
	}
	return &posixCommitter{buffers: buffers}, nil
}

// dirFile is read through the page cache by plain and committed to by fd.
type dirFile struct {
	plain  *os.File
	fd     int
	direct bool
}

func (f *dirFile) ReadAt(p []byte, off int64) (int, error)  { return f.plain.ReadAt(p, off) }
func (f *dirFile) WriteAt(p []byte, off int64) (int, error) { return f.plain.WriteAt(p, off) }
func (f *dirFile) Sync() error                              { return f.plain.Sync() }
func (f *dirFile) Truncate(size int64) error                { return f.plain.Truncate(size) }

func (f *dirFile) Size() (int64, error) {
	info, err := f.plain.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f *dirFile) Close() error {
	if f.direct {
		_ = unix.Close(f.fd) // plain reports the errors of the same file
	}
	return f.plain.Close()
}

// Descriptor is the file descriptor that commits go to.
func (f *dirFile) Descriptor() int { return f.fd }

// Descriptor returns the descriptor for commits to a file of a Dir.
func Descriptor(f File) (int, bool) {
	d, ok := f.(interface{ Descriptor() int })
	if !ok {
		return 0, false
	}
	return d.Descriptor(), true
}

// Direct says whether commits to a file of a Dir bypass the page cache. Only then
// may two be out at a time: a page's failed writeback is reported to just one of
// the syncs that run on an open file (errseq_t, file_check_and_advance_wb_err in
// mm/filemap.c), so the sync of one commit could take the error of the other,
// which would pass for durable. A direct write reports its own errors.
func Direct(f File) bool {
	d, ok := f.(*dirFile)
	return ok && d.direct
}

// posixCommitter commits with pwrite(2) and fdatasync(2).
type posixCommitter struct{ buffers [][]byte }

func (c *posixCommitter) Buffer(i int) []byte { return c.buffers[i] }

func (c *posixCommitter) Commit(f File, i, n int, offset int64) error {
	fd, ok := Descriptor(f)
	if !ok {
		return fmt.Errorf("seglog: %T has no descriptor", f)
	}
	if err := pwriteAll(fd, c.buffers[i][:n], offset); err != nil {
		return fmt.Errorf("pwrite %d bytes at %d: %w", n, offset, err)
	}
	if err := ignoreEINTR(func() error { return unix.Fdatasync(fd) }); err != nil {
		return fmt.Errorf("fdatasync: %w", err)
	}
	return nil
}

func (c *posixCommitter) Close() error { return unmapBuffers(c.buffers) }

func pwriteAll(fd int, p []byte, offset int64) error {
	for len(p) > 0 {
		n, err := unix.Pwrite(fd, p, offset)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrShortWrite
		}
		p, offset = p[n:], offset+int64(n)
	}
	return nil
}

func ignoreEINTR(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

// WriteDurably is one commit without a Committer: it writes p at the offset of
// a Dir's file and returns when it is durable.
func WriteDurably(f File, p []byte, offset int64) error {
	c := posixCommitter{buffers: [][]byte{p}}
	return c.Commit(f, 0, len(p), offset)
}
