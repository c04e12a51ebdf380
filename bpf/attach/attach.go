// Package attach loads and attaches BPF programs by the best means that the
// running kernel accepts: the attach ladder, tried by doing, and named.
package attach

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Rung is one way to attach a program.
type Rung string

// The ladder, best first: fentry has typed arguments at a function, tp_btf at
// a tracepoint; a raw tracepoint hands over untyped ones; the classic
// tracepoint copies fields through tracefs' format; a kprobe traps.
const (
	Fentry        Rung = "fentry"
	TpBTF         Rung = "tp_btf"
	RawTracepoint Rung = "raw_tracepoint"
	Tracepoint    Rung = "tracepoint"
	Kprobe        Rung = "kprobe"
	PerfEvent     Rung = "perf_event"
)

// Candidate is one rung of one probe's ladder. All of Programs have to attach;
// those of Optional may be refused.
type Candidate struct {
	Rung     Rung
	Programs []string
	Optional []string
	// Adjust, if set, changes the copy of the spec that this rung loads.
	Adjust func(*ebpf.CollectionSpec)
}

// Program is one attached program.
type Program struct {
	Name   string `json:"name"`
	Target string `json:"target"` // what it is attached to
	Rung   Rung   `json:"rung"`
	// VerifiedInstructions is how many instructions the verifier walked, 0
	// where the kernel (before 5.16) doesn't say.
	VerifiedInstructions uint32 `json:"verified_instructions"`
	// StackBytes is the stack of the program with all its functions, 0 unless
	// Options.Verify asked for it.
	StackBytes uint32 `json:"stack_bytes"`
}

// Attached is a loaded collection with its links. Close detaches it; nothing
// is pinned, so it also goes with the process.
type Attached struct {
	Rung       Rung
	Programs   []Program
	Collection *ebpf.Collection
	// Absent names optional programs that the kernel refused, with the reason.
	Absent []string
	links  []link.Link
	hooks  []hook
}

// hook is what Reattach attaches again.
type hook struct {
	spec    *ebpf.ProgramSpec
	program *ebpf.Program
}

// ErrNoRung says that no candidate could be attached.
var ErrNoRung = errors.New("no rung of the attach ladder works here")

// Options of Climb. The zero value tries every rung.
type Options struct {
	// Only, if not empty, passes over other rungs.
	Only Rung
	// Types caches the kernel's BTF, whose parsing takes longer than all the
	// rest; share one between probes that are opened together.
	Types *btf.Cache
	// Verify asks the verifier for its statistics too.
	Verify bool
}

// Ladder is Climb for one probe alone.
func Ladder(spec *ebpf.CollectionSpec, candidates []Candidate, only Rung) (*Attached, error) {
	return Climb(spec, candidates, Options{Only: only})
}

// Climb tries the candidates in order and returns the first that loads and
// attaches. The error names every rung's reason and wraps ErrNoRung and the
// reasons.
func Climb(spec *ebpf.CollectionSpec, candidates []Candidate, opts Options) (*Attached, error) {
	if opts.Types == nil {
		opts.Types = btf.NewCache()
	}
	only := opts.Only
	reasons := []error{ErrNoRung}
	for _, c := range candidates {
		if only != "" && c.Rung != only {
			continue
		}
		attached, err := try(spec, c, opts)
		if err == nil {
			return attached, nil
		}
		reasons = append(reasons, fmt.Errorf("%s: %w", c.Rung, err))
	}
	if len(reasons) == 1 {
		return nil, fmt.Errorf("%w: this probe has no rung %q", ErrNoRung, only)
	}
	return nil, errors.Join(reasons...)
}

