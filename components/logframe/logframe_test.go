package logframe

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/nexuscore-labs/nexus/components/host"
)

//go:generate clang-19 --target=wasm32-unknown-unknown -std=c17 -O2 -mbulk-memory -nostdlib -ffreestanding -Wall -Wextra -Werror -Wl,--no-entry -Wl,--strip-all -Wl,--build-id=none -Wl,-z,stack-size=16384 -o testdata/hostile.wasm testdata/hostile.c
//go:generate chmod 644 testdata/hostile.wasm

//go:embed testdata/hostile.wasm
var hostileWasm []byte

func newTestEngine(t testing.TB, wasm []byte) (*host.Runtime, *Engine) {
	t.Helper()
	ctx := context.Background()
	runtime, err := host.New(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { runtime.Close(ctx) })
	engine, err := newEngine(ctx, runtime, wasm, 4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close() })
	return runtime, engine
}

// pair is the guest and its native twin in the same state.
type pair struct {
	guest  *Tenant
	native *Native
}

func newPair(t testing.TB, engine *Engine, tenant uint32, policy Policy, state State) pair {
	t.Helper()
	guest, err := engine.Tenant(tenant, policy, state)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { guest.Close() })
	native, err := NewNative(tenant, policy, state)
	if err != nil {
		t.Fatal(err)
	}
	return pair{guest, native}
}

// frame frames the batch in both and fails the test where they differ.
func (p pair) frame(t *testing.T, records [][]byte) []Verdict {
	t.Helper()
	got, want := make([]Verdict, len(records)), make([]Verdict, len(records))
	gotErr, wantErr := p.guest.Frame(records, got), p.native.Frame(records, want)
	if (gotErr == nil) != (wantErr == nil) || errors.Is(gotErr, ErrBatch) != errors.Is(wantErr, ErrBatch) {
		t.Fatalf("guest: error %v, native: error %v", gotErr, wantErr)
	}
	if gotErr != nil {
		return nil
	}
	for i := range got {
		g, w := got[i], want[i]
		if g.Seq != w.Seq || g.Timestamp != w.Timestamp || g.Refusal != w.Refusal || !bytes.Equal(g.Framed, w.Framed) {
			t.Fatalf("record %d %.60q\nguest:  %v %d %d %.80x\nnative: %v %d %d %.80x", i, records[i],
				g.Refusal, g.Seq, g.Timestamp, g.Framed, w.Refusal, w.Seq, w.Timestamp, w.Framed)
		}
	}
	return got
}

func event(kind byte, timestamp uint64, text string) []byte {
	record := binary.LittleEndian.AppendUint64([]byte{'N', 'X', kind, 0}, timestamp)
	return append(record, text...)
}

func TestVerdicts(t *testing.T) {
	_, engine := newTestEngine(t, guestWasm)
	text := Policy{Encoding: EncodingText}
	events := Policy{Schema: SchemaEvent, Encoding: EncodingText}
	tests := []struct {
		name   string
		policy Policy
		record []byte
		want   Refusal
	}{
		{"empty", Policy{}, nil, Framed},
		{"binary", Policy{}, []byte{0xff, 0, 0xfe}, Framed},
		{"shortest", Policy{LenMin: 3}, []byte("abc"), Framed},
		{"too short", Policy{LenMin: 3}, []byte("ab"), TooShort},
		{"longest", Policy{LenMax: 3}, []byte("abc"), Framed},
		{"too long", Policy{LenMax: 3}, []byte("abcd"), TooLong},
		{"longest of all", Policy{}, make([]byte, BatchLenMax), Framed},
		{"ascii", text, bytes.Repeat([]byte("plain "), 100), Framed},
		{"utf-8", text, bytes.Repeat([]byte("Grüße, 世界 🌍 "), 50), Framed},
		{"stray continuation", text, append(bytes.Repeat([]byte("x"), 77), 0x80), NotText},
		{"overlong", text, []byte("\xc0\xaf"), NotText},
		{"overlong of three", text, []byte("\xe0\x80\xaf"), NotText},
		{"surrogate", text, []byte("\xed\xa0\x80"), NotText},
		{"beyond unicode", text, []byte("\xf4\x90\x80\x80"), NotText},
		{"cut off", text, []byte("abc\xf0\x9f\x8c"), NotText},
		{"event", events, event(1, 100, "text"), Framed},
		{"event of kind 4", events, event(4, 100, ""), Framed},
		{"event of kind 0", events, event(0, 100, ""), BadHeader},
		{"event of kind 5", events, event(5, 100, ""), BadHeader},
		{"event cut off", events, event(1, 100, "")[:11], BadHeader},
		{"event not text", events, event(1, 100, "\xff"), NotText},
		{"event of the same time", events, event(1, 50, ""), Framed},
		{"event of before", events, event(1, 49, ""), TimeWentBack},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := newPair(t, engine, 9, test.policy, State{NextSeq: 41, Timestamp: 50})
			v := p.frame(t, [][]byte{test.record})[0]
			if v.Refusal != test.want {
				t.Fatalf("%v, want %v", v.Refusal, test.want)
			}
			if test.want != Framed {
				return
			}
			got, err := Parse(v.Framed)
			if err != nil || got.Tenant != 9 || got.Seq != 41 || v.Seq != 41 || !bytes.Equal(got.Payload, test.record) {
				t.Fatalf("framed as %+v, error %v", got, err)
			}
		})
	}
}

