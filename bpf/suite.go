package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/bpf/attach"
	"github.com/nexuscore-labs/nexus/bpf/blockprobe"
	"github.com/nexuscore-labs/nexus/bpf/faultprobe"
	"github.com/nexuscore-labs/nexus/bpf/lockprobe"
	"github.com/nexuscore-labs/nexus/bpf/perfcounters"
	"github.com/nexuscore-labs/nexus/bpf/probe"
	"github.com/nexuscore-labs/nexus/bpf/schedprobe"
	"github.com/nexuscore-labs/nexus/bpf/syscallprobe"
	"github.com/nexuscore-labs/nexus/bpf/uringprobe"
)

// Options choose what a Suite loads. The zero value loads everything by the
// best rung that works.
type Options struct {
	// Rung forces one rung of the attach ladder on every probe; probes that
	// lack it are then missing.
	Rung string
	// Probes limits the suite to the named probes; see Probes.
	Probes []string
}

// opener makes one probe.
type opener struct {
	name string
	open func(probe.Options) (probe.Probe, error)
}

// adapt turns a probe's typed Open into one that returns the interface, so that
// a nil pointer never becomes a non-nil interface.
func adapt[P probe.Probe](open func(probe.Options) (P, error)) func(probe.Options) (probe.Probe, error) {
	return func(opts probe.Options) (probe.Probe, error) {
		p, err := open(opts)
		if err != nil {
			return nil, err
		}
		return p, nil
	}
}

func openers() []opener {
	return []opener{
		{"syscall", adapt(syscallprobe.Open)},
		{"sched", adapt(schedprobe.Open)},
		{"fault", adapt(faultprobe.Open)},
		{"block", adapt(blockprobe.Open)},
		{"uring", adapt(uringprobe.Open)},
		{"lock", adapt(lockprobe.Open)},
		{"perf", adapt(perfcounters.OpenHardware)},
	}
}

// Probes returns the names of all probes.
func Probes() []string {
	var names []string
	for _, o := range openers() {
		names = append(names, o.name)
	}
	return names
}

type named struct {
	name string
	probe.Probe
}

// Suite is the set of attached probes. They are attached once per run and
// switched on per trial; while off each event costs a few ns. A Suite is not
// safe for concurrent use.
type Suite struct {
	probes  []named
	missing []string
	running bool
}

// Open loads and attaches the probes, switched off. Probes that this kernel
// refuses are listed by Missing; only when none is left does Open fail. It needs
// CAP_BPF and CAP_PERFMON (or root) and a kernel with BTF, 5.18 or later.
func Open(opts Options) (*Suite, error) {
	selected, err := selectOpeners(opts.Probes)
	if err != nil {
		return nil, err
	}
	s := &Suite{}
	types := btf.NewCache()
	var reasons []error
	for _, o := range selected {
		p, err := o.open(probe.Options{Rung: attach.Rung(opts.Rung), Types: types})
		if err != nil {
			s.missing = append(s.missing, fmt.Sprintf("%s: %v", o.name, err))
			reasons = append(reasons, err)
			continue
		}
		s.probes = append(s.probes, named{o.name, p})
		for _, absent := range p.Attached().Absent {
			s.missing = append(s.missing, fmt.Sprintf("%s: in part: %s", o.name, absent))
		}
	}
	if len(s.probes) == 0 {
		return nil, fmt.Errorf("no kernel probe could be attached: %w", errors.Join(reasons...))
	}
	return s, nil
}

func selectOpeners(names []string) ([]opener, error) {
	all := openers()
	if len(names) == 0 {
		return all, nil
	}
	var selected []opener
	for _, name := range names {
		found := false
		for _, o := range all {
			if o.name == name {
				selected = append(selected, o)
				found = true
			}
		}
		if !found {
			return nil, fmt.Errorf("unknown probe %q; known are %v", name, Probes())
		}
	}
	return selected, nil
}

