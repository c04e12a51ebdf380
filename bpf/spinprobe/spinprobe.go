// Package spinprobe is a probe that measures nothing and costs a known time: it
// holds up every system call of one cgroup. What is said to measure the cost of
// probes has to find it.
package spinprobe

import (
	"errors"
	"fmt"
	"time"

	"github.com/nexuscore-labs/nexus/bpf/attach"
	"github.com/nexuscore-labs/nexus/bpf/probe"
)

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -strip llvm-strip-19 -no-global-types -target bpfel -go-package spinprobe object spin.bpf.c -- -I../headers -O2 -g -Wall -Werror -mcpu=v3

// Of spin.h.
const (
	counterEvents = 0
	counterNs     = 1
)

// SpinMax bounds the time per call; beyond it the program's loop may end early.
const SpinMax = 10 * time.Microsecond

// Probe is the attached probe. See probe.Probe.
type Probe struct {
	*probe.Core
}

// Open loads and attaches the probe, switched off; once started it holds up each
// system call for about perCall.
func Open(opts probe.Options, perCall time.Duration) (*Probe, error) {
	if perCall < 0 || perCall > SpinMax {
		return nil, fmt.Errorf("open the spin probe: %s per call: want 0 to %s", perCall, SpinMax)
	}
	spec, err := loadObject()
	if err != nil {
		return nil, fmt.Errorf("parse the spin object: %w", err)
	}
	attached, err := attach.Climb(spec, []attach.Candidate{
		{Rung: attach.TpBTF, Programs: []string{"enter_tp_btf"}},
		{Rung: attach.RawTracepoint, Programs: []string{"enter_raw_tp"}},
	}, opts.Attach())
	if err != nil {
		return nil, fmt.Errorf("attach the spin probe: %w", err)
	}
	if err := attached.Collection.Variables["spin_ns"].Set(uint64(perCall.Nanoseconds())); err != nil {
		return nil, errors.Join(fmt.Errorf("set the spin probe's time: %w", err), attached.Close())
	}
	core, err := probe.NewCore("spin", attached)
	if err != nil {
		return nil, errors.Join(err, attached.Close())
	}
	return &Probe{Core: core}, nil
}

// Spent returns how many calls were held up since Start, and for how long in all by
// the program's own clock. It may be called while the probe is on.
func (p *Probe) Spent() (events, ns uint64, err error) {
	counts, err := p.Counts()
	if err != nil {
		return 0, 0, err
	}
	return counts[counterEvents], counts[counterNs], nil
}

// Read returns what Spent does.
func (p *Probe) Read() (probe.Reading, error) {
	events, ns, err := p.Spent()
	if err != nil {
		return probe.Reading{}, err
	}
	return probe.Reading{Counters: []probe.Counter{
		{Probe: "spin", Label: "calls held up", Value: float64(events), Unit: "count"},
		{Probe: "spin", Label: "spent", Value: float64(ns), Unit: "ns"},
	}}, nil
}
