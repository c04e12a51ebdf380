// Package stageprobe logs when the threads of one cgroup ran, waited and were
// woken, and when the bytes of its requests and answers passed the edges of the
// sockets, on both sides of the connection. Package stages computes from the log
// where each request's time went.
package stageprobe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"github.com/nexuscore-labs/nexus/bpf/attach"
	"github.com/nexuscore-labs/nexus/bpf/probe"
	"github.com/nexuscore-labs/nexus/bpf/stages"
)

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -strip llvm-strip-19 -no-global-types -target bpfel -go-package stageprobe object stage.bpf.c -- -I../headers -O2 -g -Wall -Werror -mcpu=v3

// Bounds of Options.EventsMax; an event takes 32 bytes of kernel memory.
const (
	EventsDefault = 1 << 20
	eventsMaxMax  = 1 << 24
	eventBytes    = 32
)

// Options of Open. The zero value is usable.
type Options struct {
	// EventsMax is the room for one measurement, 0 for EventsDefault.
	EventsMax int
	// Types, if set, is the kernel's BTF shared with other probes.
	Types *btf.Cache
	// Verify asks the verifier for its statistics too.
	Verify bool
}

// Probe is a loaded probe. Its programs are attached only between Start and
// Stop: nothing is paid outside. It is not safe for concurrent use.
type Probe struct {
	collection *ebpf.Collection
	spec       *ebpf.CollectionSpec
	core       *probe.Core
	eventsMax  int
	buffer     []byte
	links      []link.Link
	cpus       int
}

// interrupt mirrors the struct of stage.bpf.c.
type interrupt struct{ Softirq, Hardirq, Timer uint32 }

// Target is whom to measure.
type Target struct {
	CgroupID uint64 // of the contender, v2 hierarchy, descendants not included
	Port     uint16 // that it serves at
}

// Open loads the probe. It needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN (or
// root), and a kernel with BTF, 5.18 or later.
func Open(opts Options) (*Probe, error) {
	if opts.EventsMax == 0 {
		opts.EventsMax = EventsDefault
	}
	if opts.EventsMax < 1 || opts.EventsMax > eventsMaxMax {
		return nil, fmt.Errorf("open the stage probe: %d events: want 1 to %d", opts.EventsMax, eventsMaxMax)
	}
	if opts.Types == nil {
		opts.Types = btf.NewCache()
	}
	spec, err := loadObject()
	if err != nil {
		return nil, fmt.Errorf("parse the stage object: %w", err)
	}
	spec.Maps["events"].MaxEntries = uint32(opts.EventsMax)
	if err := spec.Variables["events_max"].Set(uint32(opts.EventsMax)); err != nil {
		return nil, fmt.Errorf("set the room for events: %w", err)
	}
	load := ebpf.CollectionOptions{Cache: opts.Types}
	if opts.Verify {
		load.Programs.LogLevel = ebpf.LogLevelStats
	}
	collection, err := ebpf.NewCollectionWithOptions(spec, load)
	if err != nil {
		return nil, fmt.Errorf("load the stage probe: %w", err)
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		collection.Close()
		return nil, fmt.Errorf("count possible CPUs: %w", err)
	}
	p := &Probe{collection: collection, spec: spec, eventsMax: opts.EventsMax, cpus: cpus}
	if p.core, err = probe.NewCore("stage", &attach.Attached{Collection: collection}); err != nil {
		collection.Close()
		return nil, err
	}
	return p, nil
}

// Programs says what is attached between Start and Stop.
func (p *Probe) Programs() []string {
	var out []string
	for _, program := range p.spec.Programs {
		out = append(out, strings.TrimPrefix(program.SectionName, "tp_btf/"))
	}
	return out
}

