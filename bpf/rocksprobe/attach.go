package rocksprobe

import (
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/nexuscore-labs/nexus/bpf/attach"
)

func (p *Probe) load() error {
	spec, err := loadObject()
	if err != nil {
		return fmt.Errorf("parse the object: %w", err)
	}
	spec.Maps["changes"].MaxEntries = uint32(p.options.RingBytes)
	unrouted := p.options.Unrouted || p.options.Routes == nil
	for name, value := range map[string]any{
		"batch_text_at": p.target.Layout.BatchTextAt, "wakeup_bytes": uint64(p.options.WakeupBytes),
		"publish_unrouted": flag(unrouted), "surreal_keys": flag(p.options.Routes != nil),
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	if !p.options.Census {
		for _, name := range []string{"census_put", "census_commit", "census_rollback"} {
			delete(spec.Programs, name)
		}
	}
	load := ebpf.CollectionOptions{Cache: p.options.Types}
	if p.options.Routes != nil {
		load.MapReplacements = map[string]*ebpf.Map{"routing_table": p.options.Routes.table}
	}
	if p.options.Verify {
		load.Programs.LogLevel = ebpf.LogLevelStats
	}
	if p.collection, err = ebpf.NewCollectionWithOptions(spec, load); err != nil {
		return err
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("count possible CPUs: %w", err)
	}
	p.streams = make([]stream, cpus)
	if p.reader, err = ringbuf.NewReader(p.collection.Maps["changes"]); err != nil {
		return fmt.Errorf("map the ring: %w", err)
	}
	return nil
}

func flag(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

// attach puts the return probes first: an entry without a return would stay in
// the map of calls, a return without an entry is counted and harmless.
func (p *Probe) attach() error {
	executable, err := link.OpenExecutable(p.target.Path)
	if err != nil {
		return err
	}
	for _, hook := range []struct {
		program string
		offsets []uint64
		enter   func(symbol string, prog *ebpf.Program, opts *link.UprobeOptions) (link.Link, error)
	}{
		{"write_return", p.target.Writes, executable.Uretprobe},
		{"write_entry", p.target.Writes, executable.Uprobe},
		{"census_put", p.target.Puts, executable.Uprobe},
		{"census_commit", p.target.Commits, executable.Uprobe},
		{"census_rollback", p.target.Rollbacks, executable.Uprobe},
	} {
		program := p.collection.Programs[hook.program]
		if program == nil {
			continue
		}
		for _, offset := range hook.offsets {
			// With an address given, the symbol is a name only.
			l, err := hook.enter(hook.program, program, &link.UprobeOptions{Address: offset, PID: p.options.Process})
			if err != nil {
				return fmt.Errorf("%s at %#x: %w", hook.program, offset, err)
			}
			p.links = append(p.links, l)
		}
		if err := p.describe(hook.program, program); err != nil {
			return err
		}
	}
	return nil
}

func (p *Probe) describe(name string, program *ebpf.Program) error {
	info, err := program.Info()
	if err != nil {
		return fmt.Errorf("read the info of %s: %w", name, err)
	}
	verified, _ := info.VerifiedInstructions()
	rung, _, _ := strings.Cut(sections[name], "/")
	p.programs = append(p.programs, attach.Program{Name: name, Target: p.target.Layout.Name, Rung: attach.Rung(rung),
		VerifiedInstructions: verified, StackBytes: attach.StackBytes(program.VerifierLog)})
	return nil
}

var sections = map[string]string{
	"write_entry": "uprobe/write", "write_return": "uretprobe/write",
	"census_put": "uprobe/put", "census_commit": "uprobe/commit", "census_rollback": "uprobe/rollback",
}
