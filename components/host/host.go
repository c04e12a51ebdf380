// Package host runs WebAssembly guests with wazero: core modules without
// imports, each instance alone with its own memory.
//
// What bounds a guest: its memory by Limits.MemoryLenMax, its time by
// Limits.FuelPerCall, its stack by a megabyte (see meter for both). A guest that traps or
// runs out of fuel is dead and counted; others don't notice.
//
// A Runtime, a Module and a Pool may be used concurrently, an Instance by one
// goroutine at a time.
package host

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

const (
	// MemoryLenMax bounds the memory of any instance, in bytes.
	MemoryLenMax = 64 << 20
	// fuelAtStart is what a guest has for its start function and _initialize.
	fuelAtStart = 10_000_000
	// idleMappingsMax bounds the emptied memories kept for the next instances.
	idleMappingsMax = 256
)

// Stats are a Runtime's counters.
type Stats struct {
	Started        atomic.Uint64 // instances, cold
	FromPool       atomic.Uint64 // instances that a pool had ready
	Live           atomic.Int64
	Traps          atomic.Uint64 // guests that died by themselves
	OutOfFuel      atomic.Uint64 // guests that were stopped
	GrowthsRefused atomic.Uint64 // memory.grow beyond the limit
}

// Runtime compiles modules. Its zero value is not usable, see New.
type Runtime struct {
	stats   Stats
	runtime wazero.Runtime
	cache   wazero.CompilationCache

	mu      sync.Mutex
	modules []*Module
}

// New makes a runtime. Compiled code is cached in cacheDir, which may be shared
// by processes and starts; an empty cacheDir caches in memory only.
func New(ctx context.Context, cacheDir string) (*Runtime, error) {
	cache := wazero.NewCompilationCache()
	if cacheDir != "" {
		var err error
		if cache, err = wazero.NewCompilationCacheWithDir(cacheDir); err != nil {
			return nil, fmt.Errorf("open compilation cache %s: %w", cacheDir, err)
		}
	}
	config := wazero.NewRuntimeConfig().
		WithCoreFeatures(api.CoreFeaturesV2).
		WithCompilationCache(cache).
		WithMemoryLimitPages(MemoryLenMax / pageLen).
		WithDebugInfoEnabled(false)
	return &Runtime{runtime: wazero.NewRuntimeWithConfig(ctx, config), cache: cache}, nil
}

// Stats returns the live counters.
func (r *Runtime) Stats() *Stats { return &r.stats }

// Close ends everything that runs in the runtime. Instances must not be in use.
func (r *Runtime) Close(ctx context.Context) error {
	err := errors.Join(r.runtime.Close(ctx), r.cache.Close(ctx))
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.modules {
		m.mappings.close()
	}
	return err
}

// Limits bound each instance of a module.
type Limits struct {
	MemoryLenMax int   // bytes, rounded up to 64 KiB pages; at most the constant MemoryLenMax
	FuelPerCall  int64 // function entries, loop turns, and 64 bytes each of bulk work
}

// Module is a compiled guest.
type Module struct {
	runtime  *Runtime
	compiled wazero.CompiledModule
	limits   Limits
	mappings *mappings
}

// Compile meters and compiles a guest. It must have one exported memory, called
// "memory", and no imports.
func (r *Runtime) Compile(ctx context.Context, wasm []byte, limits Limits) (*Module, error) {
	limits.MemoryLenMax = (limits.MemoryLenMax + pageLen - 1) &^ (pageLen - 1)
	if limits.MemoryLenMax <= 0 || limits.MemoryLenMax > MemoryLenMax || limits.FuelPerCall <= 0 {
		return nil, fmt.Errorf("host: limits %+v out of range", limits)
	}
	metered, err := meter(wasm, fuelAtStart)
	if err != nil {
		return nil, err
	}
	compiled, err := r.runtime.CompileModule(ctx, metered)
	if err != nil {
		return nil, fmt.Errorf("compile guest: %w", err)
	}
	memory, ok := compiled.ExportedMemories()["memory"]
	if !ok {
		return nil, errors.Join(errors.New("host: guest exports no memory"), compiled.Close(ctx))
	}
	if need := uint64(memory.Min()) * pageLen; need > uint64(limits.MemoryLenMax) {
		return nil, errors.Join(fmt.Errorf("host: guest starts with %d bytes of memory, its limit is %d", need, limits.MemoryLenMax), compiled.Close(ctx))
	}
	m := &Module{runtime: r, compiled: compiled, limits: limits,
		mappings: &mappings{len: limits.MemoryLenMax, idleMax: idleMappingsMax}}
	r.mu.Lock()
	r.modules = append(r.modules, m)
	r.mu.Unlock()
	return m, nil
}
