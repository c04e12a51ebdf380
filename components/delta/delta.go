// Package delta decides in WebAssembly which changed vectors are worth
// publishing: those whose cosine distance from the last published vector of the
// same key is above a threshold. Each tenant has a guest of its own, with a
// bounded cache of published vectors in its memory.
//
// What is compared with is what was published last, not what was seen last: a
// record that drifts by a little each time is published when the sum is too
// much. A key that is not in the cache is published, so eviction costs writes
// and never loses a change.
//
// The guest is guest/delta.c, its interface guest/delta.wit. It is a core module
// whose exports follow that interface's canonical ABI. Native does the same in
// Go: the tests hold the two against each other, the benchmarks too.
package delta

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

const (
	// BatchMax bounds the vectors of one call.
	BatchMax = 256
	// DimMax bounds their length.
	DimMax = 2048
	// CapacityMax bounds the keys of a cache.
	CapacityMax = 1 << 20
	// vectorBytesMax bounds the vectors of one call together.
	vectorBytesMax = 2 << 20
	ways           = 8
	// ThresholdDefault is the distance up to which a change is not published.
	ThresholdDefault = 0.02
)

// Precision is how published vectors are kept.
type Precision uint8

const (
	Float32 Precision = iota
	Int8              // a quarter of the memory, distances off by up to about 0.001
)

// Key identifies a record: a 128-bit hash of its table and id.
type Key struct{ High, Low uint64 }

// Options of a tenant's cache.
type Options struct {
	Dim       int
	Capacity  int // keys, rounded up to eight times a power of two
	Precision Precision
}

func (o Options) check() error {
	if o.Dim < 1 || o.Dim > DimMax || o.Capacity < 1 || o.Capacity > CapacityMax || o.Precision > Int8 {
		return fmt.Errorf("delta: options %+v out of range", o)
	}
	return nil
}

// Batch is how many vectors one call takes.
func (o Options) Batch() int { return min(BatchMax, vectorBytesMax/(4*o.Dim)) }

// Decision is what is to be done with a vector.
type Decision uint8

const (
	Skip    Decision = iota // near enough to what was published last
	Changed                 // publish it
	Unknown                 // publish it: nothing is known of the key
	Invalid                 // it holds a value that is not finite, or its length overflows
)

func (d Decision) String() string { return [...]string{"skip", "changed", "unknown", "invalid"}[d] }

// Publish says that the vector is to be published, or the key forgotten.
func (d Decision) Publish() bool { return d == Changed || d == Unknown }

// Verdict is the decision on a vector and, for Skip and Changed, its distance
// from the last published one.
type Verdict struct {
	Distance float32
	Decision Decision
}

// Checker judges the vectors of a tenant. One goroutine uses it at a time.
type Checker interface {
	// Check judges as many vectors as there are keys, in order; vectors holds
	// them without gaps. A key may appear several times. After an error nothing
	// was decided, and everything that was published is forgotten.
	Check(keys []Key, vectors []float32, threshold float32, out []Verdict) error
	// Forget makes keys unknown: they were deleted, or could not be published.
	Forget(keys []Key) error
	Close() error
}

// ErrClosed says that the tenant was closed.
var ErrClosed = errors.New("delta: tenant is closed")

func checkBatch(o Options, keys []Key, vectors []float32, threshold float32, out []Verdict) error {
	if len(keys) > o.Batch() || len(vectors) != len(keys)*o.Dim || len(out) != len(keys) {
		return fmt.Errorf("delta: %d keys, %d values, room for %d verdicts; want at most %d keys and %d values each",
			len(keys), len(vectors), len(out), o.Batch(), o.Dim)
	}
	if !(threshold >= 0 && threshold <= 2) {
		return fmt.Errorf("delta: threshold %v, want 0 to 2", threshold)
	}
	return nil
}

// Tenant is a Checker in a guest. A guest that dies is replaced by a fresh one
// with an empty cache: everything is published again, nothing is lost.
type Tenant struct {
	engine *Engine
	o      Options
	guest  *guest
	closed bool
	died   uint64
}

var _ Checker = (*Tenant)(nil)

// Tenant starts a guest for one tenant.
func (e *Engine) Tenant(o Options) (*Tenant, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	t := &Tenant{engine: e, o: o}
	return t, t.revive()
}

func (t *Tenant) revive() (err error) {
	if t.closed {
		return ErrClosed
	}
	if t.guest == nil {
		t.guest, err = t.engine.start(context.Background(), t.o)
	}
	return err
}

// Check implements Checker.
func (t *Tenant) Check(keys []Key, vectors []float32, threshold float32, out []Verdict) error {
	if err := checkBatch(t.o, keys, vectors, threshold, out); err != nil {
		return err
	}
	if err := t.revive(); err != nil || len(keys) == 0 {
		return err
	}
	if err := t.guest.run(keys, vectors, threshold, out); err != nil {
		return t.bury(err)
	}
	return nil
}

// Forget implements Checker.
func (t *Tenant) Forget(keys []Key) error {
	for len(keys) > 0 {
		if err := t.revive(); err != nil {
			return err
		}
		n := min(len(keys), BatchMax)
		at, err := t.guest.putKeys(keys[:n])
		if err == nil {
			err = t.guest.call(t.guest.forget, uint64(at), uint64(n))
		}
		if err != nil {
			// A fresh guest knows none of them.
			_ = t.bury(err)
			return nil
		}
		keys = keys[n:]
	}
	return nil
}

// bury ends a guest that failed for the given cause.
func (t *Tenant) bury(cause error) error {
	t.died++
	err := t.guest.instance.Close(context.Background())
	t.guest = nil
	return errors.Join(fmt.Errorf("delta: guest died: %w", cause), err)
}

// Died counts the guests that this tenant lost.
func (t *Tenant) Died() uint64 { return t.died }

// Close ends the guest.
func (t *Tenant) Close() error {
	if t.closed {
		return nil
	}
	t.closed = true
	if t.guest == nil {
		return nil
	}
	return t.guest.instance.Close(context.Background())
}

func putFloats(dst []byte, v []float32) {
	for i, x := range v {
		binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(x))
	}
}
