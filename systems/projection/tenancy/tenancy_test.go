package tenancy

import (
	"context"
	"math/rand/v2"
	"os"
	"reflect"
	"testing"

	fold "github.com/nexuscore-labs/nexus/components/projection"
)

// TestMain lets the test binary be a tenant's process.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "tenant" {
		os.Exit(ChildMain())
	}
	os.Exit(m.Run())
}

// Every kind of fleet keeps its tenants apart and answers as the oracle does.
func TestFleets(t *testing.T) {
	for kind, tenants := range map[string]int{KindGuests: 50, KindGoroutines: 50, KindProcesses: 5} {
		t.Run(kind, func(t *testing.T) {
			fleet, err := New(context.Background(), kind, tenants, []string{os.Args[0], "tenant"})
			if err != nil {
				t.Fatal(err)
			}
			oracles := make([]fold.Oracle, tenants)
			rng := rand.New(rand.NewPCG(1, 1))
			for n := range 1000 {
				tenant := rng.IntN(tenants)
				event := fold.Event{TimeMs: uint64(n), Kind: fold.Kind(rng.Uint32N(7)), Order: rng.Uint32N(9), Product: rng.Uint32N(20), Amount: rng.Uint32(), Quantity: 3}
				oracles[tenant].Apply(event)
				data, err := fleet.Ask(tenant, event)
				if err != nil {
					t.Fatal(err)
				}
				got, err := fold.Decode(data)
				if want := oracles[tenant].Contents(view); err != nil || !reflect.DeepEqual(got, want) {
					t.Fatalf("tenant %d, error %v:\ngot  %+v\nwant %+v", tenant, err, got, want)
				}
			}
			if n, err := MemoryBytes(fleet); n <= 0 || err != nil {
				t.Errorf("%d bytes, error %v", n, err)
			}
			if err := fleet.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFleetsFail(t *testing.T) {
	for kind, self := range map[string][]string{"": nil, KindProcesses: nil, "processes ": {"x"}} {
		if _, err := New(context.Background(), kind, 1, self); err == nil {
			t.Errorf("kind %q: started", kind)
		}
	}
	if _, err := NewProcesses(2, []string{"/no/such/program"}); err == nil {
		t.Error("started a program that isn't there")
	}
	fleet, err := NewProcesses(1, []string{"false"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fleet.Ask(0, fold.Event{}); err == nil {
		t.Error("a dead process answered")
	}
	if err := fleet.Close(); err == nil {
		t.Error("a process that failed was not told of")
	}
}
