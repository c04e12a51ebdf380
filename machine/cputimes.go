package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"sort"
	"strconv"
	"strings"
)

// cpuTime is one line of /proc/stat, ns since boot, proc_stat(5). Guest time is
// already inside user and nice.
type cpuTime struct {
	busyNs, interruptNs, stealNs int64
}

// cpuTimes is /proc/stat by CPU.
type cpuTimes map[int]cpuTime

func (t cpuTimes) online() []int {
	cpus := make([]int, 0, len(t))
	for c := range t {
		cpus = append(cpus, c)
	}
	sort.Ints(cpus)
	return cpus
}

func readCPUTimes(root fs.FS) (cpuTimes, error) {
	text, err := readText(root, "proc/stat")
	if err != nil {
		return nil, fmt.Errorf("read /proc/stat: %w", err)
	}
	times, err := parseCPUTimes(text)
	if err != nil {
		return nil, fmt.Errorf("read /proc/stat: %w", err)
	}
	return times, nil
}

func parseCPUTimes(text string) (cpuTimes, error) {
	times := cpuTimes{}
	for _, line := range strings.Split(text, "\n") {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] == "cpu" || !strings.HasPrefix(fields[0], "cpu") {
			continue
		}
		cpu, err := strconv.Atoi(fields[0][len("cpu"):])
		if err != nil || cpu < 0 || cpu >= cpusMax {
			return nil, fmt.Errorf("line %q: no CPU number", line)
		}
		// user nice system idle iowait irq softirq steal
		var ns [8]int64
		if len(fields) < 1+len(ns) {
			return nil, fmt.Errorf("line %q: too few fields", line)
		}
		for i := range ns {
			ticks, err := strconv.ParseInt(fields[1+i], 10, 64)
			if err != nil || ticks < 0 {
				return nil, fmt.Errorf("line %q: field %d is no count", line, i+1)
			}
			ns[i] = ticks * tickNs
		}
		times[cpu] = cpuTime{busyNs: ns[0] + ns[1] + ns[2], interruptNs: ns[5] + ns[6], stealNs: ns[7]}
	}
	if len(times) == 0 {
		return nil, errors.New("no CPU lines")
	}
	return times, nil
}

// addTimes sums what passed between two readings. A CPU that went offline or
// came back in between counts from zero; a counter never counts backwards.
func (r *Readings) addTimes(before, after cpuTimes, watched []int) {
	for cpu, now := range after {
		was := before[cpu]
		r.StealNs += max(0, now.stealNs-was.stealNs)
	}
	for _, cpu := range watched {
		was, now := before[cpu], after[cpu]
		steal := max(0, now.stealNs-was.stealNs)
		r.StealOwnNs += steal
		if steal > r.StealWorstNs {
			r.StealWorstNs, r.StealWorstCPU = steal, cpu
		}
		r.BusyNs += max(0, now.busyNs-was.busyNs)
		r.InterruptNs += max(0, now.interruptNs-was.interruptNs)
	}
}
