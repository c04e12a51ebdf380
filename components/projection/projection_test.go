package projection

import (
	"bytes"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/nexuscore-labs/nexus/components/host"
)

var ctx = context.Background()

func newTestEngine(t testing.TB) (*host.Runtime, *Engine) {
	t.Helper()
	runtime, err := host.New(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { runtime.Close(ctx) })
	engine, err := NewEngine(ctx, runtime, 4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close() })
	return runtime, engine
}

func startGuest(t testing.TB, engine *Engine) *Guest {
	t.Helper()
	g, err := engine.Start(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g
}

// randomEvent is of few or many products and orders, so that slots are found,
// taken and taken over; some events are of unknown kinds.
func randomEvent(rng *rand.Rand, ids uint32) Event {
	e := Event{
		TimeMs: rng.Uint64N(1 << 42), Order: rng.Uint32N(ids), Product: rng.Uint32N(ids),
		Amount: rng.Uint32(), Quantity: uint16(rng.Uint32()), Kind: Kind(rng.Uint32N(7)),
	}
	if rng.Uint32N(3) == 0 {
		e.Kind, e.Quantity = Placed, uint16(rng.Uint32N(3)) // ties
	}
	return e
}

// trio is the guest, its twin and the oracle of one tenant.
type trio struct {
	guest  *Guest
	native *Native
	oracle *Oracle
}

func (x *trio) apply(t *testing.T, events []Event) {
	t.Helper()
	var encoded []byte
	for _, e := range events {
		encoded = AppendEvent(encoded, e)
		x.oracle.Apply(e)
	}
	g, err := x.guest.Apply(encoded)
	if err != nil {
		t.Fatal(err)
	}
	n, err := x.native.Apply(encoded)
	if err != nil || g != n || g != x.oracle.seq {
		t.Fatalf("folded: guest %d, native %d, oracle %d, error %v", g, n, x.oracle.seq, err)
	}
}

func (x *trio) compare(t *testing.T, view View) {
	t.Helper()
	g, err := x.guest.Encode(nil, view)
	if err != nil {
		t.Fatal(err)
	}
	n, err := x.native.Encode([]byte("before"), view)
	if err != nil || !bytes.Equal(g, n[len("before"):]) {
		t.Fatalf("view %+v, error %v:\nguest  %x\nnative %x", view, err, g, n)
	}
	got, err := Decode(g)
	if want := x.oracle.Contents(view); err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("view %+v, error %v:\ngot  %+v\nwant %+v", view, err, got, want)
	}
}

func TestFoldersAgreeWithTheOracle(t *testing.T) {
	_, engine := newTestEngine(t)
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 1))
		ids := []uint32{1, 5, 127, 128, 129, 300, 1 << 20, math.MaxUint32}[seed%8]
		x := &trio{startGuest(t, engine), &Native{}, &Oracle{}}
		for range 12 {
			events := make([]Event, rng.IntN(400))
			for i := range events {
				events[i] = randomEvent(rng, ids)
			}
			x.apply(t, events)
			for _, view := range Views {
				view.Version = rng.Uint64()
				x.compare(t, view)
			}
			x.compare(t, View{Top: rng.Uint32N(100), Recent: rng.Uint32N(90), Counts: rng.Uint32N(2) == 0})
			if rng.IntN(3) == 0 {
				x.moveOn(t, engine)
			}
		}
		x.guest.Close()
	}
}

// moveOn goes on in a fresh guest and a fresh twin, each from the other's state.
func (x *trio) moveOn(t *testing.T, engine *Engine) {
	t.Helper()
	fromGuest, err := x.guest.Save(nil)
	if err != nil {
		t.Fatal(err)
	}
	fromNative, err := x.native.Save(nil)
	if err != nil || !bytes.Equal(fromGuest, fromNative) || len(fromGuest) != StateLen {
		t.Fatalf("states of %d and %d bytes differ, error %v", len(fromGuest), len(fromNative), err)
	}
	x.guest.Close()
	x.guest, x.native = startGuest(t, engine), &Native{}
	if err := errors.Join(x.guest.Restore(fromNative), x.native.Restore(fromGuest)); err != nil {
		t.Fatal(err)
	}
}

