package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"sort"
	"strconv"
	"strings"
	"time"
)

// threadsMax bounds a census; what is beyond it is not counted, and the census
// says so.
const threadsMax = 50_000

// kernelThread is PF_KTHREAD in the flags of proc_pid_stat(5).
const kernelThread = 0x00200000

// Census is who runs on this machine and what each has used so far, as far as
// /proc shows it: in a container of its own that is the container. The kernel's
// threads are left out: they work for whoever asked, the contender included.
//
// Two of them give the load of others exactly, in the scheduler's nanoseconds,
// where the ticks of /proc/stat are a sample: 60 ticks in a trial of 240 ms
// scatter by some 6%, more than the limit that is to be judged.
type Census struct {
	takenAt   time.Time
	threads   map[int]thread  // by tid
	processes map[int]process // by pid
	online    int             // CPUs
	cut       bool            // threadsMax was reached
}

type thread struct {
	pid, cpu   int
	ranNs      int64
	startTicks uint64
}

type process struct {
	name       string
	parent     int
	ranNs      int64 // its own, in ticks
	reapedNs   int64 // of the children that it waited for, in ticks
	startTicks uint64
}

// TakeCensus looks at every process. It fails when /proc can't be listed;
// processes that end meanwhile are left out.
func TakeCensus() (*Census, error) { return takeCensus(hostRoot()) }

func takeCensus(root fs.FS) (*Census, error) {
	entries, err := fs.ReadDir(root, "proc")
	if err != nil {
		return nil, fmt.Errorf("take a census: %w", err)
	}
	times, err := readCPUTimes(root)
	if err != nil {
		return nil, fmt.Errorf("take a census: %w", err)
	}
	c := &Census{takenAt: time.Now(), threads: map[int]thread{}, processes: map[int]process{}, online: len(times)}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			c.add(root, pid)
		}
	}
	return c, nil
}

func (c *Census) add(root fs.FS, pid int) {
	dir := "proc/" + strconv.Itoa(pid)
	line, err := readTaskStat(root, dir)
	if err != nil || line.flags&kernelThread != 0 {
		return
	}
	c.processes[pid] = process{
		name: line.name, parent: line.parent, startTicks: line.startTicks,
		ranNs: int64(line.userTicks+line.sysTicks) * tickNs, reapedNs: line.reapedTicks * tickNs,
	}
	if line.threads == 1 {
		c.addThread(root, dir, pid, pid, line)
		return
	}
	tasks, err := fs.ReadDir(root, dir+"/task")
	if err != nil {
		return
	}
	for _, t := range tasks {
		below := dir + "/task/" + t.Name()
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			continue
		}
		if line, err := readTaskStat(root, below); err == nil {
			c.addThread(root, below, pid, tid, line)
		}
	}
}

func (c *Census) addThread(root fs.FS, dir string, pid, tid int, line taskStat) {
	if len(c.threads) >= threadsMax {
		c.cut = true
		return
	}
	t := thread{pid: pid, cpu: line.cpu, startTicks: line.startTicks, ranNs: int64(line.userTicks+line.sysTicks) * tickNs}
	// Time on a CPU, time in a run queue, number of stays; only with CONFIG_SCHED_INFO.
	if text, err := readLine(root, dir+"/schedstat"); err == nil {
		first, _, _ := strings.Cut(text, " ")
		if ns, err := strconv.ParseInt(first, 10, 64); err == nil {
			t.ranNs = ns
		}
	}
	c.threads[tid] = t
}

// taskStat is what a census takes of proc_pid_stat(5).
type taskStat struct {
	procStat
	name        string
	flags       uint64
	reapedTicks int64 // user and system time of the children that were waited for
	threads     int
	cpu         int // that it last ran on
}

func readTaskStat(root fs.FS, dir string) (taskStat, error) {
	data, err := readBounded(root, dir+"/stat", 4096)
	if err != nil {
		return taskStat{}, err
	}
	return parseTaskStat(string(data))
}

func parseTaskStat(line string) (taskStat, error) {
	known, err := parseProcStat(line)
	if err != nil {
		return taskStat{}, err
	}
	open, end := strings.IndexByte(line, '('), strings.LastIndexByte(line, ')')
	fields := strings.Fields(line[end+1:])
	if open < 0 || open > end || len(fields) < 37 {
		return taskStat{}, errors.New("too few fields")
	}
	out := taskStat{procStat: known, name: line[open+1 : end]}
	var numbers [5]int64
	for i, field := range []int{6, 13, 14, 17, 36} {
		if numbers[i], err = strconv.ParseInt(fields[field], 10, 64); err != nil {
			return taskStat{}, fmt.Errorf("field %d: %w", field+3, err)
		}
	}
	out.flags, out.reapedTicks = uint64(numbers[0]), max(0, numbers[1])+max(0, numbers[2])
	out.threads, out.cpu = int(numbers[3]), int(numbers[4])
	return out, nil
}

