package machine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// OwnerFile is the name of the file in a temporary folder that says which
// process made it. Clean removes a folder only when that process is gone.
const OwnerFile = ".nexus-owner.json"

// ownerTemp is the name under which the owner file is written before it is
// renamed; a run killed in between leaves it alone in its folder.
const ownerTemp = OwnerFile + ".tmp"

// ownerFileBytesMax bounds what is read of an owner file.
const ownerFileBytesMax = 4096

// Owner identifies one process for ever: a pid alone is reused, so its start
// time, the boot and the pid namespace belong to it.
type Owner struct {
	PID        int    `json:"pid"`
	StartTicks uint64 `json:"start_ticks"` // clock ticks after boot, field 22 of /proc/<pid>/stat, proc(5)
	BootID     string `json:"boot_id"`     // /proc/sys/kernel/random/boot_id
	PIDNS      string `json:"pid_ns"`      // pid:[inode]; pids of another namespace mean nothing here
}

// Liveness is what can be said of an owner.
type Liveness uint8

const (
	// Unknown is an owner of another pid namespace or one that cannot be read:
	// what it owns must be left alone.
	Unknown Liveness = iota
	// Live is a running process.
	Live
	// Dead is a process that has ended, also when its pid is in use again.
	Dead
)

// String returns the word for the liveness.
func (l Liveness) String() string {
	switch l {
	case Live:
		return "live"
	case Dead:
		return "dead"
	default:
		return "unknown"
	}
}

// Self returns the calling process as an owner.
func Self() (Owner, error) { return OwnerOf(os.Getpid()) }

// OwnerOf identifies the running process pid. It fails with fs.ErrNotExist when
// there is none.
func OwnerOf(pid int) (Owner, error) { return ownerOf(hostRoot(), pid) }

func ownerOf(root fs.FS, pid int) (Owner, error) {
	stat, err := readProcStat(root, pid)
	if err != nil {
		return Owner{}, err
	}
	boot, err := readLine(root, "proc/sys/kernel/random/boot_id")
	if err != nil {
		return Owner{}, fmt.Errorf("read boot id: %w", err)
	}
	ns, err := fs.ReadLink(root, "proc/self/ns/pid")
	if err != nil {
		return Owner{}, fmt.Errorf("read pid namespace: %w", err)
	}
	return Owner{PID: pid, StartTicks: stat.startTicks, BootID: boot, PIDNS: ns}, nil
}

// Liveness says whether the owner still runs. A zombie counts as dead: it holds
// nothing any more and only waits for its parent.
func (o Owner) Liveness() Liveness { return o.liveness(hostRoot()) }

func (o Owner) liveness(root fs.FS) Liveness {
	if o.PID <= 0 || o.BootID == "" {
		return Unknown
	}
	boot, err := readLine(root, "proc/sys/kernel/random/boot_id")
	if err != nil {
		return Unknown
	}
	if boot != o.BootID {
		return Dead
	}
	ns, err := fs.ReadLink(root, "proc/self/ns/pid")
	if err != nil || ns != o.PIDNS {
		return Unknown
	}
	stat, err := readProcStat(root, o.PID)
	if errors.Is(err, fs.ErrNotExist) {
		return Dead
	}
	if err != nil {
		return Unknown
	}
	if stat.startTicks != o.StartTicks || stat.ended() {
		return Dead
	}
	return Live
}

// WriteOwner marks dir as made by the calling process. The file appears whole
// or not at all.
func WriteOwner(dir string) error {
	owner, err := Self()
	if err != nil {
		return fmt.Errorf("identify own process: %w", err)
	}
	data, err := json.Marshal(owner)
	if err != nil {
		return fmt.Errorf("encode owner: %w", err)
	}
	temp := filepath.Join(dir, ownerTemp)
	if err := os.WriteFile(temp, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write owner file: %w", err)
	}
	if err := os.Rename(temp, filepath.Join(dir, OwnerFile)); err != nil {
		return fmt.Errorf("place owner file: %w", err)
	}
	return nil
}

// ReadOwner reads the owner file of dir.
func ReadOwner(dir string) (Owner, error) {
	return readOwner(os.DirFS(dir), OwnerFile)
}

func readOwner(root fs.FS, name string) (Owner, error) {
	data, err := readBounded(root, name, ownerFileBytesMax)
	if err != nil {
		return Owner{}, fmt.Errorf("read owner file: %w", err)
	}
	return parseOwner(data)
}

func parseOwner(data []byte) (Owner, error) {
	var owner Owner
	if err := json.Unmarshal(data, &owner); err != nil {
		return Owner{}, fmt.Errorf("decode owner file: %w", err)
	}
	if owner.PID <= 0 || owner.BootID == "" || owner.PIDNS == "" {
		return Owner{}, errors.New("decode owner file: pid, boot_id or pid_ns is missing")
	}
	return owner, nil
}

// procStat holds the fields of /proc/<pid>/stat that matter here, proc(5).
type procStat struct {
	state      byte
	parent     int
	userTicks  uint64
	sysTicks   uint64
	startTicks uint64
}

func (s procStat) ended() bool { return s.state == 'Z' || s.state == 'X' || s.state == 'x' }

func readProcStat(root fs.FS, pid int) (procStat, error) {
	name := "proc/" + strconv.Itoa(pid) + "/stat"
	data, err := readBounded(root, name, 4096)
	if err != nil {
		return procStat{}, fmt.Errorf("read /%s: %w", name, err)
	}
	stat, err := parseProcStat(string(data))
	if err != nil {
		return procStat{}, fmt.Errorf("read /%s: %w", name, err)
	}
	return stat, nil
}

// parseProcStat reads the line from behind the last ')': the command name
// before it may hold spaces and parentheses.
func parseProcStat(line string) (procStat, error) {
	end := strings.LastIndexByte(line, ')')
	if end < 0 {
		return procStat{}, errors.New("no command name")
	}
	fields := strings.Fields(line[end+1:])
	if len(fields) < 20 || len(fields[0]) != 1 {
		return procStat{}, fmt.Errorf("%d fields behind the command name, want at least 20", len(fields))
	}
	stat := procStat{state: fields[0][0]}
	var err error
	if stat.parent, err = strconv.Atoi(fields[1]); err != nil {
		return procStat{}, fmt.Errorf("parent: %w", err)
	}
	for _, f := range []struct {
		into  *uint64
		index int
	}{{&stat.userTicks, 11}, {&stat.sysTicks, 12}, {&stat.startTicks, 19}} {
		if *f.into, err = strconv.ParseUint(fields[f.index], 10, 64); err != nil {
			return procStat{}, fmt.Errorf("field %d: %w", f.index+3, err)
		}
	}
	return stat, nil
}
