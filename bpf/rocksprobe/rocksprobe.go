// Package rocksprobe publishes what a RocksDB commits, from inside of the
// writer: uprobes at the function that all writes go through, a ring buffer to
// the reader. What is rolled back, refused by a conflict or lost in a crash is
// never published, because a batch is read only when its write has returned OK.
//
// A probe that trusts offsets has to know its target. Resolve finds the
// functions by symbol, or where the file is stripped by walking from the class's
// name to its vtable, and takes builds from a table only. Prove then demands a
// known write back before anything is believed.
//
// Loss is counted, never silent: the ring may be full, a value may be too long,
// a page may be out of memory. Lost tells how many changes are missing; what
// follows from the store has then to be compared with the source.
package rocksprobe

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/nexuscore-labs/nexus/bpf/attach"
)

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -strip llvm-strip-19 -no-global-types -target amd64 -go-package rocksprobe object rocks.bpf.c -- -I../headers -O2 -g -Wall -Werror -mcpu=v3
//go:generate clang-19 --target=x86_64-linux-gnu -O2 -fPIE -ffreestanding -fno-builtin -fno-stack-protector -fcf-protection=none -fno-asynchronous-unwind-tables -nostdlib -static-pie -fuse-ld=lld -Wall -Werror -Wl,--build-id=sha1,--strip-all,-z,noexecstack,-z,separate-loadable-segments -o testdata/target_amd64 testdata/target.c

// Defaults and bounds of Options.
const (
	RingBytesDefault  = 16 << 20
	ringBytesMin      = 4 << 10
	ringBytesMax      = 1 << 30
	FlushDefault      = 5 * time.Millisecond
	WakeupBytesNormal = 64 << 10 // a batch for Options.WakeupBytes
)

// Options of Open. The zero value publishes every change of every process that
// has the target mapped, and wakes the reader as the kernel thinks best.
type Options struct {
	// RingBytes is the room between kernel and reader, a power of two; 0 for
	// RingBytesDefault.
	RingBytes int
	// WakeupBytes, if not 0, lets the kernel wake the reader only when so much
	// waits. What is less is seen after Flush at the latest. It takes the cost of
	// a wake-up off most writes.
	WakeupBytes int
	// Flush is how long the reader sleeps at most; 0 for FlushDefault.
	Flush time.Duration
	// Process, if not 0, limits the probe to one process.
	Process int
	// Routes, if set, is the table that the kernel asks about each change; what
	// it has no route for is not published. It needs a target with SurrealDB's keys.
	Routes *Routes
	// Unrouted publishes changes without a route too, with Change.Route 0. It is
	// implied where Routes is nil.
	Unrouted bool
	// Census attaches counters to Put, Commit and Rollback: what a probe on Put
	// alone would have published. It costs another trap at each.
	Census bool
	// Types, if set, is the kernel's BTF shared with other probes.
	Types *btf.Cache
	// Verify asks the verifier for its statistics too.
	Verify bool
}

func (o Options) check(target Target) (Options, error) {
	if o.RingBytes == 0 {
		o.RingBytes = RingBytesDefault
	}
	if o.Flush == 0 {
		o.Flush = FlushDefault
	}
	switch {
	case o.RingBytes < ringBytesMin || o.RingBytes > ringBytesMax || o.RingBytes&(o.RingBytes-1) != 0:
		return o, fmt.Errorf("a ring of %d bytes: want a power of two from %d to %d", o.RingBytes, ringBytesMin, ringBytesMax)
	case o.RingBytes%os.Getpagesize() != 0:
		return o, fmt.Errorf("a ring of %d bytes: want a multiple of the page size", o.RingBytes)
	case o.WakeupBytes < 0 || o.WakeupBytes > o.RingBytes/2:
		return o, fmt.Errorf("wake up at %d bytes: want 0 to half of the ring's %d", o.WakeupBytes, o.RingBytes)
	case o.Flush < 0:
		return o, fmt.Errorf("flush after %v: want more than 0", o.Flush)
	case o.Routes != nil && !target.Layout.SurrealKeys:
		return o, fmt.Errorf("routes need SurrealDB's keys, and %s has others", target.Layout.Name)
	}
	return o, nil
}

