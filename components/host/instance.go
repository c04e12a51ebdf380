package host

import (
	"context"
	"errors"
	"fmt"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"golang.org/x/sys/unix"
)

// Errors of a guest; the instance is dead after either.
var (
	ErrTrapped   = errors.New("host: guest trapped")
	ErrOutOfFuel = errors.New("host: guest ran too long and was stopped")
	// ErrDead is the answer of an instance that died or was closed.
	ErrDead = errors.New("host: instance is dead")
	// ErrBounds says that a guest's pointer leads out of its memory.
	ErrBounds = errors.New("host: out of the guest's memory")
)

// Instance is one running guest with a memory of its own.
type Instance struct {
	module *Module
	guest  api.Module
	memory *linearMemory
	fuel   api.MutableGlobal
	stack  api.MutableGlobal
	ready  []*Func // looked up by a pool
	dead   bool
}

// Func is one exported function of an instance. It owns a stack of some 10 KiB,
// or of what its calls needed, a few MiB at most: whoever keeps thousands of instances keeps few.
type Func struct {
	name     string
	instance *Instance
	function api.Function
}

// Instantiate starts a guest: memory, data and _initialize, if it has one.
func (m *Module) Instantiate(ctx context.Context) (*Instance, error) {
	mapping, err := m.mappings.take()
	if err != nil {
		return nil, err
	}
	memory := &linearMemory{mapping: mapping, refused: &m.runtime.stats.GrowthsRefused}
	config := wazero.NewModuleConfig().WithName("").WithStartFunctions("_initialize")
	guest, err := m.runtime.runtime.InstantiateModule(experimental.WithMemoryAllocator(ctx, memory), m.compiled, config)
	if err != nil {
		m.mappings.put(mapping, memory.used)
		m.runtime.stats.Traps.Add(1)
		return nil, fmt.Errorf("%w at its start: %w", ErrTrapped, err)
	}
	m.runtime.stats.Started.Add(1)
	m.runtime.stats.Live.Add(1)
	return &Instance{
		module: m, guest: guest, memory: memory,
		fuel:  guest.ExportedGlobal(fuelGlobal).(api.MutableGlobal), // meter put them there
		stack: guest.ExportedGlobal(stackGlobal).(api.MutableGlobal),
	}, nil
}

// Func looks an export up. Those that a pool looked up are there already.
func (i *Instance) Func(name string) (*Func, error) {
	for _, f := range i.ready {
		if f.name == name {
			return f, nil
		}
	}
	function := i.guest.ExportedFunction(name)
	if function == nil {
		return nil, fmt.Errorf("host: guest exports no function %q", name)
	}
	return &Func{name: name, instance: i, function: function}, nil
}

func (i *Instance) lookUp(names []string) error {
	ready := make([]*Func, 0, len(names))
	for _, name := range names {
		f, err := i.Func(name)
		if err != nil {
			return err
		}
		ready = append(ready, f)
	}
	i.ready = ready
	return nil
}

// Call calls the function: stack holds the parameters, and the results when it
// returns. It allocates nothing.
func (f *Func) Call(ctx context.Context, stack []uint64) error {
	i := f.instance
	if i.dead {
		return ErrDead
	}
	i.fuel.Set(uint64(i.module.limits.FuelPerCall))
	err := f.function.CallWithStack(ctx, stack)
	if err == nil {
		return nil
	}
	i.dead = true
	if int64(i.fuel.Get()) < 0 {
		i.module.runtime.stats.OutOfFuel.Add(1)
		return ErrOutOfFuel
	}
	i.module.runtime.stats.Traps.Add(1)
	return fmt.Errorf("%w: %w", ErrTrapped, err)
}

// Memory returns n bytes of the guest's memory. They may be read and written
// until the next call or Close.
func (i *Instance) Memory(offset, n uint32) ([]byte, error) {
	if i.dead {
		return nil, ErrDead
	}
	bytes, ok := i.guest.Memory().Read(offset, n)
	if !ok {
		return nil, fmt.Errorf("%w: %d bytes at %d", ErrBounds, n, offset)
	}
	return bytes, nil
}

// MemoryLen is the size of the guest's memory now, in bytes. What of it was never
// written takes no room.
func (i *Instance) MemoryLen() int {
	if i.dead {
		return 0
	}
	return int(i.guest.Memory().Size())
}

// AdviseHugePages asks the kernel to back the guest's memory by huge pages from now
// on, where it has any: fewer misses of the TLB for a guest that looks all over a
// large memory, and up to 2 MiB taken for one that doesn't. Memory that was touched
// already may stay in small pages.
func (i *Instance) AdviseHugePages() error {
	if i.dead {
		return ErrDead
	}
	if err := unix.Madvise(i.memory.mapping, unix.MADV_HUGEPAGE); err != nil {
		return fmt.Errorf("ask for huge pages: %w", err)
	}
	i.memory.huge = true
	return nil
}

// Dead says whether the guest died.
func (i *Instance) Dead() bool { return i.dead }

// Close ends the guest and empties its memory. It is called once.
func (i *Instance) Close(ctx context.Context) error {
	i.dead = true
	err := i.guest.Close(ctx)
	if i.memory != nil {
		i.memory.giveBack(i.module.mappings)
		i.module.runtime.stats.Live.Add(-1)
		i.memory = nil
	}
	return err
}