// hostileRecord makes records that are right, nearly right, or nonsense.
func hostileRecord(rng *rand.Rand, timestamp *uint64) []byte {
	n := rng.IntN(40)
	switch rng.IntN(8) {
	case 0:
		n = rng.IntN(3000)
	case 1:
		n = 60 + rng.IntN(10) // about the width of the guest's widest turn
	}
	record := make([]byte, 0, n+EventHeaderLen+4)
	if rng.IntN(4) > 0 {
		*timestamp += rng.Uint64N(3)
		at := *timestamp
		if rng.IntN(10) == 0 {
			at -= rng.Uint64N(5)
		}
		record = event(byte(rng.IntN(6)), at, "")
	}
	alphabet := []string{"a", "Z", "é", "世", "🌍", "\u07ff", "\u0800", "\uffff", "\U0010ffff"}
	for len(record) < n {
		record = append(record, alphabet[rng.IntN(len(alphabet))]...)
		if rng.IntN(200) == 0 {
			record = append(record, byte(rng.Uint32()))
		}
	}
	if len(record) > 0 && rng.IntN(6) == 0 {
		record[rng.IntN(len(record))] ^= 1 << rng.IntN(8)
	}
	return record
}

// The guest and plain Go agree on random and hostile batches, over the life of
// tenants with every policy, rewinds included.
func TestGuestEqualsNative(t *testing.T) {
	_, engine := newTestEngine(t, guestWasm)
	for _, encoding := range []Encoding{EncodingBinary, EncodingText} {
		for _, schema := range []Schema{SchemaNone, SchemaEvent} {
			rng := rand.New(rand.NewPCG(uint64(encoding), uint64(schema)))
			policy := Policy{LenMin: 5, LenMax: 2000, Encoding: encoding, Schema: schema}
			p := newPair(t, engine, rng.Uint32(), policy, State{NextSeq: 1})
			timestamp := uint64(1000)
			refusals := map[Refusal]int{}
			for range 300 {
				before := p.guest.State()
				records := make([][]byte, rng.IntN(20))
				for i := range records {
					records[i] = hostileRecord(rng, &timestamp)
				}
				for _, v := range p.frame(t, records) {
					refusals[v.Refusal]++
				}
				if rng.IntN(10) == 0 {
					if err := errors.Join(p.guest.Rewind(before), p.native.Rewind(before)); err != nil {
						t.Fatal(err)
					}
				}
			}
			if refusals[Framed] == 0 || refusals[TooShort] == 0 || p.guest.Died() != 0 {
				t.Fatalf("verdicts %v, %d guests died: the inputs are no test", refusals, p.guest.Died())
			}
		}
	}
}

