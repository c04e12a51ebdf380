package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// LeftoverKind is a sort of thing that a killed run leaves behind.
type LeftoverKind string

const (
	LeftoverProcess LeftoverKind = "process"
	LeftoverCgroup  LeftoverKind = "cgroup"
	LeftoverMount   LeftoverKind = "mount"
	LeftoverTemp    LeftoverKind = "temporary folder"
	LeftoverPin     LeftoverKind = "BPF pin"
	LeftoverNetns   LeftoverKind = "network namespace"
	LeftoverLink    LeftoverKind = "network link"
)

// Leftover is one thing that bears the project's name, and what is known of the
// run that made it. Only what is Dead may be removed.
type Leftover struct {
	Kind LeftoverKind `json:"kind"`
	Name string       `json:"name"` // path, link name, or pid
	PID  int          `json:"pid"`  // of the run that made it
	Live Liveness     `json:"live"`
	Why  string       `json:"why,omitempty"` // of Unknown
}

// String says what it is and whose.
func (l Leftover) String() string {
	s := fmt.Sprintf("%s %s (run %d, %s)", l.Kind, l.Name, l.PID, l.Live)
	if l.Why != "" {
		s += ": " + l.Why
	}
	return s
}

// MarshalText writes the word for the liveness.
func (l Liveness) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// LinkPrefix begins the name of every network link that a run makes in the
// host's namespace: an interface name has at most 15 bytes, so it is short.
const LinkPrefix = "nx"

// LinkName returns a link name of this process; suffix has at most 5 bytes.
func LinkName(suffix string) string { return fmt.Sprintf("%s%d-%s", LinkPrefix, os.Getpid(), suffix) }

func linkPID(name string) (int, bool) {
	rest, ours := strings.CutPrefix(name, LinkPrefix)
	digits, _, dashed := strings.Cut(rest, "-")
	pid, err := strconv.Atoi(digits)
	return pid, ours && dashed && err == nil && pid > 0
}

// leftoversMax bounds a listing; more than that is looked at by the next call.
const leftoversMax = 10_000

// places are where leftovers are looked for.
type places struct {
	cgroup    string // mount point of cgroup2; empty: none
	temps     []string
	pins      string // folder of pins; empty: none
	netns     string
	links     bool
	processes fs.FS
}

// hostPlaces are those of this machine; dirs are further folders in which runs
// were told to keep their temporary ones.
func hostPlaces(dirs []string) (places, error) {
	root := hostRoot()
	mounts, err := readMounts(root)
	if err != nil {
		return places{}, err
	}
	p := places{temps: append(TempBases(), dirs...), netns: "/run/netns", links: true, processes: root}
	if m, found := mountOfType(mounts, "cgroup2"); found {
		p.cgroup = m.Point
	}
	if m, found := mountOfType(mounts, "bpf"); found {
		p.pins = path.Join(m.Point, PinFolder)
	}
	return p, nil
}

// PinFolder lies below the BPF file system and holds every pin of a run in an
// entry named by LeftoverName. What lies there under another name is meant to
// outlive its run.
const PinFolder = "nexus"

// Leftovers lists everything on this machine that bears the project's name, of
// live runs too.
func Leftovers(ctx context.Context, dirs ...string) ([]Leftover, error) {
	p, err := hostPlaces(dirs)
	if err != nil {
		return nil, err
	}
	return p.list(ctx)
}

// list returns the leftovers in the order in which they must go: what runs
// first, then what is mounted, then what holds it.
func (p places) list(ctx context.Context) ([]Leftover, error) {
	temps, err := p.listTemps()
	if err != nil {
		return nil, err
	}
	cgroups, err := p.listCgroups(ctx)
	if err != nil {
		return nil, err
	}
	found := p.listProcesses(temps)
	found = append(found, cgroups...)
	mounts, err := p.listMounts(temps)
	if err != nil {
		return nil, err
	}
	found = append(append(found, mounts...), temps...)
	for kind, folder := range map[LeftoverKind]string{LeftoverPin: p.pins, LeftoverNetns: p.netns} {
		entries, err := p.listNamed(kind, folder)
		if err != nil {
			return nil, err
		}
		found = append(found, entries...)
	}
	links, err := p.listLinks()
	if err != nil {
		return nil, err
	}
	return append(found, links...), ctx.Err()
}

// listTemps judges a temporary folder by its owner file. One without is the
// work of a run that was killed before it wrote the file: then it is empty, and
// its name alone may condemn it.
func (p places) listTemps() ([]Leftover, error) {
	var found []Leftover
	seen := map[string]bool{}
	for _, base := range p.temps {
		entries, err := os.ReadDir(base)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list temporary folders: %w", err)
		}
		for _, e := range entries {
			pid, ours := LeftoverPID(e.Name())
			name := filepath.Join(base, e.Name())
			if !ours || !e.IsDir() || seen[name] || len(found) >= leftoversMax {
				continue
			}
			seen[name] = true
			found = append(found, p.judgeTemp(name, pid))
		}
	}
	return found, nil
}

