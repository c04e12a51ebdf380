package projection

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/vectors.json anew")

// vectors are events and what comes of them, also for the cross-check of the guest
// as a component (make crosscheck).
type vectors struct {
	Events [][6]uint64  `json:"events"` // time, order, product, amount, quantity, kind
	Views  []viewVector `json:"views"`
	State  string       `json:"state"`
}

type viewVector struct {
	Version  uint64 `json:"version"`
	Counts   bool   `json:"counts"`
	Top      uint32 `json:"top"`
	Recent   uint32 `json:"recent"`
	Encoding string `json:"encoding"`
}

// makeVectors asks the plain twin.
func makeVectors(t *testing.T) vectors {
	t.Helper()
	var v vectors
	var n Native
	rng := rand.New(rand.NewPCG(10, 10))
	for range 500 {
		e := randomEvent(rng, 200)
		v.Events = append(v.Events, [6]uint64{e.TimeMs, uint64(e.Order), uint64(e.Product), uint64(e.Amount), uint64(e.Quantity), uint64(e.Kind)})
		n.Apply(AppendEvent(nil, e))
	}
	for i, view := range Views {
		view.Version = uint64(i) * 1000
		encoding, err := n.Encode(nil, view)
		if err != nil {
			t.Fatal(err)
		}
		v.Views = append(v.Views, viewVector{view.Version, view.Counts, view.Top, view.Recent, hex.EncodeToString(encoding)})
	}
	state, err := n.Save(nil)
	if err != nil {
		t.Fatal(err)
	}
	v.State = hex.EncodeToString(state)
	return v
}

func TestVectors(t *testing.T) {
	file := filepath.Join("testdata", "vectors.json")
	want, err := json.Marshal(makeVectors(t))
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(text, want) {
		t.Fatalf("%s is not what the twin gives (error %v): run with -update", file, err)
	}
	var v vectors
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	_, engine := newTestEngine(t)
	g := startGuest(t, engine)
	var events []byte
	for _, e := range v.Events {
		events = AppendEvent(events, Event{e[0], uint32(e[1]), uint32(e[2]), uint32(e[3]), uint16(e[4]), Kind(e[5])})
	}
	if _, err := g.Apply(events); err != nil {
		t.Fatal(err)
	}
	for _, view := range v.Views {
		got, err := g.Encode(nil, View{view.Version, view.Counts, view.Top, view.Recent})
		if err != nil || hex.EncodeToString(got) != view.Encoding {
			t.Fatalf("view %+v: got %x, error %v", view, got, err)
		}
	}
	if state, err := g.Save(nil); err != nil || hex.EncodeToString(state) != v.State {
		t.Fatalf("the states differ, error %v", err)
	}
}
