package scenarios

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/nexuscore-labs/nexus/machine"
	"github.com/nexuscore-labs/nexus/reports"
)

// tickNs is the unit of CPU time in /proc: USER_HZ is 100 on every Linux that
// Go runs on.
const tickNs = 10_000_000

// usage is what a contender's processes have used so far. Threads and
// processes that have ended are missing from all but the CPU time and the I/O,
// so differences are taken while they live.
type usage struct {
	reports.Resources
	unseen []string // what could not be read, and so counts nothing
}

// readUsage sums over the processes of the cgroup, or takes pid alone where
// there is none.
func readUsage(pid int, group *machine.Cgroup) (usage, error) {
	pids := []int{pid}
	if group != nil {
		text, err := os.ReadFile(filepath.Join(group.Path, "cgroup.procs"))
		if err != nil {
			return usage{}, fmt.Errorf("list the contender's processes: %w", err)
		}
		pids = pids[:0]
		for _, field := range strings.Fields(string(text)) {
			if p, err := strconv.Atoi(field); err == nil {
				pids = append(pids, p)
			}
		}
	}
	var sum usage
	for _, p := range pids {
		if err := sum.addProcess(p); err != nil {
			return usage{}, err
		}
	}
	if group != nil {
		user, system, err := group.CPUTime()
		if err != nil {
			return usage{}, err
		}
		sum.UserNs, sum.SystemNs = user.Nanoseconds(), system.Nanoseconds()
	}
	return sum, nil
}

// addProcess reads /proc/<pid>, proc(5).
func (u *usage) addProcess(pid int) error {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	text, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return fmt.Errorf("read the contender's usage: %w", err)
	}
	// The command name may hold spaces and brackets: count from behind it.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 13 {
		return fmt.Errorf("read the contender's usage: %s/stat has %d fields", dir, len(fields))
	}
	u.MinorFaults += number(fields[7])
	u.MajorFaults += number(fields[9])
	u.UserNs += number(fields[11]) * tickNs
	u.SystemNs += number(fields[12]) * tickNs

	status, err := keyedNumbers(filepath.Join(dir, "status"))
	u.missed("the contenders' memory (shown as 0)", err)
	u.RSSMaxBytes += status["VmHWM"] << 10 // given in KiB
	io, err := keyedNumbers(filepath.Join(dir, "io"))
	u.missed("the bytes that contenders read and wrote (shown as 0)", err)
	u.ReadBytes += io["read_bytes"]
	u.WriteBytes += io["write_bytes"]
	tasks, err := filepath.Glob(filepath.Join(dir, "task", "*", "status"))
	if err != nil {
		return fmt.Errorf("list the contender's threads: %w", err)
	}
	for _, task := range tasks {
		status, err := keyedNumbers(task)
		if err != nil {
			continue // the thread has ended
		}
		u.VoluntarySwitches += status["voluntary_ctxt_switches"]
		u.InvoluntarySwitches += status["nonvoluntary_ctxt_switches"]
	}
	return nil
}

// missed notes what could not be read. The message holds no path, so that the
// same gap of many trials is one note.
func (u *usage) missed(what string, err error) {
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	if err != nil {
		u.unseen = append(u.unseen, fmt.Sprintf("%s: %v", what, err))
	}
}

// keyedNumbers reads lines of the form "key: number …".
func keyedNumbers(path string) (map[string]int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	out := map[string]int64{}
	for _, line := range strings.Split(string(text), "\n") {
		key, rest, _ := strings.Cut(line, ":")
		if fields := strings.Fields(rest); len(fields) > 0 {
			out[key] = number(fields[0])
		}
	}
	return out, nil
}

func number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// since returns what was used between two readings; the peak of memory is that
// of the whole life.
func (u usage) since(before usage) reports.Resources {
	d := func(after, before int64) int64 { return max(0, after-before) }
	return reports.Resources{
		UserNs:              d(u.UserNs, before.UserNs),
		SystemNs:            d(u.SystemNs, before.SystemNs),
		PacketNs:            d(u.PacketNs, before.PacketNs),
		RSSMaxBytes:         u.RSSMaxBytes,
		VoluntarySwitches:   d(u.VoluntarySwitches, before.VoluntarySwitches),
		InvoluntarySwitches: d(u.InvoluntarySwitches, before.InvoluntarySwitches),
		MinorFaults:         d(u.MinorFaults, before.MinorFaults),
		MajorFaults:         d(u.MajorFaults, before.MajorFaults),
		ReadBytes:           d(u.ReadBytes, before.ReadBytes),
		WriteBytes:          d(u.WriteBytes, before.WriteBytes),
	}
}
