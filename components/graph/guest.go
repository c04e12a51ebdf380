package graph

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
//go:generate clang-19 --target=wasm32-unknown-unknown -std=c17 -O2 -msimd128 -mbulk-memory -mmutable-globals -nostdlib -ffreestanding -Wall -Wextra -Werror -Wl,--no-entry -Wl,--strip-all -Wl,--build-id=none -Wl,-z,stack-size=16384 -o graph.wasm guest/graph.c
//go:generate clang-19 --target=wasm32-unknown-unknown -std=c17 -O2 -msimd128 -mbulk-memory -mmutable-globals -nostdlib -ffreestanding -Wall -Wextra -Werror -Wl,--no-entry -Wl,--strip-all -Wl,--build-id=none -Wl,-z,stack-size=16384 -DTREE_SET -o graph_treeset.wasm guest/graph.c
//go:generate chmod 644 graph.wasm graph_treeset.wasm

//go:embed graph.wasm
var guestWasm []byte

//go:embed graph_treeset.wasm
var treeSetWasm []byte

// Visited is how a guest's breadth-first search knows the nodes that it has met.
type Visited uint8

const (
	VisitedBitmap Visited = iota
	// VisitedTree is a B-tree made for each search, which the lesson begins with:
	// to measure what the bitmap is worth.
	VisitedTree
)

const (
	// fuelPerCall is more than the longest call takes, the loading of the
	// largest image, and still ends a runaway guest within about a second.
	fuelPerCall = 256 << 20

	// hugeImageLen is the least image that huge pages are worth their 2 MiB for.
	hugeImageLen = 4 << 20

	exportPrefix = "nexus:graph/queries@1.0.0#"
	chunkLen     = 20
	arenaLen     = 16
	listLen      = 8
	// hostListMax bounds a list from the guest, so that its bytes can be counted.
	hostListMax = 1 << 28
)

// Guests starts tenants' guests.
type Guests struct {
	pool *host.Pool
}

// Compile compiles the guest. The memory of an instance, image and traversals
// included, is bounded by memoryLenMax, in bytes.
func Compile(ctx context.Context, runtime *host.Runtime, memoryLenMax int) (*host.Module, error) {
	return compile(ctx, runtime, guestWasm, memoryLenMax)
}

func compile(ctx context.Context, runtime *host.Runtime, wasm []byte, memoryLenMax int) (*host.Module, error) {
	module, err := runtime.Compile(ctx, wasm, host.Limits{MemoryLenMax: memoryLenMax, FuelPerCall: fuelPerCall})
	if err != nil {
		return nil, fmt.Errorf("compile graph guest: %w", err)
	}
	return module, nil
}

// NewGuests compiles the guest and keeps poolSize instances ready.
func NewGuests(ctx context.Context, runtime *host.Runtime, memoryLenMax, poolSize int) (*Guests, error) {
	return NewGuestsVisited(ctx, runtime, VisitedBitmap, memoryLenMax, poolSize)
}

// NewGuestsVisited is NewGuests with a choice of the visited set.
func NewGuestsVisited(ctx context.Context, runtime *host.Runtime, visited Visited, memoryLenMax, poolSize int) (*Guests, error) {
	module, err := compile(ctx, runtime, [...][]byte{guestWasm, treeSetWasm}[visited], memoryLenMax)
	if err != nil {
		return nil, err
	}
	pool, err := host.NewPool(module, poolSize)
	if err != nil {
		return nil, err
	}
	return &Guests{pool: pool}, nil
}

// Close ends the instances that are ready. Those in use are closed by themselves.
func (g *Guests) Close() error { return g.pool.Close(context.Background()) }

// Ready says whether an instance is ready in the pool.
func (g *Guests) Ready() bool { return g.pool.Ready() }

// Guest is an instance that holds one graph.
type Guest struct {
	instance        *host.Instance
	run             *host.Func
	edges, document *host.Func // looked up when they are called first
	stack           [8]uint64
}

var _ Engine = (*Guest)(nil)

// Take takes an instance, which holds no graph yet.
func (g *Guests) Take(ctx context.Context) (*Guest, error) {
	instance, err := g.pool.Get(ctx)
	if err != nil {
		return nil, fmt.Errorf("start graph guest: %w", err)
	}
	guest := &Guest{instance: instance}
	if guest.run, err = instance.Func(exportPrefix + "run"); err != nil {
		return nil, errors.Join(err, guest.Close())
	}
	return guest, nil
}

// Load takes an instance and gives it an image.
func (g *Guests) Load(ctx context.Context, image []byte, options Options) (*Guest, error) {
	guest, err := g.Take(ctx)
	if err != nil {
		return nil, err
	}
	if err := guest.Load(image, options); err != nil {
		return nil, errors.Join(err, guest.Close())
	}
	return guest, nil
}

