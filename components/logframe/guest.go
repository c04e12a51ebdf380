package logframe

import (
	"context"
	_ "embed"
	"encoding/binary"
	"fmt"

	"github.com/nexuscore-labs/nexus/components/host"
)

// The same compiler version gives the same bytes (clang 19.1.7): rebuild and
// compare. --strip-all keeps names and paths out of the module.
//
//go:generate clang-19 --target=wasm32-unknown-unknown -std=c17 -O2 -msimd128 -mbulk-memory -mmutable-globals -nostdlib -ffreestanding -Wall -Wextra -Werror -Wl,--no-entry -Wl,--strip-all -Wl,--build-id=none -Wl,-z,stack-size=16384 -o logframe.wasm guest/logframe.c
//go:generate chmod 644 logframe.wasm

//go:embed logframe.wasm
var guestWasm []byte

const (
	guestMemoryLen = 1 << 20
	// fuelPerCall is over ten times what the worst batch takes, one turn per
	// byte, and still ends a runaway guest after some tens of milliseconds.
	fuelPerCall = 4_000_000

	exportPrefix = "nexus:logframe/framer@1.0.0#"
	verdictLen   = 24
	outcomeLen   = 16
)

// Engine starts tenants' guests.
type Engine struct {
	pool *host.Pool
}

// NewEngine compiles the guest and keeps poolSize instances ready.
func NewEngine(ctx context.Context, runtime *host.Runtime, poolSize int) (*Engine, error) {
	return newEngine(ctx, runtime, guestWasm, poolSize)
}

// newEngine lets tests bring a hostile guest.
func newEngine(ctx context.Context, runtime *host.Runtime, wasm []byte, poolSize int) (*Engine, error) {
	module, err := runtime.Compile(ctx, wasm, host.Limits{MemoryLenMax: guestMemoryLen, FuelPerCall: fuelPerCall})
	if err != nil {
		return nil, fmt.Errorf("compile log framer: %w", err)
	}
	pool, err := host.NewPool(module, poolSize)
	if err != nil {
		return nil, err
	}
	return &Engine{pool: pool}, nil
}

// Close ends the instances that are ready. Tenants are closed by themselves.
func (e *Engine) Close() error { return e.pool.Close(context.Background()) }

// guest is one instance with its exports.
type guest struct {
	instance *host.Instance
	// Each host.Func has a stack of its own: only those of the hot path are kept.
	realloc, frame, after *host.Func
	stack                 [8]uint64
}

// start takes an instance and gives it the tenant's rules and state.
func (e *Engine) start(tenant uint32, policy Policy, state State) (*guest, error) {
	instance, err := e.pool.Get(context.Background())
	if err != nil {
		return nil, fmt.Errorf("start guest of tenant %d: %w", tenant, err)
	}
	g := &guest{instance: instance}
	if err := g.prepare(tenant, policy, state); err != nil {
		instance.Close(context.Background())
		return nil, fmt.Errorf("configure guest of tenant %d: %w", tenant, err)
	}
	return g, nil
}

func (g *guest) prepare(tenant uint32, policy Policy, state State) (err error) {
	for _, export := range []struct {
		name string
		fn   **host.Func
	}{
		{"cabi_realloc", &g.realloc},
		{exportPrefix + "frame", &g.frame},
		{"cabi_post_" + exportPrefix + "frame", &g.after},
	} {
		if *export.fn, err = g.instance.Func(export.name); err != nil {
			return err
		}
	}
	return g.callOnce("configure", uint64(tenant), state.NextSeq, state.Timestamp,
		uint64(policy.LenMin), uint64(policy.LenMax), uint64(policy.Encoding), uint64(policy.Schema))
}

// call leaves the result, if there is one, in g.stack[0].
func (g *guest) call(fn *host.Func, params ...uint64) error {
	n := copy(g.stack[:], params)
	return fn.Call(context.Background(), g.stack[:max(n, 1)])
}

// callOnce calls a function that is not worth keeping.
func (g *guest) callOnce(name string, params ...uint64) error {
	fn, err := g.instance.Func(exportPrefix + name)
	if err != nil {
		return err
	}
	return g.call(fn, params...)
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

// run frames a batch in the guest. Any error means that the guest is lost.
func (g *guest) run(next uint64, records [][]byte, verdicts []Verdict) error {
	total := 0
	for _, r := range records {
		total += len(r)
	}
	recordsAt, input, err := g.alloc(1, uint32(total))
	if err != nil {
		return err
	}
	lensAt, lens, err := g.alloc(4, uint32(4*len(records)))
	if err != nil {
		return err
	}
	for i, r := range records {
		binary.LittleEndian.PutUint32(lens[4*i:], uint32(len(r)))
		input = input[copy(input, r):]
	}
	if err := g.call(g.frame, uint64(recordsAt), uint64(total), uint64(lensAt), uint64(len(records))); err != nil {
		return err
	}
	outcomeAt := g.stack[0]
	if err := g.lift(uint32(outcomeAt), next, verdicts); err != nil {
		return err
	}
	// The guest may not touch what it returned until cabi_post, but after it
	// only the next call changes the buffer: verdicts stay valid until then.
	return g.call(g.after, outcomeAt)
}

// lift reads the outcome record at the given place. The guest is not trusted:
// it must give the sequences from next on.
func (g *guest) lift(at uint32, next uint64, verdicts []Verdict) error {
	outcome, err := g.instance.Memory(at, outcomeLen)
	if err != nil {
		return err
	}
	if count := binary.LittleEndian.Uint32(outcome[4:]); count != uint32(len(verdicts)) {
		return fmt.Errorf("guest gave %d verdicts for %d records", count, len(verdicts))
	}
	raw, err := g.instance.Memory(binary.LittleEndian.Uint32(outcome), uint32(len(verdicts)*verdictLen))
	if err != nil {
		return err
	}
	framed, err := g.instance.Memory(binary.LittleEndian.Uint32(outcome[8:]), binary.LittleEndian.Uint32(outcome[12:]))
	if err != nil {
		return err
	}
	for i := range verdicts {
		v := raw[i*verdictLen:]
		n := binary.LittleEndian.Uint32(v[16:])
		refusal := Refusal(v[20])
		if uint64(n) > uint64(len(framed)) || refusal >= GuestDied || (refusal == Framed) != (n != 0) {
			return fmt.Errorf("guest gave a verdict of %d bytes and refusal %d", n, refusal)
		}
		seq := binary.LittleEndian.Uint64(v)
		verdicts[i] = Verdict{Seq: seq, Timestamp: binary.LittleEndian.Uint64(v[8:]), Refusal: refusal}
		if refusal == Framed {
			if seq != next {
				return fmt.Errorf("guest gave sequence %d, not %d", seq, next)
			}
			next++
			verdicts[i].Framed = framed[:n:n]
		}
		framed = framed[n:]
	}
	if len(framed) != 0 {
		return fmt.Errorf("guest gave %d bytes that belong to no record", len(framed))
	}
	return nil
}