// Attachments says what is attached, and how.
func (s *Suite) Attachments() []Attachment {
	var out []Attachment
	for _, p := range s.probes {
		for _, program := range p.Attached().Programs {
			out = append(out, Attachment{Probe: p.name, Program: program.Target,
				Rung: string(program.Rung), VerifiedInstructions: program.VerifiedInstructions})
		}
	}
	return out
}

// Missing lists what could not be attached, each as "probe: why".
func (s *Suite) Missing() []string { return s.missing }

// Start zeroes all counts and begins to count the events of the cgroup with the
// given id (of the v2 hierarchy; see CgroupID) and of no other, its
// descendants included.
func (s *Suite) Start(cgroupID uint64) error {
	if s.running {
		return errors.New("start the probes: already started")
	}
	for _, p := range s.probes {
		if err := p.Start(cgroupID); err != nil {
			return errors.Join(err, s.disable())
		}
	}
	s.running = true
	return nil
}

// Stop ends counting and returns what was counted since Start.
func (s *Suite) Stop() (Snapshot, error) {
	if !s.running {
		return Snapshot{}, errors.New("stop the probes: not started")
	}
	s.running = false
	if err := s.disable(); err != nil {
		return Snapshot{}, err
	}
	if err := probe.Quiesce(); err != nil {
		return Snapshot{}, err
	}
	var sum probe.Reading
	for _, p := range s.probes {
		reading, err := p.Read()
		if err != nil {
			return Snapshot{}, fmt.Errorf("read probe %s: %w", p.name, err)
		}
		sum.Append(reading)
	}
	notMeasured := append(append([]string(nil), s.missing...), sum.NotMeasured...)
	return Snapshot{Histograms: sum.Histograms, Counters: sum.Counters, NotMeasured: notMeasured}, nil
}

// Pause switches the started probes off until Resume; what they counted stays. It
// takes some 30 µs, nearly all of it for the perf counters.
func (s *Suite) Pause() error {
	if !s.running {
		return errors.New("pause the probes: not started")
	}
	return s.disable()
}

// Resume switches the probes on again for the cgroup of the last Start. What began
// before it (a system call, a request) is counted as before and not timed.
func (s *Suite) Resume() error {
	if !s.running {
		return errors.New("resume the probes: not started")
	}
	for _, p := range s.probes {
		if err := p.Resume(); err != nil {
			return fmt.Errorf("resume probe %s: %w", p.name, err)
		}
	}
	return nil
}

// Detach takes all programs off their hooks, Reattach puts them back: between the
// two the probes cost nothing at all. Each takes some tens of milliseconds.
func (s *Suite) Detach() error {
	var errs []error
	for _, p := range s.probes {
		errs = append(errs, p.Attached().Detach())
	}
	return errors.Join(errs...)
}

// Reattach undoes Detach.
func (s *Suite) Reattach() error {
	for _, p := range s.probes {
		if err := p.Attached().Reattach(); err != nil {
			return fmt.Errorf("probe %s: %w", p.name, err)
		}
	}
	return nil
}

func (s *Suite) disable() error {
	var errs []error
	for _, p := range s.probes {
		errs = append(errs, p.Disable())
	}
	return errors.Join(errs...)
}

// Close detaches everything. Nothing is ever pinned, so a killed process leaves
// nothing either.
func (s *Suite) Close() error {
	var errs []error
	for _, p := range s.probes {
		if err := p.Close(); err != nil {
			errs = append(errs, fmt.Errorf("close probe %s: %w", p.name, err))
		}
	}
	s.probes = nil
	return errors.Join(errs...)
}

// CgroupID returns the id of a cgroup by its folder in the cgroup2 hierarchy:
// its inode number, which is also what bpf_get_current_cgroup_id returns.
func CgroupID(dir string) (uint64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, fmt.Errorf("find cgroup %s: %w", dir, err)
	}
	if fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return 0, fmt.Errorf("find cgroup %s: not in a cgroup2 file system", dir)
	}
	var stat unix.Stat_t
	if err := unix.Stat(dir, &stat); err != nil {
		return 0, fmt.Errorf("find cgroup %s: %w", dir, err)
	}
	return stat.Ino, nil
}
