package day10

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"

	"github.com/nexuscore-labs/nexus/components/projection"
)

// dataset says which events each tenant has. Contenders and the oracle make them
// anew from it, so that nothing passes from one to the other.
type dataset struct {
	seed    uint64
	tenants int
	base    int // events that each tenant has when a trial begins
	more    int // and that come by and by during it, at most
}

// firstSnapshot is the snapshot version that all contenders begin with.
const firstSnapshot = 1

// products is how many different ones a tenant sells: more than a projection knows.
const products = 200

// event makes event number n of a tenant: mostly orders and what becomes of them.
func (d dataset) event(tenant uint32, n int) projection.Event {
	random := rand.New(rand.NewPCG(d.seed^uint64(tenant)<<32, uint64(n)))
	e := projection.Event{
		TimeMs: 1_700_000_000_000 + uint64(n)*250, Product: random.Uint32N(products),
		Amount: 100 + random.Uint32N(10_000), Quantity: uint16(1 + random.Uint32N(5)),
	}
	switch draw := random.Uint32N(10); {
	case draw < 5:
		e.Kind, e.Order = projection.Placed, uint32(n)
	case draw < 9:
		e.Kind = projection.Kind(uint32(projection.Paid) + draw%3)
		e.Order = uint32(max(0, n-1-int(random.Uint32N(40))))
	default:
		e.Kind = projection.Priced
	}
	return e
}

// events encodes events from to to-1 of a tenant.
func (d dataset) events(tenant uint32, from, to int) []byte {
	out := make([]byte, 0, (to-from)*projection.EventLen)
	for n := from; n < to; n++ {
		out = projection.AppendEvent(out, d.event(tenant, n))
	}
	return out
}

// answer is the body that answers a Get: version, snapshot version, projection.
func answer(version uint64, snapshot uint32, encoded []byte) []byte {
	body := binary.LittleEndian.AppendUint64(make([]byte, 0, 12+len(encoded)), version)
	body = binary.LittleEndian.AppendUint32(body, snapshot)
	return append(body, encoded...)
}

// expected are all right answers: of each tenant, of each projection, after so many
// events. The plain oracle has folded the events, and each answer decodes to what
// it says.
type expected struct {
	dataset
	projections []uint32
	answers     [][][][]byte // tenant, projection, events beyond base
}

var expectedOf sync.Map // of key string: *expected; trials of a run ask for the same

func expect(d dataset, projections []uint32) (*expected, error) {
	key := fmt.Sprint(d, projections)
	if known, found := expectedOf.Load(key); found {
		return known.(*expected), nil
	}
	e := &expected{dataset: d, projections: projections, answers: make([][][][]byte, d.tenants)}
	for tenant := range e.answers {
		if err := e.foldTenant(uint32(tenant)); err != nil {
			return nil, err
		}
	}
	known, _ := expectedOf.LoadOrStore(key, e)
	return known.(*expected), nil
}

func (e *expected) foldTenant(tenant uint32) error {
	var folder projection.Native
	var oracle projection.Oracle
	all := make([][][]byte, len(e.projections))
	e.answers[tenant] = all
	for n := range e.base + e.more {
		event := e.event(tenant, n)
		oracle.Apply(event)
		if _, err := folder.Apply(projection.AppendEvent(nil, event)); err != nil {
			return fmt.Errorf("fold event %d of tenant %d: %w", n, tenant, err)
		}
		if n+1 < e.base {
			continue
		}
		for i, number := range e.projections {
			body, err := checkedAnswer(&folder, &oracle, number)
			if err != nil {
				return fmt.Errorf("tenant %d, projection %d, %d events: %w", tenant, number, n+1, err)
			}
			all[i] = append(all[i], body)
		}
	}
	return nil
}

// checkedAnswer encodes a projection and has the oracle say that it is right.
func checkedAnswer(folder *projection.Native, oracle *projection.Oracle, number uint32) ([]byte, error) {
	view, known := projection.ViewOf(number)
	if !known {
		return nil, fmt.Errorf("no such projection")
	}
	view.Version = firstSnapshot
	encoded, err := folder.Encode(nil, view)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	contents, err := projection.Decode(encoded)
	if err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	if want := oracle.Contents(view); !reflect.DeepEqual(contents, want) {
		return nil, fmt.Errorf("encoded %+v, the oracle has %+v", contents, want)
	}
	return answer(contents.Seq, firstSnapshot, encoded), nil
}
