package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// SamplerOptions says what a Sampler watches.
type SamplerOptions struct {
	CPUs     []int         // watched for load and frequency; empty: all online ones
	Interval time.Duration // between looks at clocks and frequencies; default 50 ms
	// OwnNs, if set, returns the CPU time so far of everything whose load on
	// CPUs is meant to be there, ns; ProcessCPUNs and CgroupCPUNs help. Without
	// it the calling process counts as own.
	OwnNs func() (int64, error)
	// Root is where the machine's files are looked for, and Clocks what its
	// clocks are read with; the zero values are this machine's. Tests put
	// another machine in its place.
	Root   fs.FS
	Clocks func() (Clocks, error)
}

// Readings is what disturbed the watched CPUs between Start and Stop.
type Readings struct {
	ElapsedNs  int64
	StealNs    int64 // taken by the hypervisor from all CPUs, proc_stat(5)
	StealOwnNs int64 // of it, from the watched CPUs
	// StealWorstNs is what was taken from StealWorstCPU, the watched CPU that
	// lost most.
	StealWorstNs  int64
	StealWorstCPU int
	BusyNs        int64 // user, nice and system time of the watched CPUs
	InterruptNs   int64 // hard and soft interrupts on them
	OtherLoadNs   int64 // BusyNs less own; the kernel's own threads (journal, writeback) are in it
	FrequencyKHz  [2]int64
	// FrequencyChanges counts looks at which a watched CPU's frequency differed
	// from the look before by more than 2%; -1 when no frequency is visible.
	FrequencyChanges int
	// FrequencyBusyKHz are the slowest and the fastest that one watched CPU ran
	// at while it was busy, of the CPU with the widest range; an idle CPU's
	// frequency says nothing about what runs on it. Zero when not visible.
	FrequencyBusyKHz [2]int64
	FrequencyBusyCPU int
	ThrottleEvents   int64     // thermal, -1 when not visible
	ClockJumps       int       // looks at which wall and monotonic clock had drifted apart by more than 1 ms
	ClockJumpNsMax   int64     // the largest, either direction
	SuspendedNs      int64     // boottime less monotonic
	ClockSource      [2]string // at Start and Stop
	NotMeasured      []string  // what this machine does not show
	Invalid          []string  // reasons that hold on any machine: clock jumps, suspension, changed clock source, throttling, changed frequency
}

// tickNs is the unit of /proc/stat and /proc/<pid>/stat: USER_HZ is 100 on
// every Linux architecture that Go supports.
const tickNs = 10_000_000

const (
	samplerIntervalDefault = 50 * time.Millisecond
	clockJumpNs            = 1_000_000
	frequencyChangeShare   = 0.02
	// FrequencyRangeMax is how much slower a busy CPU may get, as a share of its
	// fastest. One change in the middle of a trial then moves its mean rate by
	// half of it, 5%, which is the least effect that gates judge.
	FrequencyRangeMax = 0.1
)

// Sampler watches the machine during a trial. Start, then Stop, from one
// goroutine; it looks around in one of its own in between.
type Sampler struct {
	root    fs.FS
	clocks  func() (Clocks, error)
	options SamplerOptions

	before    cpuTimes
	ownBefore int64
	throttle  int64
	started   Clocks
	source    string

	mu       sync.Mutex
	last     Clocks
	lastKHz  map[int]int64
	lastBusy cpuTimes // nil where no frequency is visible
	busyKHz  map[int][2]int64
	readings Readings

	stop chan struct{}
	done chan struct{}
}

// NewSampler makes a sampler of this machine.
func NewSampler(options SamplerOptions) *Sampler {
	if options.Interval <= 0 {
		options.Interval = samplerIntervalDefault
	}
	if options.OwnNs == nil {
		options.OwnNs = func() (int64, error) { return ProcessCPUNs(os.Getpid()) }
	}
	if options.Root == nil {
		options.Root = hostRoot()
	}
	if options.Clocks == nil {
		options.Clocks = readClocks
	}
	return &Sampler{root: options.Root, clocks: options.Clocks, options: options}
}

// Start takes the first readings. It fails when /proc/stat can't be read.
func (s *Sampler) Start() error {
	if s.stop != nil {
		return errors.New("start sampler: already started")
	}
	if err := s.begin(); err != nil {
		return fmt.Errorf("start sampler: %w", err)
	}
	s.stop, s.done = make(chan struct{}), make(chan struct{})
	go s.watch()
	return nil
}

// Stop takes the last readings and returns the difference. The sampler can be
// started again.
func (s *Sampler) Stop() (Readings, error) {
	if s.stop == nil {
		return Readings{}, errors.New("stop sampler: not started")
	}
	close(s.stop)
	<-s.done
	s.stop, s.done = nil, nil
	r, err := s.end()
	if err != nil {
		return Readings{}, fmt.Errorf("stop sampler: %w", err)
	}
	return r, nil
}

