package projection

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)

// goGuest is an instance of the guest in Go.
type goGuest struct {
	module        api.Module
	apply, encode api.Function
	input         uint32
}

// buildGoGuest compiles goguest and makes a runtime for it.
func buildGoGuest(b *testing.B) (wazero.Runtime, wazero.CompiledModule, int) {
	b.Helper()
	file := filepath.Join(b.TempDir(), "goguest.wasm")
	build := exec.Command("go", "build", "-buildmode=c-shared", "-ldflags=-s -w", "-o", file, "./goguest")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=-buildvcs=false")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("build the guest in Go: %v: %s", err, out)
	}
	wasm, err := os.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	runtime := wazero.NewRuntime(ctx)
	b.Cleanup(func() { runtime.Close(ctx) })
	wasi_snapshot_preview1.MustInstantiate(ctx, runtime)
	compiled, err := runtime.CompileModule(ctx, wasm)
	if err != nil {
		b.Fatal(err)
	}
	return runtime, compiled, len(wasm)
}

func startGoGuest(b *testing.B, runtime wazero.Runtime, compiled wazero.CompiledModule) *goGuest {
	b.Helper()
	module, err := runtime.InstantiateModule(ctx, compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions("_initialize"))
	if err != nil {
		b.Fatal(err)
	}
	at, err := module.ExportedFunction("input").Call(ctx)
	if err != nil {
		b.Fatal(err)
	}
	return &goGuest{module, module.ExportedFunction("apply"), module.ExportedFunction("encode"), uint32(at[0])}
}

func (g *goGuest) run(b *testing.B, events []byte) {
	b.Helper()
	if !g.module.Memory().Write(g.input, events) {
		b.Fatal("no room for events")
	}
	if _, err := g.apply.Call(ctx, uint64(len(events))); err != nil {
		b.Fatal(err)
	}
}

func (g *goGuest) encoding(b *testing.B, view View) []byte {
	b.Helper()
	at, err := g.encode.Call(ctx, view.Version, 1, uint64(view.Top), uint64(view.Recent))
	if err != nil {
		b.Fatal(err)
	}
	data, ok := g.module.Memory().Read(uint32(at[0]), uint32(at[0]>>32))
	if !ok {
		b.Fatal("the encoding is out of memory")
	}
	return data
}

// BenchmarkGoGuest builds the same guest in Go and says what it takes to start, to
// fold and to be kept. It gives the same bytes.
func BenchmarkGoGuest(b *testing.B) {
	runtime, compiled, size := buildGoGuest(b)
	events := benchEvents(10_000)
	var plain Native
	if _, err := plain.Apply(events); err != nil {
		b.Fatal(err)
	}
	g := startGoGuest(b, runtime, compiled)
	g.run(b, events)
	want, err := plain.Encode(nil, Views[7])
	if err != nil {
		b.Fatal(err)
	}
	if got := g.encoding(b, Views[7]); !bytes.Equal(got, want) {
		b.Fatalf("the guest in Go gives %x, plain Go %x", got, want)
	}
	b.Run("apply", func(b *testing.B) {
		for b.Loop() {
			g.run(b, events)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*BatchMax), "ns/event")
		b.ReportMetric(float64(g.module.Memory().Size()), "B/memory")
		b.ReportMetric(float64(size), "B/module")
	})
	b.Run("encode", func(b *testing.B) {
		for b.Loop() {
			g.encoding(b, Views[7])
		}
	})
	b.Run("start", func(b *testing.B) {
		var startsNs []int64
		for b.Loop() {
			began := time.Now()
			i := startGoGuest(b, runtime, compiled)
			startsNs = append(startsNs, time.Since(began).Nanoseconds())
			i.module.Close(ctx)
		}
		slices.Sort(startsNs)
		b.ReportMetric(float64(startsNs[len(startsNs)/2]), "ns/start-p50")
		b.ReportMetric(float64(startsNs[len(startsNs)*99/100]), "ns/start-p99")
	})
}