func TestBatchBounds(t *testing.T) {
	_, engine := newTestEngine(t, guestWasm)
	p := newPair(t, engine, 1, Policy{}, State{NextSeq: 1})
	small := bytes.Repeat([]byte("x"), BatchLenMax/BatchMax)
	full := make([][]byte, BatchMax)
	for i := range full {
		full[i] = small
	}
	for range 3 { // the guest's input buffer must be free again each time
		if got := p.frame(t, full); got[BatchMax-1].Refusal != Framed {
			t.Fatalf("last of a full batch: %v", got[BatchMax-1].Refusal)
		}
	}
	for name, records := range map[string][][]byte{
		"records": make([][]byte, BatchMax+1),
		"bytes":   {make([]byte, BatchLenMax), {0}},
	} {
		if err := p.guest.Frame(records, make([]Verdict, len(records))); !errors.Is(err, ErrBatch) {
			t.Errorf("too many %s: error %v", name, err)
		}
		p.frame(t, records)
	}
	if err := p.guest.Frame(full, nil); err == nil {
		t.Error("a batch without room for its verdicts was taken")
	}
	if got := p.frame(t, nil); len(got) != 0 || p.guest.Died() != 0 {
		t.Errorf("empty batch: %v, %d guests died", got, p.guest.Died())
	}
}

func TestWorstBatchFitsTheFuel(t *testing.T) {
	_, engine := newTestEngine(t, guestWasm)
	for name, pattern := range map[string]string{"two bytes": "é", "mixed": "é23456789012345", "binary": "a"} {
		p := newPair(t, engine, 1, Policy{Encoding: EncodingText}, State{NextSeq: 1})
		record := bytes.Repeat([]byte(pattern), BatchLenMax/len(pattern))
		if v := p.frame(t, [][]byte{record})[0]; v.Refusal != Framed {
			t.Errorf("%s: %v", name, v.Refusal)
		}
	}
}

func TestHostileGuestsHarmOnlyTheirRecord(t *testing.T) {
	for _, how := range "TLGWVFCRNSX" {
		t.Run(string(how), func(t *testing.T) {
			runtime, engine := newTestEngine(t, hostileWasm)
			bad, err := engine.Tenant(1, Policy{}, State{NextSeq: 7, Timestamp: 8})
			if err != nil {
				t.Fatal(err)
			}
			defer bad.Close()
			good, err := engine.Tenant(2, Policy{}, State{NextSeq: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer good.Close()

			verdicts := make([]Verdict, 3)
			if err := bad.Frame([][]byte{{'.'}, {byte(how)}, {'.'}}, verdicts); err != nil {
				t.Fatal(err)
			}
			for i, want := range []Refusal{TooShort, GuestDied, TooShort} {
				if verdicts[i].Refusal != want {
					t.Fatalf("record %d: %v, want %v", i, verdicts[i].Refusal, want)
				}
			}
			if bad.Died() != 2 { // once in the batch, once alone
				t.Fatalf("%d guests died", bad.Died())
			}
			if state := bad.State(); state != (State{NextSeq: 7, Timestamp: 8}) {
				t.Fatalf("state %+v afterwards", state)
			}
			if err := good.Frame([][]byte{{'.'}}, verdicts[:1]); err != nil || good.Died() != 0 {
				t.Fatalf("the other tenant: error %v, %d guests died", err, good.Died())
			}
			s := runtime.Stats()
			switch how {
			case 'T', 'W':
				if s.Traps.Load() != 2 {
					t.Fatalf("%d traps counted", s.Traps.Load())
				}
			case 'L', 'G':
				if s.OutOfFuel.Load() != 2 {
					t.Fatalf("%d out of fuel counted", s.OutOfFuel.Load())
				}
			}
			if refused := s.GrowthsRefused.Load(); (how == 'G') != (refused > 0) {
				t.Fatalf("%d growths refused", refused)
			}
		})
	}
}

func TestPolicyIsChecked(t *testing.T) {
	_, engine := newTestEngine(t, guestWasm)
	for _, policy := range []Policy{
		{LenMax: BatchLenMax + 1}, {LenMin: 5, LenMax: 4}, {Encoding: 9}, {Schema: 9},
	} {
		if _, err := engine.Tenant(1, policy, State{}); err == nil {
			t.Errorf("%+v was taken by the guest", policy)
		}
		if _, err := NewNative(1, policy, State{}); err == nil {
			t.Errorf("%+v was taken", policy)
		}
	}
}

func TestClosedTenant(t *testing.T) {
	_, engine := newTestEngine(t, guestWasm)
	tenant, err := engine.Tenant(1, Policy{}, State{NextSeq: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(tenant.Close(), tenant.Close()); err != nil {
		t.Fatal(err)
	}
	if err := tenant.Frame([][]byte{nil}, make([]Verdict, 1)); !errors.Is(err, ErrClosed) {
		t.Fatalf("error %v", err)
	}
	if err := tenant.Rewind(State{}); !errors.Is(err, ErrClosed) {
		t.Fatalf("error %v", err)
	}
}

// Hammer: many tenants at once, each held against its twin.
func TestManyTenantsAtOnce(t *testing.T) {
	runtime, engine := newTestEngine(t, guestWasm)
	var wg sync.WaitGroup
	for worker := range uint32(8) {
		var pairs []pair
		for tenant := range uint32(10) {
			pairs = append(pairs, newPair(t, engine, worker*10+tenant, Policy{Schema: SchemaEvent}, State{NextSeq: 1}))
		}
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(worker), 3))
			stamps := make([]uint64, len(pairs))
			for range 200 {
				which := rng.IntN(len(pairs))
				pairs[which].frame(t, [][]byte{hostileRecord(rng, &stamps[which]), hostileRecord(rng, &stamps[which])})
			}
		})
	}
	wg.Wait()
	if live := runtime.Stats().Live.Load(); live < 80 {
		t.Fatalf("%d guests live for 80 tenants", live)
	}
}

