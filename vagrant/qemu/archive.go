package qemu

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
)

// archive writes the cpio format "newc" of the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst: a header of 110
// characters, the name, the data, each padded to 4 bytes.
type archive struct {
	to   *bufio.Writer
	seen map[string]bool // folders that are there
	next uint32          // inode number
}

// File types and permissions, inode(7).
const (
	modeFolder = 0o040755
	modeFile   = 0o100755
	modeDevice = 0o020600
)

// fileLenMax is what the format's 32-bit sizes can say.
const fileLenMax = 1<<32 - 1

func newArchive(to io.Writer) *archive {
	return &archive{to: bufio.NewWriterSize(to, 1<<20), seen: map[string]bool{"": true}}
}

func (a *archive) entry(name string, mode uint32, size int64, device uint32) error {
	if size < 0 || size > fileLenMax {
		return fmt.Errorf("%s has %d bytes: too long for an initial file system", name, size)
	}
	a.next++
	// inode, mode, uid, gid, links, mtime, size, device (two), special device (two), name length, checksum
	_, err := fmt.Fprintf(a.to, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		a.next, mode, 0, 0, 1, 0, size, 0, 0, device>>8, device&0xff, len(name)+1, 0, name)
	if err != nil {
		return err
	}
	return a.pad(110 + len(name) + 1)
}

func (a *archive) pad(n int) error {
	_, err := a.to.Write(make([]byte, (4-n%4)%4))
	return err
}

// folder adds a folder and those above it, once.
func (a *archive) folder(name string) error {
	name = strings.Trim(name, "/")
	if name == "." || a.seen[name] {
		return nil
	}
	if err := a.folder(path.Dir(name)); err != nil {
		return err
	}
	a.seen[name] = true
	return a.entry(name, modeFolder, 0, 0)
}

// bytes adds a file.
func (a *archive) bytes(name string, data []byte) error {
	return a.stream(name, int64(len(data)), strings.NewReader(string(data)))
}

// copy adds a file of the host under a name.
func (a *archive) copy(name, source string) error {
	file, err := os.Open(source)
	if err != nil {
		return fmt.Errorf("copy into the initial file system: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("copy into the initial file system: %w", err)
	}
	return a.stream(name, info.Size(), file)
}

// program adds a program of the host without its debugging information.
func (a *archive) program(name, source string) error {
	part, err := openLoadedPart(source)
	if err != nil {
		return fmt.Errorf("copy into the initial file system: %w", err)
	}
	return errors.Join(a.stream(name, part.size, part.content()), part.close())
}

func (a *archive) stream(name string, size int64, from io.Reader) error {
	name = strings.Trim(name, "/")
	if err := a.folder(path.Dir(name)); err != nil {
		return err
	}
	if err := a.entry(name, modeFile, size, 0); err != nil {
		return err
	}
	n, err := io.Copy(a.to, io.LimitReader(from, size))
	if err != nil {
		return fmt.Errorf("copy %s into the initial file system: %w", name, err)
	}
	if n != size {
		return errors.New(name + " changed while it was copied")
	}
	return a.pad(int(size % 4))
}

// device adds a character device.
func (a *archive) device(name string, major, minor uint32) error {
	name = strings.Trim(name, "/")
	if err := a.folder(path.Dir(name)); err != nil {
		return err
	}
	return a.entry(name, modeDevice, 0, major<<8|minor)
}

// close writes the end mark.
func (a *archive) close() error {
	if err := a.entry("TRAILER!!!", 0, 0, 0); err != nil {
		return err
	}
	return a.to.Flush()
}