// Probe is an attached probe. Read and Prove belong to one goroutine; Counters
// and Close may be called from another.
type Probe struct {
	target     Target
	options    Options
	collection *ebpf.Collection
	links      []link.Link
	reader     *ringbuf.Reader
	record     ringbuf.Record
	programs   []attach.Program
	streams    []stream
	read       uint64
}

// Open loads the probe and attaches it. It needs CAP_BPF, CAP_PERFMON and
// CAP_SYS_ADMIN (or root), uprobes in the kernel, and Linux 5.17 or later.
func Open(target Target, options Options) (*Probe, error) {
	options, err := options.check(target)
	if err != nil {
		return nil, fmt.Errorf("open the RocksDB probe: %w", err)
	}
	p := &Probe{target: target, options: options}
	if err := p.load(); err != nil {
		return nil, fmt.Errorf("load the RocksDB probe: %w", err)
	}
	if err := p.attach(); err != nil {
		return nil, errors.Join(fmt.Errorf("attach the RocksDB probe to %s: %w", target.Path, err), p.Close())
	}
	return p, nil
}

// Programs says what is attached.
func (p *Probe) Programs() []attach.Program { return p.programs }

// Target says where the probe sits.
func (p *Probe) Target() Target { return p.target }

// Read waits for the next change until the deadline, or forever if that is zero,
// and returns os.ErrDeadlineExceeded then and os.ErrClosed after Close. The
// change's Key and Value are good until the next call.
func (p *Probe) Read(c *Change, deadline time.Time) error {
	for {
		slice := time.Now().Add(p.options.Flush)
		if !deadline.IsZero() && slice.After(deadline) {
			slice = deadline
		}
		p.reader.SetDeadline(slice)
		err := p.reader.ReadInto(&p.record)
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded) && (deadline.IsZero() || time.Now().Before(deadline)):
			continue // a slice without a change
		case errors.Is(err, os.ErrDeadlineExceeded):
			return os.ErrDeadlineExceeded
		case errors.Is(err, ringbuf.ErrClosed):
			return os.ErrClosed
		default:
			return fmt.Errorf("read the ring: %w", err)
		}
		if err := decode(p.record.RawSample, c); err != nil {
			return err
		}
		p.note(c)
		return nil
	}
}

// Waiting reports whether Read would return at once.
func (p *Probe) Waiting() bool { return p.reader.AvailableBytes() > 0 }

// provedIn bounds how long a known write may take to come back.
const provedIn = 5 * time.Second

// ErrNotProved says that the known write did not come back.
var ErrNotProved = errors.New("the probe did not see a known write")

// Prove makes a known write through write, which has to commit a put whose key
// or value holds the given text, and waits for it to come out of the ring. What
// else it reads meanwhile goes to seen, which may be nil. Call it before
// anything that the probe says is believed.
func (p *Probe) Prove(ctx context.Context, write func(nonce string) error, seen func(*Change)) error {
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return fmt.Errorf("make a nonce: %w", err)
	}
	nonce := "nexus" + hex.EncodeToString(random[:])
	if err := write(nonce); err != nil {
		return fmt.Errorf("make the known write: %w", err)
	}
	until := time.Now().Add(provedIn)
	for ctx.Err() == nil {
		var c Change
		err := p.Read(&c, until)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			counters, countErr := p.Counters()
			return errors.Join(fmt.Errorf("%w: %+v", ErrNotProved, counters), countErr)
		}
		if err != nil {
			return fmt.Errorf("wait for the known write: %w", err)
		}
		if c.Kind == Put && (strings.Contains(string(c.Key), nonce) || strings.Contains(string(c.Value), nonce)) {
			return nil
		}
		if seen != nil {
			seen(&c)
		}
	}
	return ctx.Err()
}

// Close detaches the probe and frees its memory. A Read that waits returns
// os.ErrClosed. Pinned routes stay.
func (p *Probe) Close() error {
	var errs []error
	for _, l := range p.links {
		errs = append(errs, l.Close())
	}
	p.links = nil
	if p.reader != nil {
		errs = append(errs, p.reader.Close())
	}
	if p.collection != nil {
		p.collection.Close()
	}
	return errors.Join(errs...)
}
