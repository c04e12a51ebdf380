//go:build !wasip1

package projection

import (
	"context"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/nexuscore-labs/nexus/components/host"
)

// The same compiler version gives the same bytes (clang 19.1.7): rebuild and
// compare. --strip-all keeps names and paths out of the module.
//
//go:generate clang-19 --target=wasm32-unknown-unknown -std=c17 -O2 -msimd128 -mbulk-memory -mmutable-globals -nostdlib -ffreestanding -Wall -Wextra -Werror -Wl,--no-entry -Wl,--strip-all -Wl,--build-id=none -Wl,-z,stack-size=16384 -o projection.wasm guest/projection.c
//go:generate chmod 644 projection.wasm
//go:generate flatc --go -o . projection.fbs
//go:generate gofmt -w flat

//go:embed projection.wasm
var guestWasm []byte

const (
	guestMemoryLen = 256 << 10
	// fuelPerCall is over twenty times what the largest batch takes.
	fuelPerCall = 4_000_000

	exportPrefix  = "nexus:projection/fold@1.0.0#"
	exportRealloc = "cabi_realloc"
	exportApply   = exportPrefix + "apply"
	exportRestore = exportPrefix + "restore"
	exportSave    = exportPrefix + "save"
	exportEncode  = exportPrefix + "encode"
)

// Engine starts guests. It may be used concurrently.
type Engine struct {
	pool *host.Pool
}

// NewEngine compiles the guest and keeps poolSize instances ready.
func NewEngine(ctx context.Context, runtime *host.Runtime, poolSize int) (*Engine, error) {
	module, err := runtime.Compile(ctx, guestWasm, host.Limits{MemoryLenMax: guestMemoryLen, FuelPerCall: fuelPerCall})
	if err != nil {
		return nil, fmt.Errorf("compile projection guest: %w", err)
	}
	pool, err := host.NewPool(module, poolSize, exportRealloc, exportApply, exportEncode)
	if err != nil {
		return nil, err
	}
	return &Engine{pool: pool}, nil
}

// Ready says whether a guest is ready, so that Start need not make one.
func (e *Engine) Ready() bool { return e.pool.Ready() }

// Close ends the guests that are ready. Started ones are closed by their users.
func (e *Engine) Close() error { return e.pool.Close(context.Background()) }

// Guest is a Folder in an instance of its own. After an error other than
// ErrRange and ErrState the instance is dead: close it and start another.
type Guest struct {
	instance *host.Instance
	// Each host.Func has a stack of its own: only those of the hot path are kept.
	realloc, apply, encode *host.Func
	stack                  [4]uint64
}

var _ Folder = (*Guest)(nil)

// Start gives an instance that nobody used, with nothing folded.
func (e *Engine) Start(ctx context.Context) (*Guest, error) {
	instance, err := e.pool.Get(ctx)
	if err != nil {
		return nil, fmt.Errorf("start projection guest: %w", err)
	}
	g := &Guest{instance: instance}
	for _, export := range []struct {
		name string
		fn   **host.Func
	}{{exportRealloc, &g.realloc}, {exportApply, &g.apply}, {exportEncode, &g.encode}} {
		if *export.fn, err = instance.Func(export.name); err != nil {
			return nil, errors.Join(err, instance.Close(ctx))
		}
	}
	return g, nil
}

// call leaves the result in g.stack[0].
func (g *Guest) call(fn *host.Func, params ...uint64) error {
	n := copy(g.stack[:], params)
	return fn.Call(context.Background(), g.stack[:max(n, 1)])
}

// callOnce calls a function whose stack is not worth keeping for each tenant.
func (g *Guest) callOnce(name string, params ...uint64) error {
	fn, err := g.instance.Func(name)
	if err != nil {
		return err
	}
	return g.call(fn, params...)
}

// lower copies bytes into memory that the guest gives for them.
func (g *Guest) lower(align uint64, src []byte) (at uint64, err error) {
	if err := g.call(g.realloc, 0, 0, align, uint64(len(src))); err != nil {
		return 0, err
	}
	at = g.stack[0]
	room, err := g.instance.Memory(uint32(at), uint32(len(src)))
	if err != nil {
		return 0, err
	}
	copy(room, src)
	return at, nil
}

// lift appends the list<u8> that the last call returned to dst. The guest is not
// trusted with its length.
func (g *Guest) lift(dst []byte, lenMax uint32) ([]byte, error) {
	list, err := g.instance.Memory(uint32(g.stack[0]), 8)
	if err != nil {
		return dst, err
	}
	n := binary.LittleEndian.Uint32(list[4:])
	if n > lenMax {
		return dst, fmt.Errorf("projection: guest gave %d bytes, at most %d are expected", n, lenMax)
	}
	bytes, err := g.instance.Memory(binary.LittleEndian.Uint32(list), n)
	return append(dst, bytes...), err
}

// Apply implements Folder.
func (g *Guest) Apply(events []byte) (uint64, error) {
	if err := checkEvents(events); err != nil {
		return 0, err
	}
	at, err := g.lower(8, events)
	if err != nil {
		return 0, err
	}
	if err := g.call(g.apply, at, uint64(len(events)/EventLen)); err != nil {
		return 0, err
	}
	return g.stack[0], nil
}

// Restore implements Folder.
func (g *Guest) Restore(state []byte) error {
	if len(state) != StateLen {
		return fmt.Errorf("%w: %d bytes", ErrState, len(state))
	}
	at, err := g.lower(1, state)
	if err != nil {
		return err
	}
	if err := g.callOnce(exportRestore, at, uint64(len(state))); err != nil {
		return err
	}
	if uint32(g.stack[0]) == 0 {
		return fmt.Errorf("%w: the guest refused it", ErrState)
	}
	return nil
}

// Save implements Folder.
func (g *Guest) Save(dst []byte) ([]byte, error) {
	if err := g.callOnce(exportSave); err != nil {
		return dst, err
	}
	return g.lift(dst, StateLen)
}

// Encode implements Folder.
func (g *Guest) Encode(dst []byte, view View) ([]byte, error) {
	if err := view.check(); err != nil {
		return dst, err
	}
	counts := uint64(0)
	if view.Counts {
		counts = 1
	}
	if err := g.call(g.encode, view.Version, counts, uint64(view.Top), uint64(view.Recent)); err != nil {
		return dst, err
	}
	return g.lift(dst, EncodedLenMax)
}

// Close implements Folder.
func (g *Guest) Close() error { return g.instance.Close(context.Background()) }
