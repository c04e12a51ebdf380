package projcache

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/bpf/datagram"
)

// programCache is the program's name.
const programCache = "projection_cache"

// Service is what requests must be addressed to.
type Service = datagram.Service

// Program is one loaded program of a Cache. It works on the cache's maps, also
// when those are of an earlier process.
type Program struct {
	program *ebpf.Program
	service Service
}

// Load loads the program for a service.
func (c *Cache) Load(service Service) (*Program, error) {
	return c.load(service, map[string]any{})
}

func (c *Cache) load(service Service, variables map[string]any) (*Program, error) {
	spec, err := loadObject()
	if err != nil {
		return nil, fmt.Errorf("projcache: read the program: %w", err)
	}
	if err := set(spec, service, variables); err != nil {
		return nil, err
	}
	for name, m := range c.maps { // of the sizes that were asked for
		spec.Maps[name].MaxEntries = m.MaxEntries()
	}
	collection, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: c.maps})
	if errors.Is(err, unix.EPERM) {
		err = unix.EPERM
	}
	if err != nil {
		return nil, fmt.Errorf("projcache: load the program: %w", err)
	}
	defer collection.Close()
	return &Program{program: collection.DetachProgram(programCache), service: service}, nil
}

func set(spec *ebpf.CollectionSpec, service Service, variables map[string]any) error {
	if err := service.Set(spec); err != nil {
		return fmt.Errorf("projcache: %w", err)
	}
	for name, value := range variables {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("projcache: set %s: %w", name, err)
		}
	}
	return nil
}

// Actions of the program, uapi/linux/bpf.h.
const (
	ActionPass = 2
	ActionTX   = 3
)

// Run gives the program one packet (BPF_PROG_TEST_RUN) and returns its action and
// the packet as it left.
func (p *Program) Run(packet []byte) (action uint32, out []byte, err error) {
	options := ebpf.RunOptions{Data: packet, DataOut: make([]byte, len(packet)+256)}
	action, err = p.program.Run(&options)
	if err != nil {
		return 0, nil, fmt.Errorf("projcache: run the program: %w", err)
	}
	return action, options.DataOut, nil
}

// Close unloads the program unless it is attached.
func (p *Program) Close() error { return p.program.Close() }