func try(spec *ebpf.CollectionSpec, c Candidate, opts Options) (*Attached, error) {
	a := &Attached{Rung: c.Rung}
	wanted := c.Programs
	for _, name := range c.Optional {
		if err := exists(spec.Programs[name], opts.Types); err != nil {
			a.Absent = append(a.Absent, fmt.Sprintf("%s: %v", name, err))
			continue
		}
		wanted = append(wanted[:len(wanted):len(wanted)], name)
	}
	selected, err := selectPrograms(spec, wanted)
	if err != nil {
		return nil, err
	}
	if c.Adjust != nil {
		c.Adjust(selected)
	}
	load := ebpf.CollectionOptions{Cache: opts.Types}
	if opts.Verify {
		load.Programs.LogLevel = ebpf.LogLevelStats
	}
	a.Collection, err = ebpf.NewCollectionWithOptions(selected, load)
	if err != nil && opts.Verify {
		// Only without a log level of one's own does the verifier say why.
		a.Collection, err = ebpf.NewCollectionWithOptions(selected, ebpf.CollectionOptions{Cache: opts.Types})
	}
	if errors.Is(err, unix.EPERM) {
		err = unix.EPERM // the library's advice on memory limits is for kernels before 5.11
	}
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	if err := a.attachAll(selected, c); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// exists tells cheaply whether a tp_btf program's tracepoint is in this kernel;
// other kinds find out when they are attached.
func exists(p *ebpf.ProgramSpec, types *btf.Cache) error {
	if p == nil {
		return errors.New("no such program")
	}
	if p.AttachType != ebpf.AttachTraceRawTp {
		return nil
	}
	kernel, err := types.Kernel()
	if err != nil {
		return fmt.Errorf("load kernel BTF: %w", err)
	}
	if _, err := kernel.AnyTypeByName("btf_trace_" + p.AttachTo); err != nil {
		return fmt.Errorf("tracepoint %s is not in this kernel", p.AttachTo)
	}
	return nil
}

func selectPrograms(spec *ebpf.CollectionSpec, names []string) (*ebpf.CollectionSpec, error) {
	selected := spec.Copy()
	keep := make(map[string]bool, len(names))
	for _, name := range names {
		if selected.Programs[name] == nil {
			return nil, fmt.Errorf("the object has no program %s", name)
		}
		keep[name] = true
	}
	for name := range selected.Programs {
		if !keep[name] {
			delete(selected.Programs, name)
		}
	}
	return selected, nil
}

func (a *Attached) attachAll(spec *ebpf.CollectionSpec, c Candidate) error {
	for _, name := range c.Programs {
		if err := a.attachOne(spec.Programs[name], a.Collection.Programs[name], name); err != nil {
			return err
		}
	}
	for _, name := range c.Optional {
		program := a.Collection.Programs[name]
		if program == nil {
			continue // already listed in Absent
		}
		if err := a.attachOne(spec.Programs[name], program, name); err != nil {
			a.Absent = append(a.Absent, err.Error())
		}
	}
	return nil
}

func (a *Attached) attachOne(spec *ebpf.ProgramSpec, program *ebpf.Program, name string) error {
	l, target, err := attach(spec, program)
	if err != nil {
		return fmt.Errorf("attach %s: %w", name, err)
	}
	a.links = append(a.links, l)
	a.hooks = append(a.hooks, hook{spec, program})
	info, err := program.Info()
	if err != nil {
		return fmt.Errorf("read the info of %s: %w", name, err)
	}
	verified, _ := info.VerifiedInstructions()
	a.Programs = append(a.Programs, Program{Name: name, Target: target, Rung: a.Rung, VerifiedInstructions: verified,
		StackBytes: StackBytes(program.VerifierLog)})
	return nil
}

// StackBytes sums the stack of a program and its functions from the line
// "stack depth 16+8" of the verifier's statistics; 0 without one.
func StackBytes(verifierLog string) uint32 {
	var sum uint32
	for line := range strings.Lines(verifierLog) {
		depths, found := strings.CutPrefix(line, "stack depth ")
		if !found {
			continue
		}
		for depth := range strings.SplitSeq(strings.TrimSpace(depths), "+") {
			bytes, err := strconv.ParseUint(depth, 10, 32)
			if err != nil {
				return 0
			}
			sum += uint32(bytes)
		}
	}
	return sum
}

// attach does what the program's section asks for.
func attach(spec *ebpf.ProgramSpec, program *ebpf.Program) (link.Link, string, error) {
	var (
		l   link.Link
		err error
	)
	switch spec.Type {
	case ebpf.Tracing:
		l, err = link.AttachTracing(link.TracingOptions{Program: program, AttachType: spec.AttachType})
	case ebpf.RawTracepoint:
		l, err = link.AttachRawTracepoint(link.RawTracepointOptions{Name: spec.AttachTo, Program: program})
	case ebpf.TracePoint:
		group, name, ok := strings.Cut(spec.AttachTo, "/")
		if !ok {
			return nil, "", fmt.Errorf("section %s names no tracepoint", spec.SectionName)
		}
		l, err = link.Tracepoint(group, name, program, nil)
	case ebpf.Kprobe:
		l, err = link.Kprobe(spec.AttachTo, program, nil)
	default:
		return nil, "", fmt.Errorf("program type %s has no rung", spec.Type)
	}
	return l, spec.AttachTo, err
}

// RecursionMisses sums how often the kernel skipped one of the programs because
// the CPU was already running it.
func (a *Attached) RecursionMisses() (uint64, error) {
	var sum uint64
	for name, program := range a.Collection.Programs {
		stats, err := program.Stats()
		if err != nil {
			return 0, fmt.Errorf("read the statistics of %s: %w", name, err)
		}
		sum += stats.RecursionMisses
	}
	return sum, nil
}

// Detach takes the programs off their hooks and keeps them loaded.
func (a *Attached) Detach() error {
	var errs []error
	for _, l := range a.links {
		if err := l.Close(); err != nil {
			errs = append(errs, fmt.Errorf("detach: %w", err))
		}
	}
	a.links = nil
	return errors.Join(errs...)
}

// Reattach attaches the programs again after Detach.
func (a *Attached) Reattach() error {
	if len(a.links) > 0 {
		return errors.New("reattach: still attached")
	}
	for _, h := range a.hooks {
		l, target, err := attach(h.spec, h.program)
		if err != nil {
			return fmt.Errorf("reattach to %s: %w", target, err)
		}
		a.links = append(a.links, l)
	}
	return nil
}

// Close detaches the programs and frees the collection. It may be called again.
func (a *Attached) Close() error {
	err := a.Detach()
	if a.Collection != nil {
		a.Collection.Close()
		a.Collection = nil
	}
	return err
}