func (s *Sampler) watch() {
	defer close(s.done)
	ticker := time.NewTicker(s.options.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-ticker.C:
			s.look()
		}
	}
}

func (s *Sampler) begin() error {
	times, err := readCPUTimes(s.root)
	if err != nil {
		return err
	}
	own, err := s.options.OwnNs()
	if err != nil {
		return fmt.Errorf("own CPU time: %w", err)
	}
	now, err := s.clocks()
	if err != nil {
		return err
	}
	if len(s.options.CPUs) == 0 {
		s.options.CPUs = times.online()
	}
	s.before, s.ownBefore, s.started, s.last = times, own, now, now
	s.throttle = throttleEvents(s.root, s.options.CPUs)
	s.source = lineOr(s.root, clockSourceFile, notVisible)
	s.readings = Readings{}
	s.lastKHz = frequencies(s.root, s.options.CPUs)
	for _, khz := range s.lastKHz {
		s.readings.noteFrequency(khz)
	}
	s.lastBusy, s.busyKHz = nil, map[int][2]int64{}
	if len(s.lastKHz) > 0 {
		s.lastBusy = times
	}
	return nil
}

const clockSourceFile = "sys/devices/system/clocksource/clocksource0/current_clocksource"

// look compares clocks and frequencies with the look before.
func (s *Sampler) look() {
	now, err := s.clocks()
	if err != nil {
		return
	}
	khz := frequencies(s.root, s.options.CPUs)
	var busy cpuTimes
	if s.lastBusy != nil {
		busy, _ = readCPUTimes(s.root) // without it, this look has no busy CPU
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noteBusy(khz, busy, now.MonotonicNs-s.last.MonotonicNs)
	s.readings.noteClocks(s.last, now)
	s.last = now
	for cpu, f := range khz {
		before := s.lastKHz[cpu]
		if before > 0 && float64(abs(f-before)) > frequencyChangeShare*float64(before) {
			s.readings.FrequencyChanges++
		}
		s.readings.noteFrequency(f)
	}
	s.lastKHz = khz
}

// noteBusy keeps the frequencies of the CPUs that were busy for half or more
// of the time since the look before.
func (s *Sampler) noteBusy(khz map[int]int64, busy cpuTimes, passedNs int64) {
	if busy == nil || passedNs <= 0 {
		return
	}
	for cpu, f := range khz {
		if busy[cpu].busyNs-s.lastBusy[cpu].busyNs < passedNs/2 {
			continue
		}
		seen, known := s.busyKHz[cpu]
		if !known || f < seen[0] {
			seen[0] = f
		}
		seen[1] = max(seen[1], f)
		s.busyKHz[cpu] = seen
	}
	s.lastBusy = busy
}

// widestFrequency picks the CPU whose frequency fell most while it was busy.
func (r *Readings) widestFrequency(byCPU map[int][2]int64) {
	for cpu, seen := range byCPU {
		if r.FrequencyBusyKHz[1] == 0 || seen[0]*r.FrequencyBusyKHz[1] < r.FrequencyBusyKHz[0]*seen[1] {
			r.FrequencyBusyKHz, r.FrequencyBusyCPU = seen, cpu
		}
	}
}

func (s *Sampler) end() (Readings, error) {
	s.look()
	times, err := readCPUTimes(s.root)
	if err != nil {
		return Readings{}, err
	}
	own, err := s.options.OwnNs()
	if err != nil {
		return Readings{}, fmt.Errorf("own CPU time: %w", err)
	}
	r := s.readings
	r.ElapsedNs = s.last.MonotonicNs - s.started.MonotonicNs
	r.addTimes(s.before, times, s.options.CPUs)
	r.OtherLoadNs = max(0, r.BusyNs-(own-s.ownBefore))
	r.ClockSource = [2]string{s.source, lineOr(s.root, clockSourceFile, notVisible)}
	if len(s.lastKHz) == 0 {
		r.FrequencyChanges = -1
		r.NotMeasured = append(r.NotMeasured, "CPU frequency: no cpufreq on this machine")
	}
	r.widestFrequency(s.busyKHz)
	r.ThrottleEvents = throttleEvents(s.root, s.options.CPUs)
	if r.ThrottleEvents < 0 || s.throttle < 0 {
		r.ThrottleEvents = -1
		r.NotMeasured = append(r.NotMeasured, "thermal throttling: no counters on this machine")
	} else {
		r.ThrottleEvents -= s.throttle
	}
	r.judge()
	return r, nil
}

// judge states what makes a trial invalid wherever it ran; limits on steal and
// other load are the runner's.
func (r *Readings) judge() {
	if r.ClockJumps > 0 {
		r.Invalid = append(r.Invalid, fmt.Sprintf("the wall clock jumped %d times, by %v at most", r.ClockJumps, time.Duration(r.ClockJumpNsMax)))
	}
	if r.SuspendedNs > clockJumpNs {
		r.Invalid = append(r.Invalid, fmt.Sprintf("the machine was suspended for %v", time.Duration(r.SuspendedNs)))
	}
	if r.ClockSource[0] != r.ClockSource[1] {
		r.Invalid = append(r.Invalid, fmt.Sprintf("the clock source changed from %s to %s", r.ClockSource[0], r.ClockSource[1]))
	}
	if r.ThrottleEvents > 0 {
		r.Invalid = append(r.Invalid, fmt.Sprintf("the CPU throttled itself %d times for heat", r.ThrottleEvents))
	}
	if lo, hi := float64(r.FrequencyBusyKHz[0]), float64(r.FrequencyBusyKHz[1]); lo < (1-FrequencyRangeMax)*hi {
		r.Invalid = append(r.Invalid, fmt.Sprintf("the frequency of CPU %d changed from %.2f to %.2f GHz while it was busy, at most %.0f%% are allowed",
			r.FrequencyBusyCPU, lo/1e6, hi/1e6, 100*FrequencyRangeMax))
	}
}

func (r *Readings) noteFrequency(khz int64) {
	if r.FrequencyKHz[0] == 0 || khz < r.FrequencyKHz[0] {
		r.FrequencyKHz[0] = khz
	}
	r.FrequencyKHz[1] = max(r.FrequencyKHz[1], khz)
}

func (r *Readings) noteClocks(before, now Clocks) {
	drift := abs((now.RealNs - before.RealNs) - (now.MonotonicNs - before.MonotonicNs))
	if drift > clockJumpNs+now.SpreadNs+before.SpreadNs {
		r.ClockJumps++
		r.ClockJumpNsMax = max(r.ClockJumpNsMax, drift)
	}
	slept := (now.BootNs - before.BootNs) - (now.MonotonicNs - before.MonotonicNs)
	if slept > clockJumpNs+now.SpreadNs+before.SpreadNs {
		r.SuspendedNs += slept
	}
}

// Clocks are three clocks read one after the other; SpreadNs bounds how long
// that took, so that being descheduled in between is no jump.
type Clocks struct {
	MonotonicNs, RealNs, BootNs, SpreadNs int64
}

func readClocks() (Clocks, error) {
	var ts [4]unix.Timespec
	for i, id := range []int32{unix.CLOCK_MONOTONIC, unix.CLOCK_REALTIME, unix.CLOCK_BOOTTIME, unix.CLOCK_MONOTONIC} {
		if err := unix.ClockGettime(id, &ts[i]); err != nil {
			return Clocks{}, fmt.Errorf("read clock %d: %w", id, err)
		}
	}
	first := ts[0].Nano()
	return Clocks{MonotonicNs: first, RealNs: ts[1].Nano(), BootNs: ts[2].Nano(), SpreadNs: ts[3].Nano() - first}, nil
}

func abs(n int64) int64 {
	if n < 0 {
		return -n
	}
	return n
}

// frequencies returns the current frequency by CPU, kHz, where it is visible.
func frequencies(root fs.FS, cpus []int) map[int]int64 {
	found := map[int]int64{}
	for _, c := range cpus {
		khz, err := readInt(root, "sys/devices/system/cpu/cpu"+strconv.Itoa(c)+"/cpufreq/scaling_cur_freq")
		if err == nil && khz > 0 {
			found[c] = khz
		}
	}
	return found
}

// throttleEvents sums the thermal counters of the CPUs; -1 when none is visible.
func throttleEvents(root fs.FS, cpus []int) int64 {
	sum, seen := int64(0), false
	for _, c := range cpus {
		n, err := readInt(root, "sys/devices/system/cpu/cpu"+strconv.Itoa(c)+"/thermal_throttle/core_throttle_count")
		if err == nil {
			sum, seen = sum+n, true
		}
	}
	if !seen {
		return -1
	}
	return sum
}

// ProcessCPUNs returns the CPU time of a running process with all its threads,
// ns, in steps of 10 ms. It includes io_uring's workers, which are its threads.
func ProcessCPUNs(pid int) (int64, error) {
	stat, err := readProcStat(hostRoot(), pid)
	if err != nil {
		return 0, err
	}
	return int64(stat.userTicks+stat.sysTicks) * tickNs, nil
}

// CgroupCPUNs returns the CPU time of everything that ever ran in a cgroup2
// folder, ns; the kernel keeps it for any cgroup but the root, whatever
// controllers are enabled.
func CgroupCPUNs(folder string) (int64, error) {
	name := path.Join(folder, "cpu.stat")
	data, err := os.ReadFile(name)
	if err != nil {
		return 0, fmt.Errorf("read CPU time of cgroup: %w", err)
	}
	for _, line := range strings.Split(string(data), "\n") {
		if us, found := strings.CutPrefix(line, "usage_usec "); found {
			n, err := strconv.ParseInt(us, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("read %s: %w", name, err)
			}
			return n * 1000, nil
		}
	}
	return 0, fmt.Errorf("read %s: no usage_usec", name)
}
