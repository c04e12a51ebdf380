package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// CgroupPrefix begins the name of every cgroup and temporary folder that a run
// makes: nexus-<pid of the run>-<something>. What bears it and belongs to a
// dead pid is a leftover.
const CgroupPrefix = "nexus-"

// ErrNoCgroup2 is returned where no cgroup2 hierarchy is mounted.
var ErrNoCgroup2 = errors.New("no cgroup2 hierarchy is mounted")

// Cgroup is one cgroup2 directory of its own, without controllers: it names a
// set of processes for the probes, counts their CPU time and kills them all.
type Cgroup struct {
	Path string
	ID   uint64 // what bpf_get_current_cgroup_id returns in it
	dir  *os.File
}

var cgroupSequence atomic.Uint64

// LeftoverName returns a new name for a cgroup or namespace of this process.
func LeftoverName() string {
	return fmt.Sprintf("%s%d-%d", CgroupPrefix, os.Getpid(), cgroupSequence.Add(1))
}

// LeftoverPID returns the pid in a name that begins with CgroupPrefix.
func LeftoverPID(name string) (int, bool) {
	rest, ours := strings.CutPrefix(name, CgroupPrefix)
	if !ours {
		return 0, false
	}
	digits, _, dashed := strings.Cut(rest, "-")
	pid, err := strconv.Atoi(digits)
	return pid, dashed && err == nil && pid > 0
}

// NewCgroup makes a cgroup below the caller's own, or below the root of the
// hierarchy where the own one is not writable. It fails where cgroup2 is
// missing (ErrNoCgroup2) or not writable (an fs.ErrPermission or a read-only
// file system).
func NewCgroup() (*Cgroup, error) {
	parents, err := cgroupParents()
	if err != nil {
		return nil, err
	}
	name := LeftoverName()
	var failed []error
	for _, parent := range parents {
		group, err := makeCgroup(filepath.Join(parent, name))
		if err == nil {
			return group, nil
		}
		failed = append(failed, err)
	}
	return nil, fmt.Errorf("make a cgroup: %w", errors.Join(failed...))
}

func makeCgroup(path string) (*Cgroup, error) {
	if err := os.Mkdir(path, 0o755); err != nil {
		return nil, err
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	info, err := dir.Stat()
	if err != nil {
		return nil, errors.Join(err, dir.Close(), os.Remove(path))
	}
	// On 64-bit kernels the id of a kernfs node is its inode number.
	stat := info.Sys().(*syscall.Stat_t)
	return &Cgroup{Path: path, ID: stat.Ino, dir: dir}, nil
}

// Cgroup2Root returns the mount point of the cgroup2 hierarchy: programs attached
// there see the packets of every socket below.
func Cgroup2Root() (string, error) {
	mounts, err := readMounts(hostRoot())
	if err != nil {
		return "", err
	}
	mount, found := mountOfType(mounts, "cgroup2")
	if !found {
		return "", ErrNoCgroup2
	}
	return mount.Point, nil
}

// cgroupParents returns where a cgroup may be made, best first.
func cgroupParents() ([]string, error) {
	mounts, err := readMounts(hostRoot())
	if err != nil {
		return nil, err
	}
	mount, found := mountOfType(mounts, "cgroup2")
	if !found {
		return nil, ErrNoCgroup2
	}
	text, err := readText(hostRoot(), "proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("read the own cgroup: %w", err)
	}
	for _, line := range strings.Split(text, "\n") {
		own, unified := strings.CutPrefix(line, "0::")
		if unified && own != "/" {
			return []string{filepath.Join(mount.Point, own), mount.Point}, nil
		}
	}
	return []string{mount.Point}, nil
}

// FD is the open directory, for SysProcAttr.CgroupFD.
func (c *Cgroup) FD() int { return int(c.dir.Fd()) }

// CPUTime returns what the cgroup's processes have used, from cpu.stat; it is
// exact to the microsecond and includes processes that have ended.
func (c *Cgroup) CPUTime() (user, system time.Duration, err error) {
	text, err := os.ReadFile(filepath.Join(c.Path, "cpu.stat"))
	if err != nil {
		return 0, 0, fmt.Errorf("read the CPU time of a cgroup: %w", err)
	}
	found := 0
	for _, line := range strings.Split(string(text), "\n") {
		key, value, _ := strings.Cut(line, " ")
		into := map[string]*time.Duration{"user_usec": &user, "system_usec": &system}[key]
		if into == nil {
			continue
		}
		usec, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("cpu.stat %s: %w", key, err)
		}
		*into = time.Duration(usec) * time.Microsecond
		found++
	}
	if found != 2 {
		return 0, 0, errors.New("cpu.stat has no user_usec and system_usec")
	}
	return user, system, nil
}

// Empty reports whether no live process is in the cgroup (cgroup.events,
// "populated").
func (c *Cgroup) Empty() (bool, error) {
	text, err := os.ReadFile(filepath.Join(c.Path, "cgroup.events"))
	if err != nil {
		return false, fmt.Errorf("read a cgroup's events: %w", err)
	}
	return strings.Contains(string(text), "populated 0"), nil
}

// Kill kills every process in the cgroup (cgroup.kill, Linux 5.14; one by one
// before that).
func (c *Cgroup) Kill() error {
	err := os.WriteFile(filepath.Join(c.Path, "cgroup.kill"), []byte("1"), 0)
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		return err
	}
	text, err := os.ReadFile(filepath.Join(c.Path, "cgroup.procs"))
	if err != nil {
		return fmt.Errorf("list a cgroup's processes: %w", err)
	}
	for _, field := range strings.Fields(string(text)) {
		if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
			_ = unix.Kill(pid, unix.SIGKILL) // it may be gone by now
		}
	}
	return nil
}

// cgroupEmptyTimeout bounds the wait for killed processes to be reaped.
const cgroupEmptyTimeout = 5 * time.Second

// Remove kills what is left in the cgroup and removes it. It is safe to call
// twice.
func (c *Cgroup) Remove() error {
	if c == nil || c.dir == nil {
		return nil
	}
	if err := c.dir.Close(); err != nil {
		return fmt.Errorf("close a cgroup: %w", err)
	}
	c.dir = nil
	deadline := time.Now().Add(cgroupEmptyTimeout)
	for {
		err := unix.Rmdir(c.Path)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("remove cgroup %s: %w", c.Path, err)
		}
		if err := c.Kill(); err != nil {
			return fmt.Errorf("kill cgroup %s: %w", c.Path, err)
		}
		time.Sleep(time.Millisecond)
	}
}
