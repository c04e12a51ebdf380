package host

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/nexuscore-labs/nexus/components/host/hostile"
)

var ctx = context.Background()

const testFuel = 1_000_000

func newModule(t testing.TB) (*Runtime, *Module) {
	t.Helper()
	r, err := New(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(ctx) })
	m, err := r.Compile(ctx, hostile.Wasm, Limits{MemoryLenMax: 1 << 20, FuelPerCall: testFuel})
	if err != nil {
		t.Fatal(err)
	}
	return r, m
}

func instantiate(t testing.TB, m *Module) *Instance {
	t.Helper()
	i, err := m.Instantiate(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// call calls an export with one parameter and returns its result.
func call(t testing.TB, i *Instance, name string, param uint64) (uint64, error) {
	t.Helper()
	f, err := i.Func(name)
	if err != nil {
		t.Fatal(err)
	}
	stack := []uint64{param, 3}
	err = f.Call(ctx, stack)
	return stack[0], err
}

func TestCalls(t *testing.T) {
	r, m := newModule(t)
	i := instantiate(t, m)
	if got, err := call(t, i, "add", 4); got != 7 || err != nil {
		t.Fatalf("4 + 3 = %d, error %v", got, err)
	}
	if _, err := i.Func("absent"); err == nil {
		t.Fatal("absent function found")
	}
	if _, err := i.Memory(1<<20, 1); !errors.Is(err, ErrBounds) {
		t.Fatalf("memory beyond the end: error %v", err)
	}
	if err := i.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := i.Memory(0, 1); !errors.Is(err, ErrDead) {
		t.Fatalf("memory of a closed instance: error %v", err)
	}
	if live := r.Stats().Live.Load(); live != 0 {
		t.Fatalf("%d instances live", live)
	}
}

func TestHostileGuestsAreStoppedAndCounted(t *testing.T) {
	tests := []struct {
		export string
		param  uint64
		err    error
		fuel   uint64 // guests out of fuel afterwards
		traps  uint64
	}{
		{"spin", 0, ErrOutOfFuel, 1, 0},
		{"tree", 200, ErrOutOfFuel, 1, 0},
		{"count", testFuel + 1, ErrOutOfFuel, 1, 0},
		{"fill", 1 << 20, ErrOutOfFuel, 1, 0},
		{"move", 1 << 20, ErrOutOfFuel, 1, 0},
		{"deep", 0, ErrTrapped, 0, 1}, // the stack ends before the fuel
		{"trap", 0, ErrTrapped, 0, 1},
		{"wild", 0, ErrTrapped, 0, 1},
	}
	for _, test := range tests {
		t.Run(test.export, func(t *testing.T) {
			r, m := newModule(t)
			honest, bad := instantiate(t, m), instantiate(t, m)
			defer honest.Close(ctx)
			defer bad.Close(ctx)
			if test.export == "deep" {
				// So much fuel that only the stack's limit can be met.
				m.limits.FuelPerCall = 1 << 40
			}
			if _, err := call(t, bad, test.export, test.param); !errors.Is(err, test.err) {
				t.Fatalf("error %v, want %v", err, test.err)
			}
			if _, err := call(t, bad, "add", 1); !errors.Is(err, ErrDead) {
				t.Fatalf("the dead guest answered with error %v", err)
			}
			if got, err := call(t, honest, "add", 1); got != 4 || err != nil {
				t.Fatalf("the other guest answered %d, error %v", got, err)
			}
			s := r.Stats()
			if s.OutOfFuel.Load() != test.fuel || s.Traps.Load() != test.traps {
				t.Fatalf("%d out of fuel, %d trapped", s.OutOfFuel.Load(), s.Traps.Load())
			}
		})
	}
}

func TestFuelIsExactAndFilledUpForEachCall(t *testing.T) {
	_, m := newModule(t)
	i := instantiate(t, m)
	defer i.Close(ctx)
	for range 3 {
		// One unit is for entering the function.
		if got, err := call(t, i, "count", testFuel-1); got != testFuel-1 || err != nil {
			t.Fatalf("counted to %d, error %v", got, err)
		}
	}
	if _, err := call(t, i, "count", testFuel); !errors.Is(err, ErrOutOfFuel) {
		t.Fatalf("error %v, want %v", err, ErrOutOfFuel)
	}
}

// Calls take of the stack while they are under way, and give it back by whatever
// way they end.
func TestStackIsBounded(t *testing.T) {
	_, m := newModule(t)
	i := instantiate(t, m)
	defer i.Close(ctx)
	deepest := uint64(0)
	for n := uint64(1); ; n *= 2 {
		got, err := call(t, i, "descend", n)
		if err != nil {
			if !errors.Is(err, ErrTrapped) {
				t.Fatal(err)
			}
			break
		}
		if got != n || i.stack.Get() != stackUnits {
			t.Fatalf("went down %d of %d calls, %d units are left", got, n, i.stack.Get())
		}
		deepest = n
	}
	if deepest < 256 || deepest > stackUnits {
		t.Fatalf("it could go down %d calls", deepest)
	}
}

// A function with several results is guarded, too. The module's second function
// calls the first, which gives 7 and 9, and returns what it got.
func TestSeveralResults(t *testing.T) {
	r, _ := newModule(t)
	module := "\x00asm\x01\x00\x00\x00" + "\x01\x06\x01\x60\x00\x02\x7f\x7e" + "\x03\x03\x02\x00\x00" + "\x05\x03\x01\x00\x01" +
		"\x07\x0e\x02\x01f\x00\x01\x06memory\x02\x00" + "\x0a\x0f\x02\x06\x00\x41\x07\x42\x09\x0b\x06\x00\x10\x00\x0f\x00\x0b"
	m, err := r.Compile(ctx, []byte(module), Limits{MemoryLenMax: 1 << 20, FuelPerCall: 100})
	if err != nil {
		t.Fatal(err)
	}
	i := instantiate(t, m)
	defer i.Close(ctx)
	f, err := i.Func("f")
	if err != nil {
		t.Fatal(err)
	}
	stack := []uint64{0, 0}
	if err := f.Call(ctx, stack); err != nil || stack[0] != 7 || stack[1] != 9 || i.stack.Get() != stackUnits {
		t.Fatalf("got %v, error %v, %d units left", stack, err, i.stack.Get())
	}
}

// A call may clear as much memory as its fuel pays for: 64 bytes a unit.
func TestBulkWorkIsChargedByItsLength(t *testing.T) {
	_, m := newModule(t)
	i := instantiate(t, m)
	defer i.Close(ctx)
	const unitsPerFill = 512<<10/64 + 1 // and the loop's turn
	for _, test := range []struct {
		fills uint64
		err   error
	}{{testFuel / unitsPerFill, nil}, {testFuel/unitsPerFill + 1, ErrOutOfFuel}} {
		if _, err := call(t, i, "fill", test.fills); !errors.Is(err, test.err) {
			t.Fatalf("%d fills: error %v, want %v", test.fills, err, test.err)
		}
	}
}

func TestMemoryGrowsToItsLimitOnly(t *testing.T) {
	r, m := newModule(t)
	i := instantiate(t, m)
	defer i.Close(ctx)
	if pages, err := call(t, i, "grow", 0); pages != 16 || err != nil {
		t.Fatalf("grew to %d pages, error %v", pages, err)
	}
	if _, err := i.Memory(1<<20-1, 1); err != nil {
		t.Fatal(err)
	}
	if n := r.Stats().GrowthsRefused.Load(); n != 1 {
		t.Fatalf("%d growths refused", n)
	}
}

// A memory that a former instance wrote all over must come back empty.
func TestInstancesShareNothing(t *testing.T) {
	_, m := newModule(t)
	for round := range 20 {
		i := instantiate(t, m)
		if before, err := call(t, i, "keep", 77); before != 0 || err != nil {
			t.Fatalf("round %d: found %d of a former instance, error %v", round, before, err)
		}
		if _, err := call(t, i, "grow", 0); err != nil {
			t.Fatal(err)
		}
		all, err := i.Memory(0, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for at := len(all) / 2; at < len(all); at++ {
			if all[at] != 0 {
				t.Fatalf("round %d: byte %d of a fresh memory is %#x", round, at, all[at])
			}
			all[at] = 0xee
		}
		if err := i.Close(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPool(t *testing.T) {
	r, m := newModule(t)
	p, err := NewPool(m, 4)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for worker := range uint64(8) {
		wg.Go(func() {
			for range 50 {
				i, err := p.Get(ctx)
				if err != nil {
					t.Error(err)
					return
				}
				if before, err := call(t, i, "keep", worker+1); before != 0 || err != nil {
					t.Errorf("instance was used before: %d, error %v", before, err)
				}
				if worker == 0 {
					call(t, i, "trap", 0)
				}
				if err := i.Close(ctx); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := p.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if s := r.Stats(); s.Live.Load() != 0 || s.Traps.Load() != 50 {
		t.Fatalf("%d live, %d traps", s.Live.Load(), s.Traps.Load())
	}
}

func TestPoolFillsItself(t *testing.T) {
	r, m := newModule(t)
	p, err := NewPool(m, 3, "add")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close(ctx)
	deadline := time.Now().Add(20 * time.Second)
	for len(p.ready) < 3 {
		if time.Now().After(deadline) {
			t.Fatalf("%d instances ready", len(p.ready))
		}
		time.Sleep(time.Millisecond)
	}
	i, err := p.Get(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close(ctx)
	if n := r.Stats().FromPool.Load(); n != 1 {
		t.Fatalf("%d instances came from the pool", n)
	}
	if allocations := testing.AllocsPerRun(1, func() { i.Func("add") }); allocations != 0 {
		t.Fatalf("an export that the pool looked up costs %v allocations", allocations)
	}
	if absent, err := NewPool(m, 1, "absent"); err != nil {
		t.Fatal(err)
	} else if _, err := absent.Get(ctx); err == nil {
		t.Fatal("a guest without the pool's export was handed out")
	}
}

func TestCompileRefuses(t *testing.T) {
	r, _ := newModule(t)
	limits := Limits{MemoryLenMax: 1 << 20, FuelPerCall: 1}
	header := "\x00asm\x01\x00\x00\x00"
	tests := map[string]struct {
		wasm   string
		limits Limits
	}{
		"nothing":       {"", limits},
		"text":          {"(module)", limits},
		"no memory":     {header, limits},
		"import":        {header + "\x01\x04\x01\x60\x00\x00" + "\x02\x07\x01\x01e\x01f\x00\x00", limits},
		"table.grow":    {header + "\x01\x04\x01\x60\x00\x00" + "\x03\x02\x01\x00" + "\x0a\x0b\x01\x09\x00\xd0\x70\x41\x01\xfc\x0f\x00\x0b", limits},
		"huge type":     {header + "\x01\x08\x01\x60\xff\xff\xff\xff\x0f\x00", limits},
		"huge table":    {header + "\x04\x07\x01\x70\x00\xff\xff\xff\x0f", limits},
		"huge code":     {header + "\x0a\x05\xff\xff\xff\xff\x0f", limits},
		"cut off":       {string(hostile.Wasm[:len(hostile.Wasm)/2]), limits},
		"limit too low": {string(hostile.Wasm), Limits{MemoryLenMax: pageLen, FuelPerCall: 1}},
		"no limit":      {string(hostile.Wasm), Limits{FuelPerCall: 1}},
		"no fuel":       {string(hostile.Wasm), Limits{MemoryLenMax: 1 << 20}},
		"huge limit":    {string(hostile.Wasm), Limits{MemoryLenMax: MemoryLenMax + 1, FuelPerCall: 1}},
	}
	for name, test := range tests {
		if name == "limit too low" {
			test.wasm = header + "\x05\x03\x01\x00\x02" + "\x07\x0a\x01\x06memory\x02\x00"
		}
		if m, err := r.Compile(ctx, []byte(test.wasm), test.limits); err == nil {
			t.Errorf("%s: compiled as %+v", name, m)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
}

func TestCompilationCacheOnDisk(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		r, err := New(ctx, dir)
		if err != nil {
			t.Fatal(err)
		}
		m, err := r.Compile(ctx, hostile.Wasm, Limits{MemoryLenMax: 1 << 20, FuelPerCall: 1000})
		if err != nil {
			t.Fatal(err)
		}
		i := instantiate(t, m)
		if got, err := call(t, i, "add", 1); got != 4 || err != nil {
			t.Fatalf("got %d, error %v", got, err)
		}
		i.Close(ctx)
		r.Close(ctx)
	}
	if _, err := New(ctx, "/dev/null/cache"); err == nil {
		t.Fatal("a cache below a file was accepted")
	}
}

// FuzzMeter: whatever the bytes, metering ends with a module or an error, and
// what the compiler takes before it takes afterwards.
func FuzzMeter(f *testing.F) {
	f.Add(hostile.Wasm)
	f.Add([]byte("\x00asm\x01\x00\x00\x00"))
	r, err := New(ctx, "")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { r.Close(ctx) })
	f.Fuzz(func(t *testing.T, module []byte) {
		metered, err := meter(module, 1)
		if err != nil {
			return
		}
		plain, err := r.runtime.CompileModule(ctx, module)
		if err != nil {
			return
		}
		plain.Close(ctx)
		compiled, err := r.runtime.CompileModule(ctx, metered)
		if err != nil {
			t.Fatalf("valid before metering, afterwards: %v", err)
		}
		compiled.Close(ctx)
	})
}
