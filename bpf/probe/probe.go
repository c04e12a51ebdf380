// Package probe is what every probe shares on the Go side: the switch that
// turns an attached probe on for one cgroup, and the reading of its maps.
// The C half is headers/probe.bpf.h.
package probe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/bpf/attach"
	"github.com/nexuscore-labs/nexus/bpf/hist"
)

// Histogram is one distribution of one probe.
type Histogram struct {
	Probe string // syscall, runqueue, offcpu, oncpu, block, uring
	Label string // fdatasync, write, ...
	Unit  string // ns, bytes, count
	hist.Histogram
}

// Counter is one counter of one probe.
type Counter struct {
	Probe string
	Label string
	Value float64
	Unit  string
}

// Reading is what one probe counted while it was on.
type Reading struct {
	Histograms  []Histogram
	Counters    []Counter
	NotMeasured []string
}

// Append adds o's rows to r.
func (r *Reading) Append(o Reading) {
	r.Histograms = append(r.Histograms, o.Histograms...)
	r.Counters = append(r.Counters, o.Counters...)
	r.NotMeasured = append(r.NotMeasured, o.NotMeasured...)
}

// Options choose how probes are attached.
type Options struct {
	// Rung forces one rung of the attach ladder; empty takes the first that works.
	Rung attach.Rung
	// Types, if set, is the kernel's BTF shared with other probes.
	Types *btf.Cache
	// Verify asks the verifier for its statistics too; see attach.Program.
	Verify bool
}

// Attach returns what the attach package needs of them.
func (o Options) Attach() attach.Options {
	return attach.Options{Only: o.Rung, Types: o.Types, Verify: o.Verify}
}

// Probe is an attached probe. It is not safe for concurrent use.
type Probe interface {
	Attached() *attach.Attached
	// Start zeroes the maps and begins to count the events of one cgroup of
	// the v2 hierarchy (not of its descendants).
	Start(cgroupID uint64) error
	// Disable ends counting. A program that is already running may still add
	// its event until Quiesce returns.
	Disable() error
	// Resume ends what Disable began: it goes on counting the cgroup of the last
	// Start without zeroing anything. What began before it is not timed.
	Resume() error
	// Read returns what was counted. Call it after Disable and Quiesce.
	Read() (Reading, error)
	// Close detaches everything.
	Close() error
}

// Stop disables p, waits for running programs and reads it.
func Stop(p Probe) (Reading, error) {
	if err := p.Disable(); err != nil {
		return Reading{}, err
	}
	if err := Quiesce(); err != nil {
		return Reading{}, err
	}
	return p.Read()
}

// Core is the part of a probe that is the same in all of them.
type Core struct {
	name       string
	attached   *attach.Attached
	target     *ebpf.Variable
	since      *ebpf.Variable
	histograms *ebpf.Map // nil when the probe has none
	counters   *ebpf.Map
	counterLen int
	transient  []*ebpf.Map
	kept       *ebpf.Variable // of inflight.bpf.h; nil when the probe has none
	cgroupID   uint64         // of the last Start
	zeroHist   []hist.Raw
	missesOld  uint64
}

// NewCore wraps an attached collection whose C code includes probe.bpf.h. The
// maps named transient hold what is in flight, and are emptied by each Start:
// what a contender left behind when it was killed must not fill them.
func NewCore(name string, attached *attach.Attached, transient ...string) (*Core, error) {
	coll := attached.Collection
	c := &Core{name: name, attached: attached,
		target: coll.Variables["target_cgroup"], since: coll.Variables["since_ns"], kept: coll.Variables["kept"],
		histograms: coll.Maps["histograms"], counters: coll.Maps["counters"]}
	if c.target == nil || c.since == nil || c.counters == nil {
		return nil, fmt.Errorf("probe %s: the object lacks target_cgroup, since_ns or counters", name)
	}
	for _, t := range transient {
		if coll.Maps[t] == nil {
			return nil, fmt.Errorf("probe %s: the object has no map %s", name, t)
		}
		c.transient = append(c.transient, coll.Maps[t])
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, fmt.Errorf("count possible CPUs: %w", err)
	}
	c.zeroHist = make([]hist.Raw, cpus)
	c.counterLen = int(c.counters.ValueSize()) / 8
	return c, nil
}

// Attached says how the probe is attached.
func (c *Core) Attached() *attach.Attached { return c.attached }

// Close detaches the probe and frees its maps.
func (c *Core) Close() error { return c.attached.Close() }

// Start zeroes histograms and counters and switches the probe on.
func (c *Core) Start(cgroupID uint64) error {
	if cgroupID == 0 {
		return fmt.Errorf("start probe %s: cgroup id 0 means off", c.name)
	}
	if err := c.zero(); err != nil {
		return fmt.Errorf("zero the maps of probe %s: %w", c.name, err)
	}
	misses, err := c.attached.RecursionMisses()
	if err != nil {
		return err
	}
	c.missesOld, c.cgroupID = misses, cgroupID
	return c.Resume()
}