// Start forgets what was logged, attaches the programs and begins to log. For
// TCP it must come before the first connection is made: the sequence numbers
// that open it are the origin of all byte offsets. cgroupRoot is the mount point
// of the v2 hierarchy; packets of all sockets below it are looked at.
func (p *Probe) Start(target Target, cgroupRoot string) error {
	if len(p.links) > 0 {
		return errors.New("start the stage probe: already started")
	}
	if err := p.collection.Variables["server_port"].Set(target.Port); err != nil {
		return fmt.Errorf("set the server's port: %w", err)
	}
	if err := p.collection.Variables["cursor"].Set(uint64(0)); err != nil {
		return fmt.Errorf("empty the log: %w", err)
	}
	for name, spec := range p.spec.Programs {
		l, err := attachProgram(spec, p.collection.Programs[name], cgroupRoot)
		if err != nil {
			return errors.Join(fmt.Errorf("attach %s of the stage probe: %w", name, err), p.detach())
		}
		p.links = append(p.links, l)
	}
	// An interrupt that began before the program that sees its end was attached
	// would never end.
	if err := p.collection.Maps["interrupts"].Put(uint32(0), make([]interrupt, p.cpus)); err != nil {
		return errors.Join(fmt.Errorf("forget the interrupts: %w", err), p.detach())
	}
	// Last, so that no thread is seen by some of the programs only.
	if err := p.core.Start(target.CgroupID); err != nil {
		return errors.Join(err, p.detach())
	}
	return nil
}

func attachProgram(spec *ebpf.ProgramSpec, program *ebpf.Program, cgroupRoot string) (link.Link, error) {
	if spec.Type == ebpf.CGroupSKB {
		return link.AttachCgroup(link.CgroupOptions{Path: cgroupRoot, Attach: spec.AttachType, Program: program})
	}
	return link.AttachTracing(link.TracingOptions{Program: program, AttachType: spec.AttachType})
}

func (p *Probe) detach() error {
	errs := []error{p.core.Disable()}
	for _, l := range p.links {
		errs = append(errs, l.Close())
	}
	p.links = nil
	return errors.Join(errs...)
}

// Stop ends logging, detaches and returns the log in the order of its times.
func (p *Probe) Stop() (*stages.Log, error) {
	if len(p.links) == 0 {
		return nil, errors.New("stop the stage probe: not started")
	}
	if err := p.core.Disable(); err != nil {
		return nil, err
	}
	skipped, err := p.core.Skipped()
	if err := errors.Join(err, p.detach(), probe.Quiesce()); err != nil {
		return nil, fmt.Errorf("stop the stage probe: %w", err)
	}
	return p.read(skipped)
}

// read copies the log out of the map.
func (p *Probe) read(skipped uint64) (*stages.Log, error) {
	var wanted uint64
	if err := p.collection.Variables["cursor"].Get(&wanted); err != nil {
		return nil, fmt.Errorf("read the length of the log: %w", err)
	}
	n := min(int(wanted), p.eventsMax)
	memory, err := p.collection.Maps["events"].Memory()
	if err != nil {
		return nil, fmt.Errorf("map the log: %w", err)
	}
	if cap(p.buffer) < n*eventBytes {
		p.buffer = make([]byte, n*eventBytes)
	}
	raw := p.buffer[:n*eventBytes]
	if n > 0 {
		if _, err := memory.ReadAt(raw, 0); err != nil {
			return nil, fmt.Errorf("read the log: %w", err)
		}
	}
	counts, err := p.core.Counts()
	if err != nil {
		return nil, err
	}
	log := &stages.Log{Events: make([]stages.Event, n), Lost: wanted - uint64(n) + skipped, Unparsed: counts[0] + counts[1]}
	for i := range log.Events {
		log.Events[i] = decode(raw[i*eventBytes:])
	}
	log.Sort()
	return log, nil
}

// decode reads struct stage_event of stage.h.
func decode(b []byte) stages.Event {
	return stages.Event{
		Ns: int64(binary.NativeEndian.Uint64(b)), Kind: stages.EventKind(b[8]), Flags: b[9], Context: b[10],
		Who:   binary.NativeEndian.Uint32(b[12:]),
		Value: binary.NativeEndian.Uint64(b[16:]),
		Other: binary.NativeEndian.Uint32(b[24:]),
		Len:   binary.NativeEndian.Uint32(b[28:]),
	}
}

// Close detaches the probe and frees its memory.
func (p *Probe) Close() error {
	var err error
	if len(p.links) > 0 {
		err = p.detach()
	}
	p.collection.Close()
	return err
}
