// Package perfcounters counts with perf_event_open(2) for one cgroup: hardware
// events where a PMU is, software events always.
package perfcounters

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/bpf/attach"
	"github.com/nexuscore-labs/nexus/bpf/probe"
)

// NoHardware says why hardware events are missing from a Reading.
const NoHardware = "hardware counters: no hardware counters on this machine"

type event struct {
	label  string
	unit   string
	kind   uint32
	config uint64
}

// cacheMiss is the config of read misses of one cache, as perf_event_open(2)
// composes it: cache | operation << 8 | result << 16.
func cacheMiss(cache uint64) uint64 {
	return cache | unix.PERF_COUNT_HW_CACHE_OP_READ<<8 | unix.PERF_COUNT_HW_CACHE_RESULT_MISS<<16
}

var software = []event{
	{"cpu time", "ns", unix.PERF_TYPE_SOFTWARE, unix.PERF_COUNT_SW_TASK_CLOCK},
	{"context switches", "count", unix.PERF_TYPE_SOFTWARE, unix.PERF_COUNT_SW_CONTEXT_SWITCHES},
	{"cpu migrations", "count", unix.PERF_TYPE_SOFTWARE, unix.PERF_COUNT_SW_CPU_MIGRATIONS},
	{"minor faults", "count", unix.PERF_TYPE_SOFTWARE, unix.PERF_COUNT_SW_PAGE_FAULTS_MIN},
	{"major faults", "count", unix.PERF_TYPE_SOFTWARE, unix.PERF_COUNT_SW_PAGE_FAULTS_MAJ},
}

var hardware = []event{
	{"cycles", "count", unix.PERF_TYPE_HARDWARE, unix.PERF_COUNT_HW_CPU_CYCLES},
	{"instructions", "count", unix.PERF_TYPE_HARDWARE, unix.PERF_COUNT_HW_INSTRUCTIONS},
	{"cache misses", "count", unix.PERF_TYPE_HARDWARE, unix.PERF_COUNT_HW_CACHE_MISSES},
	{"branch misses", "count", unix.PERF_TYPE_HARDWARE, unix.PERF_COUNT_HW_BRANCH_MISSES},
	{"dTLB read misses", "count", unix.PERF_TYPE_HW_CACHE, cacheMiss(unix.PERF_COUNT_HW_CACHE_DTLB)},
}

// counter is one event on one CPU.
type counter struct {
	event int
	fd    int
}

// Probe holds what can be counted here. See probe.Probe.
type Probe struct {
	attached *attach.Attached
	events   []event
	absent   []string
	cpus     []int
	open     []counter
}

// Open finds out which events exist; nothing is counted until Start. It fails
// where even software events are refused.
func Open(opts probe.Options) (*Probe, error) {
	if opts.Rung != "" && opts.Rung != attach.PerfEvent {
		return nil, fmt.Errorf("open the perf counters: %w: they have no rung %q", attach.ErrNoRung, opts.Rung)
	}
	cpus, err := onlineCPUs()
	if err != nil {
		return nil, err
	}
	p := &Probe{cpus: cpus, attached: &attach.Attached{Rung: attach.PerfEvent}}
	for _, e := range software {
		if err := try(e); err != nil {
			return nil, fmt.Errorf("open the perf counters: %s: %w", e.label, err)
		}
		p.add(e)
	}
	if err := try(hardware[0]); err != nil {
		p.absent = append(p.absent, fmt.Sprintf("%s (%v)", NoHardware, err))
		return p, nil
	}
	for _, e := range hardware {
		if err := try(e); err != nil {
			p.absent = append(p.absent, fmt.Sprintf("%s: this machine's PMU does not count them (%v)", e.label, err))
			continue
		}
		p.add(e)
	}
	return p, nil
}

// OpenHardware is Open without the software events, and fails where there is no
// PMU. Events of a cgroup are taken out and put in whenever a CPU changes between
// cgroups, about a microsecond each time; what the software events count is known
// from /proc and from other probes for less.
func OpenHardware(opts probe.Options) (*Probe, error) {
	p, err := Open(opts)
	if err != nil {
		return nil, err
	}
	if len(p.events) == len(software) {
		return nil, errors.New(p.absent[0])
	}
	p.events = p.events[len(software):]
	p.attached.Programs = p.attached.Programs[len(software):]
	return p, nil
}

func (p *Probe) add(e event) {
	p.events = append(p.events, e)
	p.attached.Programs = append(p.attached.Programs,
		attach.Program{Name: e.label, Target: e.label, Rung: attach.PerfEvent})
}

