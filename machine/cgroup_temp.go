package machine

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// memoryBase is where folders that need no disk are made, shm_overview(7).
const memoryBase = "/dev/shm"

// TempBases are the folders in which runs make their temporary folders: where
// Clean must look.
func TempBases() []string {
	bases := []string{os.TempDir()}
	for _, base := range []string{"/var/tmp", memoryBase} {
		if bases[0] != base {
			bases = append(bases, base)
		}
	}
	return bases
}

// TempBase is the first of TempBases that a disk stands behind: durability on
// tmpfs costs nothing and measures nothing.
func TempBase() (string, error) {
	var failed []error
	for _, base := range TempBases() {
		memory, err := inMemory(base)
		if err == nil && !memory {
			return base, nil
		}
		if err == nil {
			err = fmt.Errorf("%s lies in memory", base)
		}
		failed = append(failed, err)
	}
	return "", fmt.Errorf("find a temporary folder on a disk (TMPDIR names one): %w", errors.Join(failed...))
}

// NewTempRoot makes a folder nexus-<pid>-xxxx, with its owner file, in TempBase.
// The caller removes it.
func NewTempRoot() (string, error) {
	base, err := TempBase()
	if err != nil {
		return "", err
	}
	return newTempRoot(base)
}

// NewTempRootInMemory is NewTempRoot on tmpfs, for what measures code and no disk.
func NewTempRootInMemory() (string, error) {
	if memory, err := inMemory(memoryBase); err != nil || !memory {
		return "", fmt.Errorf("%s is no file system in memory (mount tmpfs there): %w", memoryBase, err)
	}
	return newTempRoot(memoryBase)
}

func newTempRoot(base string) (string, error) {
	dir, err := os.MkdirTemp(base, fmt.Sprintf("%s%d-*", CgroupPrefix, os.Getpid()))
	if err != nil {
		return "", fmt.Errorf("make a temporary folder: %w", err)
	}
	if err := WriteOwner(dir); err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	return dir, nil
}

// inMemory reports whether dir lies on tmpfs or ramfs, statfs(2).
func inMemory(dir string) (bool, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return false, fmt.Errorf("statfs %s: %w", dir, err)
	}
	return uint32(stat.Type) == unix.TMPFS_MAGIC || uint32(stat.Type) == unix.RAMFS_MAGIC, nil
}
