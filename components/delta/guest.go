package delta

import (
	"context"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/nexuscore-labs/nexus/components/host"
)

// The same compiler version gives the same bytes (clang 19.1.7): rebuild and
// compare. --strip-all keeps names and paths out of the module.
//
//go:generate clang-19 --target=wasm32-unknown-unknown -std=c17 -O2 -msimd128 -mbulk-memory -mmutable-globals -nostdlib -ffreestanding -Wall -Wextra -Werror -Wl,--no-entry -Wl,--strip-all -Wl,--build-id=none -Wl,-z,stack-size=16384 -o delta.wasm guest/delta.c
//go:generate chmod 644 delta.wasm

//go:embed delta.wasm
var guestWasm []byte

const (
	// fuelPerCall is some times what the largest batch takes (256 vectors of 2048
	// dimensions, 384 turns each and the search in the cache), and still ends a
	// runaway guest after some tens of milliseconds.
	fuelPerCall = 8_000_000

	exportPrefix = "nexus:delta/checker@1.0.0#"
	keyLen       = 16
	verdictLen   = 8
)

// Engine starts tenants' guests.
type Engine struct {
	module *host.Module
}

// NewEngine compiles the guest; an instance may have memoryLenMax bytes, which
// bounds the capacity of its cache.
func NewEngine(ctx context.Context, runtime *host.Runtime, memoryLenMax int) (*Engine, error) {
	module, err := runtime.Compile(ctx, guestWasm, host.Limits{MemoryLenMax: memoryLenMax, FuelPerCall: fuelPerCall})
	if err != nil {
		return nil, fmt.Errorf("compile delta checker: %w", err)
	}
	return &Engine{module: module}, nil
}

// guest is one instance with its exports.
type guest struct {
	instance *host.Instance
	// Each host.Func has a stack of its own: only those of the hot path are kept.
	realloc, check, after, forget *host.Func
	stack                         [8]uint64
}

func (e *Engine) start(ctx context.Context, o Options) (*guest, error) {
	instance, err := e.module.Instantiate(ctx)
	if err != nil {
		return nil, fmt.Errorf("start delta checker: %w", err)
	}
	g := &guest{instance: instance}
	if err := g.prepare(o); err != nil {
		return nil, errors.Join(fmt.Errorf("configure delta checker: %w", err), instance.Close(ctx))
	}
	return g, nil
}

// guestErrors are the cases of the interface's error, in order.
var guestErrors = []string{"configured already", "options out of range", "the cache does not fit the memory"}

func (g *guest) prepare(o Options) (err error) {
	var configure *host.Func
	for _, export := range []struct {
		name string
		fn   **host.Func
	}{
		{"cabi_realloc", &g.realloc},
		{exportPrefix + "configure", &configure},
		{exportPrefix + "check", &g.check},
		{"cabi_post_" + exportPrefix + "check", &g.after},
		{exportPrefix + "forget", &g.forget},
	} {
		if *export.fn, err = g.instance.Func(export.name); err != nil {
			return err
		}
	}
	if err := g.call(configure, uint64(o.Dim), uint64(o.Capacity), uint64(o.Precision)); err != nil {
		return err
	}
	outcome, err := g.instance.Memory(uint32(g.stack[0]), 2)
	if err != nil {
		return err
	}
	if outcome[0] != 0 {
		if int(outcome[1]) >= len(guestErrors) {
			return fmt.Errorf("delta: guest gave error %d", outcome[1])
		}
		return fmt.Errorf("delta: %s: %+v", guestErrors[outcome[1]], o)
	}
	return nil
}

// call leaves the result, if there is one, in g.stack[0].
func (g *guest) call(fn *host.Func, params ...uint64) error {
	n := copy(g.stack[:], params)
	return fn.Call(context.Background(), g.stack[:max(n, 1)])
}

// alloc asks the guest for n bytes of its memory (canonical ABI, realloc).
func (g *guest) alloc(align, n uint32) (uint32, []byte, error) {
	if err := g.call(g.realloc, 0, 0, uint64(align), uint64(n)); err != nil {
		return 0, nil, err
	}
	at := uint32(g.stack[0])
	bytes, err := g.instance.Memory(at, n)
	return at, bytes, err
}

func (g *guest) putKeys(keys []Key) (uint32, error) {
	at, room, err := g.alloc(8, uint32(len(keys)*keyLen))
	if err != nil {
		return 0, err
	}
	for i, key := range keys {
		binary.LittleEndian.PutUint64(room[i*keyLen:], key.High)
		binary.LittleEndian.PutUint64(room[i*keyLen+8:], key.Low)
	}
	return at, nil
}

// run checks a batch. Any error means that the guest is lost.
func (g *guest) run(keys []Key, vectors []float32, threshold float32, out []Verdict) error {
	keysAt, err := g.putKeys(keys)
	if err != nil {
		return err
	}
	vectorsAt, room, err := g.alloc(4, uint32(4*len(vectors)))
	if err != nil {
		return err
	}
	putFloats(room, vectors)
	err = g.call(g.check, uint64(keysAt), uint64(len(keys)), uint64(vectorsAt), uint64(len(vectors)), uint64(math.Float32bits(threshold)))
	if err != nil {
		return err
	}
	listAt := g.stack[0]
	if err := g.lift(uint32(listAt), out); err != nil {
		return err
	}
	return g.call(g.after, listAt)
}

// lift reads the list of verdicts at the given place. The guest is not trusted.
func (g *guest) lift(at uint32, out []Verdict) error {
	list, err := g.instance.Memory(at, 8)
	if err != nil {
		return err
	}
	if count := binary.LittleEndian.Uint32(list[4:]); count != uint32(len(out)) {
		return fmt.Errorf("delta: guest gave %d verdicts for %d vectors", count, len(out))
	}
	raw, err := g.instance.Memory(binary.LittleEndian.Uint32(list), uint32(len(out)*verdictLen))
	if err != nil {
		return err
	}
	for i := range out {
		v := raw[i*verdictLen:]
		out[i] = Verdict{Distance: math.Float32frombits(binary.LittleEndian.Uint32(v)), Decision: Decision(v[4])}
		if out[i].Decision > Invalid {
			return fmt.Errorf("delta: guest gave decision %d", v[4])
		}
	}
	return nil
}