// try opens the event on the calling process and closes it again.
func try(e event) error {
	fd, err := unix.PerfEventOpen(attr(e), 0, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func attr(e event) *unix.PerfEventAttr {
	return &unix.PerfEventAttr{
		Type:        e.kind,
		Size:        uint32(unsafe.Sizeof(unix.PerfEventAttr{})),
		Config:      e.config,
		Read_format: unix.PERF_FORMAT_TOTAL_TIME_ENABLED | unix.PERF_FORMAT_TOTAL_TIME_RUNNING,
		Bits:        unix.PerfBitDisabled,
	}
}

// Attached names the events that are counted.
func (p *Probe) Attached() *attach.Attached { return p.attached }

// Start opens each event for the cgroup on every CPU and enables it.
func (p *Probe) Start(cgroupID uint64) error {
	if err := p.Close(); err != nil {
		return err
	}
	dir, err := openCgroup(cgroupID)
	if err != nil {
		return fmt.Errorf("start the perf counters: %w", err)
	}
	defer unix.Close(dir)
	for i, e := range p.events {
		for _, cpu := range p.cpus {
			fd, err := unix.PerfEventOpen(attr(e), dir, cpu, -1, unix.PERF_FLAG_PID_CGROUP|unix.PERF_FLAG_FD_CLOEXEC)
			if err != nil {
				return errors.Join(fmt.Errorf("count %s of a cgroup on CPU %d: %w", e.label, cpu, err), p.Close())
			}
			p.open = append(p.open, counter{i, fd})
		}
	}
	return p.Resume()
}

// Resume goes on counting after Disable.
func (p *Probe) Resume() error { return p.control(unix.PERF_EVENT_IOC_ENABLE, "enable") }

// Disable ends counting.
func (p *Probe) Disable() error { return p.control(unix.PERF_EVENT_IOC_DISABLE, "disable") }

func (p *Probe) control(request uint, verb string) error {
	for _, c := range p.open {
		if err := unix.IoctlSetInt(c.fd, request, 0); err != nil {
			return fmt.Errorf("%s the counter of %s: %w", verb, p.events[c.event].label, err)
		}
	}
	return nil
}

// Read returns the counts since Start, summed over the CPUs. An event that had
// to share the PMU is scaled up by the time that it was counted.
func (p *Probe) Read() (probe.Reading, error) {
	sums := make([]float64, len(p.events))
	for _, c := range p.open {
		value, err := read(c.fd)
		if err != nil {
			return probe.Reading{}, fmt.Errorf("read the counter of %s: %w", p.events[c.event].label, err)
		}
		sums[c.event] += value
	}
	reading := probe.Reading{NotMeasured: p.absent}
	for i, e := range p.events {
		reading.Counters = append(reading.Counters,
			probe.Counter{Probe: "perf", Label: e.label, Value: sums[i], Unit: e.unit})
	}
	return reading, nil
}

func read(fd int) (float64, error) {
	var raw [24]byte // value, time enabled, time running
	n, err := unix.Read(fd, raw[:])
	if err != nil {
		return 0, err
	}
	if n != len(raw) {
		return 0, fmt.Errorf("short read of %d bytes", n)
	}
	value := float64(binary.NativeEndian.Uint64(raw[0:]))
	enabled := binary.NativeEndian.Uint64(raw[8:])
	running := binary.NativeEndian.Uint64(raw[16:])
	if running == 0 {
		return 0, nil // the cgroup never ran on this CPU
	}
	return value * float64(enabled) / float64(running), nil
}

// Close ends counting and closes the counters; Start may be called again.
func (p *Probe) Close() error {
	var errs []error
	for _, c := range p.open {
		errs = append(errs, unix.Close(c.fd))
	}
	p.open = nil
	return errors.Join(errs...)
}

// fileidKernfs is FILEID_KERNFS of linux/exportfs.h: a handle made of the id.
const fileidKernfs = 0xfe

// openCgroup opens the folder of the cgroup with the given id.
func openCgroup(id uint64) (int, error) {
	root, err := cgroup2Mount()
	if err != nil {
		return -1, err
	}
	mount, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", root, err)
	}
	defer unix.Close(mount)
	handle := unix.NewFileHandle(fileidKernfs, binary.NativeEndian.AppendUint64(nil, id))
	fd, err := unix.OpenByHandleAt(mount, handle, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("open the cgroup with id %d under %s: %w", id, root, err)
	}
	return fd, nil
}

// cgroup2Mount finds the v2 hierarchy; see proc_pid_mountinfo(5).
func cgroup2Mount() (string, error) {
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("list mounts: %w", err)
	}
	for line := range strings.Lines(string(raw)) {
		mount, fs, found := strings.Cut(line, " - ")
		fields := strings.Fields(mount)
		if found && strings.HasPrefix(fs, "cgroup2 ") && len(fields) > 4 {
			return fields[4], nil
		}
	}
	return "", errors.New("no cgroup2 file system is mounted")
}

// onlineCPUs parses the kernel's list format, such as "0-3,5".
func onlineCPUs() ([]int, error) {
	const path = "/sys/devices/system/cpu/online"
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("list CPUs: %w", err)
	}
	cpus, err := parseCPUs(strings.TrimSpace(string(raw)))
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", path, err)
	}
	return cpus, nil
}

// cpuMax bounds a CPU number; it is the kernel's own limit, CONFIG_NR_CPUS.
const cpuMax = 8192

func parseCPUs(list string) ([]int, error) {
	var cpus []int
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		lo, err := strconv.ParseUint(first, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("CPU list %q: %w", list, err)
		}
		hi, err := strconv.ParseUint(last, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("CPU list %q: %w", list, err)
		}
		if lo > hi || hi >= cpuMax || len(cpus)+int(hi-lo) >= cpuMax {
			return nil, fmt.Errorf("CPU list %q: range %s", list, part)
		}
		for cpu := lo; cpu <= hi; cpu++ {
			cpus = append(cpus, int(cpu))
		}
	}
	return cpus, nil
}