// Load gives the guest its image, once. The guest checks what it relies on; the
// checksum is the caller's, see Check.
func (g *Guest) Load(image []byte, options Options) error {
	if err := options.check(); err != nil {
		return err
	}
	if len(image) >= hugeImageLen {
		// Only a matter of speed: kernels without huge pages refuse.
		_ = g.instance.AdviseHugePages()
	}
	at, err := g.lower(image, sectionLen)
	if err != nil {
		return err
	}
	return g.refusable("load", uint64(at), uint64(len(image)), uint64(options.ArenaGrowth), uint64(options.Cursors))
}

// lower copies bytes into memory that the guest gives (canonical ABI, realloc).
func (g *Guest) lower(src []byte, align uint64) (uint32, error) {
	at, err := g.call("cabi_realloc", 0, 0, align, uint64(len(src)))
	if err != nil {
		return 0, err
	}
	into, err := g.instance.Memory(uint32(at), uint32(len(src)))
	if err != nil {
		return 0, err
	}
	copy(into, src)
	return uint32(at), nil
}

// call calls a function that is not worth keeping.
func (g *Guest) call(name string, params ...uint64) (uint64, error) {
	fn, err := g.instance.Func(name)
	if err != nil {
		return 0, err
	}
	copy(g.stack[:], params)
	err = fn.Call(context.Background(), g.stack[:max(len(params), 1)])
	return g.stack[0], err
}

// refusable calls a function that returns a refusal.
func (g *Guest) refusable(name string, params ...uint64) error {
	refusal, err := g.call(exportPrefix+name, params...)
	if err != nil || refusal == 0 {
		return err
	}
	return Refusal(refusal)
}

// Query implements Engine.
func (g *Guest) Query(q Query, dst []byte) ([]byte, error) {
	documents := uint64(0)
	if q.Documents {
		documents = 1
	}
	g.stack = [8]uint64{uint64(q.Root), uint64(q.Algorithm), uint64(q.DepthMax), uint64(q.ResultsMax),
		uint64(q.Position), uint64(q.ChunkLenMax), documents}
	if err := g.run.Call(context.Background(), g.stack[:7]); err != nil {
		return dst, err
	}
	chunk, err := g.instance.Memory(uint32(g.stack[0]), chunkLen)
	if err != nil {
		return dst, err
	}
	if refusal := chunk[17]; refusal != 0 {
		return dst, Refusal(refusal)
	}
	n := binary.LittleEndian.Uint32(chunk[12:])
	if n > q.ChunkLenMax {
		return dst, fmt.Errorf("graph: guest gave %d bytes, not %d at most", n, q.ChunkLenMax)
	}
	records, err := g.instance.Memory(binary.LittleEndian.Uint32(chunk[8:]), n)
	if err != nil {
		return dst, err
	}
	dst = AppendChunkHeader(dst, Chunk{
		Results: binary.LittleEndian.Uint32(chunk),
		Next:    binary.LittleEndian.Uint32(chunk[4:]),
		Done:    chunk[16] == 1,
	})
	return append(dst, records...), nil
}

// Update implements Engine.
func (g *Guest) Update(node uint32, document []byte) error {
	if len(document) > DocumentLenMax {
		return TooLarge
	}
	at, err := g.lower(document, 1)
	if err != nil {
		return err
	}
	return g.refusable("update", uint64(node), uint64(at), uint64(len(document)))
}

// Repack implements Engine.
func (g *Guest) Repack() error {
	_, err := g.call(exportPrefix + "repack")
	return err
}

// Arena implements Engine.
func (g *Guest) Arena() (Arena, error) {
	at, err := g.call(exportPrefix + "measure")
	if err != nil {
		return Arena{}, err
	}
	raw, err := g.instance.Memory(uint32(at), arenaLen)
	if err != nil {
		return Arena{}, err
	}
	number := func(at int) uint32 { return binary.LittleEndian.Uint32(raw[at:]) }
	return Arena{Used: number(0), Live: number(4), Room: number(8), Repacks: number(12)}, nil
}

// Edges returns the nodes that a node leads to, until the next call.
func (g *Guest) Edges(node uint32) ([]uint32, error) {
	cols, err := g.list(&g.edges, "edges", node, 4)
	return numbers(cols, len(cols)/4), err
}

// Document returns a node's document, until the next call.
func (g *Guest) Document(node uint32) ([]byte, error) {
	return g.list(&g.document, "document", node, 1)
}

// list calls a function that returns a list of n-byte elements of a node.
func (g *Guest) list(fn **host.Func, name string, node uint32, n uint32) (_ []byte, err error) {
	if *fn == nil {
		if *fn, err = g.instance.Func(exportPrefix + name); err != nil {
			return nil, err
		}
	}
	g.stack[0] = uint64(node)
	if err := (*fn).Call(context.Background(), g.stack[:1]); err != nil {
		return nil, err
	}
	raw, err := g.instance.Memory(uint32(g.stack[0]), listLen)
	if err != nil {
		return nil, err
	}
	count := binary.LittleEndian.Uint32(raw[4:])
	if count > hostListMax {
		return nil, fmt.Errorf("graph: guest gave a list of %d", count)
	}
	return g.instance.Memory(binary.LittleEndian.Uint32(raw), n*count)
}

// Close ends the guest.
func (g *Guest) Close() error { return g.instance.Close(context.Background()) }