// Resume switches the probe on again. It costs two stores to shared memory.
func (c *Core) Resume() error {
	var now unix.Timespec
	// bpf_ktime_get_ns reads the same clock.
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("read the monotonic clock: %w", err)
	}
	if err := c.since.Set(uint64(now.Nano())); err != nil {
		return fmt.Errorf("set since_ns of probe %s: %w", c.name, err)
	}
	if err := c.target.Set(c.cgroupID); err != nil {
		return fmt.Errorf("set the target of probe %s: %w", c.name, err)
	}
	return nil
}

// Disable switches the probe off.
func (c *Core) Disable() error {
	if err := c.target.Set(uint64(0)); err != nil {
		return fmt.Errorf("switch off probe %s: %w", c.name, err)
	}
	return nil
}

func (c *Core) zero() error {
	if c.histograms != nil {
		for slot := range c.histograms.MaxEntries() {
			if err := c.histograms.Put(slot, c.zeroHist); err != nil {
				return fmt.Errorf("histogram %d: %w", slot, err)
			}
		}
	}
	for _, m := range c.transient {
		if err := empty(m); err != nil {
			return fmt.Errorf("empty map %s: %w", m, err)
		}
	}
	if c.kept != nil {
		if err := c.kept.Set(uint32(0)); err != nil {
			return fmt.Errorf("kept: %w", err)
		}
	}
	zero := make([][]byte, len(c.zeroHist))
	for i := range zero {
		zero[i] = make([]byte, 8*c.counterLen)
	}
	if err := c.counters.Put(uint32(0), zero); err != nil {
		return fmt.Errorf("counters: %w", err)
	}
	return nil
}

// Sweep deletes the entries of the transient maps that have ended: inflight.bpf.h
// zeroes them and keeps them for reuse. What is left is in flight. Call it after
// Disable and Quiesce.
func (c *Core) Sweep() error {
	ended := func(value []byte) bool { return len(bytes.Trim(value, "\x00")) == 0 }
	for _, m := range c.transient {
		if err := deleteIf(m, ended); err != nil {
			return fmt.Errorf("sweep map %s: %w", m, err)
		}
	}
	return nil
}

func empty(m *ebpf.Map) error {
	return deleteIf(m, func([]byte) bool { return true })
}

// deleteIf collects the keys first, because deleting while iterating starts the
// iteration over.
func deleteIf(m *ebpf.Map, unwanted func(value []byte) bool) error {
	var keys [][]byte
	key, value := make([]byte, m.KeySize()), make([]byte, m.ValueSize())
	entries := m.Iterate()
	for entries.Next(&key, &value) {
		if unwanted(value) {
			keys = append(keys, bytes.Clone(key))
		}
	}
	if err := entries.Err(); err != nil {
		return fmt.Errorf("iterate: %w", err)
	}
	for _, key := range keys {
		if err := m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("delete: %w", err)
		}
	}
	return nil
}

// Histogram sums one slot over the CPUs.
func (c *Core) Histogram(slot uint32) (hist.Histogram, error) {
	var h hist.Histogram
	var perCPU []hist.Raw
	if err := c.histograms.Lookup(slot, &perCPU); err != nil {
		return h, fmt.Errorf("read histogram %d of probe %s: %w", slot, c.name, err)
	}
	for i := range perCPU {
		h.AddRaw(&perCPU[i])
	}
	return h, nil
}

// Label names one slot of the histograms map.
type Label struct {
	Slot  uint32
	Probe string
	Label string
	Unit  string
}

// Histograms returns the slots that counted anything.
func (c *Core) Histograms(labels []Label) ([]Histogram, error) {
	var out []Histogram
	for _, l := range labels {
		h, err := c.Histogram(l.Slot)
		if err != nil {
			return nil, err
		}
		if h.Count() != 0 {
			out = append(out, Histogram{Probe: l.Probe, Label: l.Label, Unit: l.Unit, Histogram: h})
		}
	}
	return out, nil
}

// Counts sums the counters over the CPUs.
func (c *Core) Counts() ([]uint64, error) {
	var perCPU [][]byte
	if err := c.counters.Lookup(uint32(0), &perCPU); err != nil {
		return nil, fmt.Errorf("read the counters of probe %s: %w", c.name, err)
	}
	out := make([]uint64, c.counterLen)
	for _, raw := range perCPU {
		if len(raw) < 8*c.counterLen {
			return nil, errors.New("counters: short value")
		}
		for i := range out {
			out[i] += binary.NativeEndian.Uint64(raw[8*i:])
		}
	}
	return out, nil
}

// Skipped returns how often the kernel refused to enter one of the probe's
// programs since Start because the CPU already ran it: events that were lost.
func (c *Core) Skipped() (uint64, error) {
	now, err := c.attached.RecursionMisses()
	if err != nil {
		return 0, err
	}
	return now - c.missesOld, nil
}