func TestParseRefusesEveryFlippedBit(t *testing.T) {
	native, err := NewNative(3, Policy{}, State{NextSeq: 5})
	if err != nil {
		t.Fatal(err)
	}
	verdicts := make([]Verdict, 1)
	if err := native.Frame([][]byte{[]byte("record")}, verdicts); err != nil {
		t.Fatal(err)
	}
	for bit := range 8 * len(verdicts[0].Framed) {
		damaged := bytes.Clone(verdicts[0].Framed)
		damaged[bit/8] ^= 1 << (bit % 8)
		if got, err := Parse(damaged); !errors.Is(err, ErrFrame) {
			t.Fatalf("bit %d flipped: parsed as %+v, error %v", bit, got, err)
		}
	}
}

func FuzzFrame(f *testing.F) {
	_, engine := newTestEngine(f, guestWasm)
	f.Add([]byte("record"), uint8(1), uint8(1), uint64(5))
	f.Add(event(2, 77, "世界"), uint8(1), uint8(1), uint64(76))
	f.Fuzz(func(t *testing.T, record []byte, encoding, schema uint8, timestamp uint64) {
		policy := Policy{LenMin: 2, LenMax: 5000, Encoding: Encoding(encoding % 2), Schema: Schema(schema % 2)}
		p := newPair(t, engine, 7, policy, State{NextSeq: 3, Timestamp: timestamp})
		p.frame(t, [][]byte{record, record})
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, src []byte) {
		record, err := Parse(src)
		if err != nil {
			return
		}
		native, err := NewNative(record.Tenant, Policy{}, State{NextSeq: record.Seq})
		if err != nil {
			t.Fatal(err)
		}
		verdicts := make([]Verdict, 1)
		if err := native.Frame([][]byte{record.Payload}, verdicts); err != nil || !bytes.Equal(verdicts[0].Framed, src) {
			t.Fatalf("parsed %x, framed again as %x, error %v", src, verdicts[0].Framed, err)
		}
	})
}

func ExampleTenant() {
	ctx := context.Background()
	runtime, err := host.New(ctx, "")
	if err != nil {
		panic(err)
	}
	defer runtime.Close(ctx)
	engine, err := NewEngine(ctx, runtime, 1)
	if err != nil {
		panic(err)
	}
	defer engine.Close()
	tenant, err := engine.Tenant(42, Policy{Encoding: EncodingText}, State{NextSeq: 1})
	if err != nil {
		panic(err)
	}
	defer tenant.Close()
	verdicts := make([]Verdict, 2)
	if err := tenant.Frame([][]byte{[]byte("hello"), {0xff}}, verdicts); err != nil {
		panic(err)
	}
	fmt.Println(verdicts[0].Refusal, verdicts[0].Seq, len(verdicts[0].Framed))
	fmt.Println(verdicts[1].Refusal)
	// Output:
	// framed 1 29
	// not UTF-8
}