func (p places) judgeTemp(name string, pid int) Leftover {
	l := Leftover{Kind: LeftoverTemp, Name: name, PID: pid}
	info, err := os.Lstat(name)
	if err != nil {
		l.Why = err.Error()
		return l
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Geteuid() {
		l.Why = "it belongs to another user; run nexus clean as that user"
		return l
	}
	owner, err := ReadOwner(name)
	switch {
	case err == nil && owner.PID != pid:
		l.Why = fmt.Sprintf("its name says run %d, its owner file %d", pid, owner.PID)
	case err == nil:
		l.Live = owner.liveness(p.processes)
		if l.Live == Unknown {
			l.Why = "it was made in another pid namespace"
		}
	case errors.Is(err, fs.ErrNotExist) && emptyButOwnerTemp(name):
		l.Live = p.byPID(pid, info.ModTime())
	default:
		l.Why = "it has things in it and no readable owner file"
	}
	return l
}

func emptyButOwnerTemp(dir string) bool {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, e := range entries {
		if e.Name() != ownerTemp {
			return false
		}
	}
	return true
}

// pidReuseSlack keeps rounding and clock steps from making a run look younger
// than what it made.
const pidReuseSlack = 2 * time.Second

// byPID judges by the pid in a name alone. A process that began clearly after
// the thing was made has inherited the number from the dead one.
func (p places) byPID(pid int, madeAt time.Time) Liveness {
	stat, err := readProcStat(p.processes, pid)
	if errors.Is(err, fs.ErrNotExist) {
		return Dead
	}
	if err != nil {
		return Unknown
	}
	if stat.ended() {
		return Dead
	}
	if !madeAt.IsZero() && processAge(stat)+pidReuseSlack < time.Since(madeAt) {
		return Dead
	}
	return Live
}

// processAge is how long ago a process began, by the clock that its start time
// is given in.
func processAge(stat procStat) time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return time.Duration(1<<63 - 1)
	}
	return time.Duration(now.Nano() - int64(stat.startTicks)*tickNs)
}

// listProcesses finds children that a dead run recorded in its folder.
func (p places) listProcesses(temps []Leftover) []Leftover {
	var found []Leftover
	for _, t := range temps {
		if t.Live != Dead {
			continue
		}
		for _, child := range readChildren(t.Name) {
			if child.liveness(p.processes) == Live {
				found = append(found, Leftover{Kind: LeftoverProcess, Name: strconv.Itoa(child.PID), PID: t.PID, Live: Dead})
			}
		}
	}
	return found
}

// cgroupDepthMax bounds the walk; the kernel's own limit is far above what
// systemd and containers nest.
const cgroupDepthMax = 16

func (p places) listCgroups(ctx context.Context) ([]Leftover, error) {
	if p.cgroup == "" {
		return nil, nil
	}
	var found []Leftover
	err := filepath.WalkDir(p.cgroup, func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return nil // gone meanwhile, or not ours to see
		}
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		if !d.IsDir() || name == p.cgroup {
			return nil
		}
		if pid, ours := LeftoverPID(d.Name()); ours {
			found = append(found, p.judgeCgroup(name, pid))
			return fs.SkipDir
		}
		if strings.Count(strings.TrimPrefix(name, p.cgroup), "/") >= cgroupDepthMax || len(found) >= leftoversMax {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list cgroups: %w", err)
	}
	return found, nil
}

// judgeCgroup leaves a cgroup alone that holds processes which cannot be seen
// from here (cgroup.procs shows them as 0): it belongs to another namespace.
func (p places) judgeCgroup(name string, pid int) Leftover {
	l := Leftover{Kind: LeftoverCgroup, Name: name, PID: pid}
	info, err := os.Stat(name)
	if err != nil {
		l.Why = err.Error()
		return l
	}
	pids, err := cgroupPIDs(name)
	if err != nil {
		l.Why = err.Error()
		return l
	}
	for _, member := range pids {
		if member == 0 {
			l.Why = "it holds processes of another pid namespace"
			return l
		}
	}
	l.Live = p.byPID(pid, info.ModTime())
	return l
}

func cgroupPIDs(name string) ([]int, error) {
	text, err := os.ReadFile(filepath.Join(name, "cgroup.procs"))
	if err != nil {
		return nil, fmt.Errorf("list processes of a cgroup: %w", err)
	}
	var pids []int
	for _, field := range strings.Fields(string(text)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			return nil, fmt.Errorf("list processes of cgroup %s: %w", name, err)
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// listMounts returns the mounts below dead temporary folders, newest first: the
// order in which they come off.
func (p places) listMounts(temps []Leftover) ([]Leftover, error) {
	mounts, err := readMounts(hostRoot())
	if err != nil {
		return nil, err
	}
	var found []Leftover
	for i := len(mounts) - 1; i >= 0; i-- {
		for _, t := range temps {
			if t.Live == Dead && isBelow(mounts[i].Point, t.Name) {
				found = append(found, Leftover{Kind: LeftoverMount, Name: mounts[i].Point, PID: t.PID, Live: Dead})
			}
		}
	}
	return found, nil
}

// listNamed judges the entries of a folder by the pid in their names.
func (p places) listNamed(kind LeftoverKind, folder string) ([]Leftover, error) {
	if folder == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list %ss: %w", kind, err)
	}
	var found []Leftover
	for _, e := range entries {
		pid, ours := LeftoverPID(e.Name())
		if !ours || len(found) >= leftoversMax {
			continue
		}
		l := Leftover{Kind: kind, Name: filepath.Join(folder, e.Name()), PID: pid}
		var madeAt time.Time
		if info, err := e.Info(); err == nil && kind == LeftoverPin {
			madeAt = info.ModTime()
		}
		l.Live = p.byPID(pid, madeAt)
		found = append(found, l)
	}
	return found, nil
}

// listLinks judges veths by the pid in their names; other kinds of link are
// never touched.
func (p places) listLinks() ([]Leftover, error) {
	if !p.links {
		return nil, nil
	}
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list network links: %w", err)
	}
	var found []Leftover
	for _, link := range links {
		name := link.Attrs().Name
		pid, ours := linkPID(name)
		if !ours || link.Type() != "veth" {
			continue
		}
		found = append(found, Leftover{Kind: LeftoverLink, Name: name, PID: pid, Live: p.byPID(pid, time.Time{})})
	}
	sort.Slice(found, func(i, j int) bool { return found[i].Name < found[j].Name })
	return found, nil
}