// Full, the views' encodings are of 64 bytes to nearly 4 KiB.
func TestViewsSpanTheSizes(t *testing.T) {
	n := &Native{}
	for i := range uint32(SlotsMax) {
		n.fold(Event{Kind: Placed, Product: i, Order: i, Quantity: 1})
	}
	var sizes []int
	for number := range len(Views) {
		view, ok := ViewOf(uint32(number + 1))
		encoded, err := n.Encode(nil, view)
		if err != nil || !ok {
			t.Fatal(err)
		}
		sizes = append(sizes, len(encoded))
	}
	if want := []int{64, 112, 248, 504, 952, 1784, 2680, 4056}; !reflect.DeepEqual(sizes, want) {
		t.Fatalf("sizes %v, want %v", sizes, want)
	}
	for _, number := range []uint32{0, uint32(len(Views)) + 1} {
		if _, ok := ViewOf(number); ok {
			t.Fatalf("projection %d exists", number)
		}
	}
}

func TestRefusals(t *testing.T) {
	_, engine := newTestEngine(t)
	whole, err := (&Native{}).Save(nil)
	if err != nil {
		t.Fatal(err)
	}
	damaged := func(at int, v byte) []byte {
		state := bytes.Clone(whole)
		state[at] = v
		return state
	}
	for name, f := range map[string]Folder{"guest": startGuest(t, engine), "native": &Native{}} {
		for _, events := range [][]byte{make([]byte, 23), make([]byte, EventLen*(BatchMax+1))} {
			if _, err := f.Apply(events); !errors.Is(err, ErrRange) {
				t.Errorf("%s: %d bytes of events: error %v", name, len(events), err)
			}
		}
		for _, state := range [][]byte{nil, whole[1:], damaged(0, 0), damaged(4, 2), damaged(72, 129), damaged(76, 129), damaged(80, 128)} {
			if err := f.Restore(state); !errors.Is(err, ErrState) {
				t.Errorf("%s: state of %d bytes: error %v", name, len(state), err)
			}
		}
		for _, view := range []View{{Top: 129}, {Recent: 129}, {Counts: true, Top: 128, Recent: 128}} {
			if _, err := f.Encode(nil, view); !errors.Is(err, ErrRange) {
				t.Errorf("%s: view %+v: error %v", name, view, err)
			}
		}
		// It lives on, and takes the largest batch.
		if seq, err := f.Apply(make([]byte, EventLen*BatchMax)); seq != BatchMax || err != nil {
			t.Errorf("%s: folded %d, error %v", name, seq, err)
		}
	}
}

// Whatever the bytes, Decode ends with contents or an error.
func FuzzDecode(f *testing.F) {
	n := &Native{}
	n.fold(Event{Kind: Placed, Product: 7, Order: 9, Quantity: 1})
	for _, view := range Views {
		encoded, err := n.Encode(nil, view)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(encoded)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := Decode(data); err != nil && !errors.Is(err, ErrEncoding) {
			t.Fatal(err)
		}
	})
}

// Whatever the bytes, the twin takes a state only if the guest does, and goes on
// from it as the guest does.
func FuzzRestore(f *testing.F) {
	state, err := (&Native{}).Save(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(state, uint64(1))
	_, engine := newTestEngine(f)
	f.Fuzz(func(t *testing.T, state []byte, seed uint64) {
		g, err := engine.Start(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		n := &Native{}
		guestErr, nativeErr := g.Restore(state), n.Restore(state)
		if (guestErr == nil) != (nativeErr == nil) {
			t.Fatalf("guest: error %v, native: error %v", guestErr, nativeErr)
		}
		rng := rand.New(rand.NewPCG(seed, 2))
		var events []byte
		for range 300 {
			events = AppendEvent(events, randomEvent(rng, 200))
		}
		if _, err := g.Apply(events); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzEvent(f *testing.F) {
	f.Add(make([]byte, EventLen))
	f.Fuzz(func(t *testing.T, src []byte) {
		if len(src) < EventLen {
			return
		}
		e := DecodeEvent(src)
		if again := DecodeEvent(AppendEvent(nil, e)); again != e {
			t.Fatalf("%+v became %+v", e, again)
		}
	})
}