// Complete reports whether the census saw everything that runs here: /proc can
// hide other users' processes, and a census is bounded.
func (c *Census) Complete() bool {
	_, first := c.processes[1]
	return first && !c.cut
}

// ProcessLoad is one process that ran on watched CPUs.
type ProcessLoad struct {
	PID  int
	Name string // of its main thread; as a parent, "children of …"
	Ns   int64
}

func (p ProcessLoad) String() string { return fmt.Sprintf("%s (pid %d)", p.Name, p.PID) }

// OtherLoad is what others than the experiment used of a set of CPUs.
type OtherLoad struct {
	ElapsedNs int64
	Ns        int64
	Processes []ProcessLoad // the largest first
}

// Share is the load as a share of the time of so many CPUs, 1 at most: threads
// that moved count to one CPU as a whole, and may seem to have used more.
func (o *OtherLoad) Share(cpus int) float64 {
	if o.ElapsedNs <= 0 || cpus <= 0 {
		return 0
	}
	return min(1, float64(o.Ns)/float64(o.ElapsedNs)/float64(cpus))
}

// Until returns what others used of the CPUs between two censuses. own are the
// processes of the experiment; family are those whose descendants belong to it
// too. A thread counts to the CPU that it was last seen on. The children that a
// process waited for in between are charged to it; where they ran is not known,
// so they count by the CPUs' share of the machine.
func (c *Census) Until(after *Census, cpus []int, own, family []int) OtherLoad {
	load := OtherLoad{ElapsedNs: after.takenAt.Sub(c.takenAt).Nanoseconds()}
	watched := map[int]bool{}
	for _, cpu := range cpus {
		watched[cpu] = true
	}
	ours := after.members(own, family)
	byPID := map[int]int64{}
	for tid, now := range after.threads {
		if ours[now.pid] || !watched[now.cpu] {
			continue
		}
		ran := now.ranNs
		if was, known := c.threads[tid]; known && was.startTicks == now.startTicks {
			ran -= was.ranNs
		}
		if ran > 0 {
			byPID[now.pid] += min(ran, load.ElapsedNs)
		}
	}
	for pid, ns := range byPID {
		load.Processes = append(load.Processes, ProcessLoad{PID: pid, Name: after.processes[pid].name, Ns: ns})
	}
	for pid, ns := range c.reaped(after, ours) {
		if part := ns * int64(len(cpus)) / int64(max(1, after.online)); part > 0 {
			load.Processes = append(load.Processes, ProcessLoad{PID: pid, Name: "children of " + after.processes[pid].name, Ns: part})
		}
	}
	for _, p := range load.Processes {
		load.Ns += p.Ns
	}
	sort.Slice(load.Processes, func(i, j int) bool {
		a, b := load.Processes[i], load.Processes[j]
		return a.Ns > b.Ns || a.Ns == b.Ns && a.PID < b.PID
	})
	return load
}

// members are the processes of the experiment.
func (c *Census) members(own, family []int) map[int]bool {
	ours, heads := map[int]bool{}, map[int]bool{}
	for _, pid := range own {
		ours[pid] = true
	}
	for _, pid := range family {
		ours[pid], heads[pid] = true, true
	}
	for pid := range c.processes {
		at := pid
		for range len(c.processes) {
			if heads[at] {
				ours[pid] = true
				break
			}
			p, known := c.processes[at]
			if !known {
				break
			}
			at = p.parent
		}
	}
	return ours
}

// reaped is what children that ended in between used in between, by the
// process that waited for them.
func (c *Census) reaped(after *Census, ours map[int]bool) map[int]int64 {
	out := map[int]int64{}
	for pid, now := range after.processes {
		was, known := c.processes[pid]
		if known && was.startTicks == now.startTicks && !ours[pid] && now.reapedNs > was.reapedNs {
			out[pid] = now.reapedNs - was.reapedNs
		}
	}
	for pid, was := range c.processes { // what they had used before doesn't count
		if now, alive := after.processes[pid]; alive && now.startTicks == was.startTicks {
			continue
		}
		if _, charged := out[was.parent]; charged {
			out[was.parent] -= was.ranNs + was.reapedNs
		}
	}
	return out
}
