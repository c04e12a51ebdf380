package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// CleanOptions says how Clean goes about it.
type CleanOptions struct {
	DryRun   bool      // say what would go, remove nothing
	Out      io.Writer // a line for each thing; nil: silent
	TempDirs []string  // where runs were told to keep temporary folders, beside the usual ones
}

// CleanReport is what Clean did.
type CleanReport struct {
	Removed []Leftover `json:"removed"` // or would be, in a dry run
	Kept    []Leftover `json:"kept"`    // what can't be judged; things of live runs are not listed
	Live    int        `json:"live"`    // things of live runs, left alone
	Failed  []string   `json:"failed"`
}

// endGrace is how long a stray has to end after SIGTERM before SIGKILL.
const endGrace = 2 * time.Second

// killWait bounds the wait for a killed process to be gone: the kernel may
// have to finish its I/O first.
const killWait = 10 * time.Second

// Clean removes what killed runs left, and only that: their strays, cgroups,
// mounts, temporary folders, pins, network namespaces and links. A thing goes
// only when the run that made it is certainly dead, which is looked up again
// just before. Failures do not stop it; they are in the report and joined in
// the error.
func Clean(ctx context.Context, options CleanOptions) (CleanReport, error) {
	p, err := hostPlaces(options.TempDirs)
	if err != nil {
		return CleanReport{}, fmt.Errorf("look for leftovers: %w", err)
	}
	return p.clean(ctx, options)
}

func (p places) clean(ctx context.Context, options CleanOptions) (CleanReport, error) {
	out := options.Out
	if out == nil {
		out = io.Discard
	}
	found, err := p.list(ctx)
	if err != nil {
		return CleanReport{}, fmt.Errorf("look for leftovers: %w", err)
	}
	report := CleanReport{Removed: []Leftover{}, Kept: []Leftover{}, Failed: []string{}}
	for _, l := range found {
		switch {
		case ctx.Err() != nil:
			return report, ctx.Err()
		case l.Live == Live:
			report.Live++
		case l.Live == Unknown:
			report.Kept = append(report.Kept, l)
			fmt.Fprintf(out, "kept     %s\n", l)
		case options.DryRun:
			report.Removed = append(report.Removed, l)
			fmt.Fprintf(out, "would remove  %s\n", l)
		default:
			p.removeOne(ctx, l, &report, out)
		}
	}
	if len(report.Failed) > 0 {
		return report, fmt.Errorf("%d leftovers could not be removed; the first: %s", len(report.Failed), report.Failed[0])
	}
	return report, nil
}

func (p places) removeOne(ctx context.Context, l Leftover, report *CleanReport, out io.Writer) {
	if err := p.remove(ctx, l); err != nil {
		report.Failed = append(report.Failed, err.Error())
		fmt.Fprintf(out, "failed   %s: %v\n", l, err)
		return
	}
	report.Removed = append(report.Removed, l)
	fmt.Fprintf(out, "removed  %s\n", l)
}

func (p places) remove(ctx context.Context, l Leftover) error {
	var err error
	switch l.Kind {
	case LeftoverProcess:
		err = p.endChild(ctx, l)
	case LeftoverCgroup:
		err = p.removeCgroup(ctx, l)
	case LeftoverMount:
		err = unmount(l.Name)
	case LeftoverTemp:
		err = p.removeTemp(l)
	case LeftoverPin:
		err = os.RemoveAll(l.Name)
	case LeftoverNetns:
		err = removeNetns(l.Name)
	case LeftoverLink:
		err = removeLink(l.Name)
	default:
		err = errors.New("no way to remove this kind")
	}
	if err != nil {
		return fmt.Errorf("remove %s %s: %w", l.Kind, l.Name, err)
	}
	return nil
}

// endChild ends a recorded child. The record is read again: only the process
// with that start time is meant, and the pidfd pins it while that is checked.
func (p places) endChild(ctx context.Context, l Leftover) error {
	pid, err := strconv.Atoi(l.Name)
	if err != nil {
		return err
	}
	for _, t := range p.temps {
		names, err := filepath.Glob(filepath.Join(escapeGlob(t), fmt.Sprintf("%s%d-*", CgroupPrefix, l.PID)))
		if err != nil {
			return err
		}
		for _, name := range names {
			for _, child := range readChildren(name) {
				if child.PID == pid {
					return endProcess(ctx, child)
				}
			}
		}
	}
	return nil
}

