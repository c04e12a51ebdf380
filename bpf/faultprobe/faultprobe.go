// Package faultprobe counts the page faults of one cgroup's threads by kind.
package faultprobe

import (
	"errors"
	"fmt"

	"github.com/nexuscore-labs/nexus/bpf/attach"
	"github.com/nexuscore-labs/nexus/bpf/probe"
)

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -strip llvm-strip-19 -no-global-types -target amd64,arm64 -go-package faultprobe object fault.bpf.c -- -I../headers -O2 -g -Wall -Werror -mcpu=v3

// labels follow the counters of fault.h. The functions of the lower rungs don't
// know of protection faults; they count them as reads and writes.
var labels = []string{"user read", "user write", "user protection", "user exec", "kernel"}

// Probe is the attached probe. See probe.Probe.
type Probe struct {
	*probe.Core
}

// Open loads and attaches the probe, switched off. The tracepoints exist on x86
// and RISC-V; elsewhere the function that handles all faults is probed.
func Open(opts probe.Options) (*Probe, error) {
	spec, err := loadObject()
	if err != nil {
		return nil, fmt.Errorf("parse the fault object: %w", err)
	}
	attached, err := attach.Climb(spec, []attach.Candidate{
		{Rung: attach.TpBTF, Programs: []string{"user_tp_btf", "kernel_tp_btf"}},
		{Rung: attach.RawTracepoint, Programs: []string{"user_raw_tp", "kernel_raw_tp"}},
		{Rung: attach.Tracepoint, Programs: []string{"user_tracepoint", "kernel_tracepoint"}},
		{Rung: attach.Fentry, Programs: []string{"mm_fentry"}},
		{Rung: attach.Kprobe, Programs: []string{"mm_kprobe"}},
	}, opts.Attach())
	if err != nil {
		return nil, fmt.Errorf("attach the fault probe: %w", err)
	}
	core, err := probe.NewCore("fault", attached)
	if err != nil {
		return nil, errors.Join(err, attached.Close())
	}
	return &Probe{Core: core}, nil
}

// Read returns the number of faults by kind: in user mode on an absent page by
// access, in user mode on a present but protected page (copy on write, first
// write), and in kernel mode (copies to and from user memory).
func (p *Probe) Read() (probe.Reading, error) {
	counts, err := p.Counts()
	if err != nil {
		return probe.Reading{}, err
	}
	skipped, err := p.Skipped()
	if err != nil {
		return probe.Reading{}, err
	}
	var reading probe.Reading
	for i, label := range labels {
		reading.Counters = append(reading.Counters,
			probe.Counter{Probe: "fault", Label: label, Value: float64(counts[i]), Unit: "count"})
	}
	reading.Counters = append(reading.Counters,
		probe.Counter{Probe: "fault", Label: "lost", Value: float64(skipped), Unit: "count"})
	return reading, nil
}