// endProcess asks a process to end, then kills it, and waits until it is gone.
func endProcess(ctx context.Context, process Owner) error {
	fd, err := unix.PidfdOpen(process.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", process.PID, err)
	}
	defer unix.Close(fd)
	if process.Liveness() != Live {
		return nil
	}
	for _, step := range []struct {
		signal unix.Signal
		wait   time.Duration
	}{{unix.SIGTERM, endGrace}, {unix.SIGKILL, killWait}} {
		if err := unix.PidfdSendSignal(fd, step.signal, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("signal process %d: %w", process.PID, err)
		}
		if ended, err := waitPidfd(ctx, fd, step.wait); ended || err != nil {
			return err
		}
	}
	return fmt.Errorf("process %d does not end", process.PID)
}

// waitPidfd polls: a pidfd becomes readable when its process ends,
// pidfd_open(2).
func waitPidfd(ctx context.Context, fd int, wait time.Duration) (bool, error) {
	deadline := time.Now().Add(wait)
	for time.Now().Before(deadline) {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 50)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return false, fmt.Errorf("wait for process: %w", err)
		}
		if n > 0 {
			return true, nil
		}
	}
	return false, nil
}

// removeCgroup ends what still runs in a dead run's cgroup, then removes it
// with the cgroups below it.
func (p places) removeCgroup(ctx context.Context, l Leftover) error {
	if again := p.judgeCgroup(l.Name, l.PID); again.Live != Dead {
		return fmt.Errorf("its run is %s now", again.Live)
	}
	if err := endCgroup(ctx, l.Name); err != nil {
		return err
	}
	return removeCgroupTree(ctx, l.Name)
}

// endCgroup gives every process in the tree endGrace to end by itself and
// returns with none left, or after Cgroup's own kill.
func endCgroup(ctx context.Context, name string) error {
	group, empty := &Cgroup{Path: name}, false
	signalled := map[int]bool{}
	for deadline := time.Now().Add(endGrace); time.Now().Before(deadline); {
		var err error
		if empty, err = group.Empty(); errors.Is(err, fs.ErrNotExist) || empty {
			return nil
		} else if err != nil {
			return err
		}
		if err := terminateTree(name, signalled); err != nil {
			return err
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
	return group.Kill()
}

func terminateTree(name string, signalled map[int]bool) error {
	return walkCgroups(name, func(folder string) error {
		pids, err := cgroupPIDs(folder)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, pid := range pids {
			if pid <= 0 || signalled[pid] {
				continue
			}
			signalled[pid] = true
			_ = unix.Kill(pid, unix.SIGTERM) // it may be gone by now
		}
		return nil
	})
}

// walkCgroups visits a tree of cgroups, the deepest first.
func walkCgroups(name string, visit func(folder string) error) error {
	var folders []string
	err := filepath.WalkDir(name, func(folder string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && d.IsDir() {
			folders = append(folders, folder)
		}
		return err
	})
	if err != nil {
		return err
	}
	for i := len(folders) - 1; i >= 0; i-- {
		if err := visit(folders[i]); err != nil {
			return err
		}
	}
	return nil
}

// removeCgroupTree retries: a killed process leaves its cgroup only when it has
// been reaped or become a zombie.
func removeCgroupTree(ctx context.Context, name string) error {
	deadline := time.Now().Add(killWait)
	for {
		err := walkCgroups(name, func(folder string) error {
			if err := unix.Rmdir(folder); err != nil && !errors.Is(err, unix.ENOENT) {
				return err
			}
			return nil
		})
		if err == nil || !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return err
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context) error {
	wait(ctx, 5*time.Millisecond)
	return ctx.Err()
}

// unmount detaches a mount, also a busy one: nothing of its run is alive.
func unmount(point string) error {
	err := unix.Unmount(point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil // no mount point any more
	}
	return err
}

// removeTemp refuses while anything is mounted below: a removal must never
// reach through a mount into what is not the run's.
func (p places) removeTemp(l Leftover) error {
	if again := p.judgeTemp(l.Name, l.PID); again.Live != Dead {
		return fmt.Errorf("its run is %s now", again.Live)
	}
	mounts, err := readMounts(hostRoot())
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if isBelow(m.Point, l.Name) {
			return fmt.Errorf("%s is still mounted", m.Point)
		}
	}
	return removeKeepingOwner(l.Name)
}

// removeKeepingOwner removes the owner file last, so that a removal that is
// itself killed can be finished by the next.
func removeKeepingOwner(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == OwnerFile {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir)
}

// removeNetns takes the name away, ip-netns(8); the namespace ends with its
// last process.
func removeNetns(name string) error {
	if err := unmount(name); err != nil {
		return err
	}
	return os.Remove(name)
}

func removeLink(name string) error {
	link, err := netlink.LinkByName(name)
	var gone netlink.LinkNotFoundError
	if errors.As(err, &gone) {
		return nil // it went with its peer
	}
	if err != nil {
		return err
	}
	return netlink.LinkDel(link)
}
