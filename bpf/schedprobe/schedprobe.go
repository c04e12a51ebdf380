// Package schedprobe measures what the scheduler does to the threads of one
// cgroup: how long they wait for a CPU, stay on it, and stay off it.
package schedprobe

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/nexuscore-labs/nexus/bpf/attach"
	"github.com/nexuscore-labs/nexus/bpf/probe"
)

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -strip llvm-strip-19 -no-global-types -target bpfel -go-package schedprobe object sched.bpf.c -- -I../headers -O2 -g -Wall -Werror -mcpu=v3

// Counters of sched.h.
const (
	counterVoluntary = iota
	counterInvoluntary
	counterWoken
	counterWokenNew
	counterLostSwitch
	counterLostWake
	counterLostWakeNew
)

// labels follow the slots of sched.h.
var labels = []probe.Label{
	{Slot: 0, Probe: "runqueue", Label: "woken", Unit: "ns"},
	{Slot: 1, Probe: "runqueue", Label: "preempted", Unit: "ns"},
	{Slot: 2, Probe: "offcpu", Label: "voluntary", Unit: "ns"},
	{Slot: 3, Probe: "oncpu", Label: "slice", Unit: "ns"},
}

// Probe is the attached probe. See probe.Probe.
type Probe struct {
	*probe.Core
}

// Open loads and attaches the probe, switched off. The classic tracepoint is no
// rung of it: it carries thread ids, not the tasks whose cgroup is asked for.
func Open(opts probe.Options) (*Probe, error) {
	spec, err := loadObject()
	if err != nil {
		return nil, fmt.Errorf("parse the scheduler object: %w", err)
	}
	attached, err := attach.Climb(spec, []attach.Candidate{
		{Rung: attach.TpBTF, Programs: []string{"wakeup_tp_btf", "wakeup_new_tp_btf", "switch_tp_btf"}, Adjust: withoutHash},
		{Rung: attach.RawTracepoint, Programs: []string{"wakeup_raw_tp", "wakeup_new_raw_tp", "switch_raw_tp"}},
	}, opts.Attach())
	if err != nil {
		return nil, fmt.Errorf("attach the scheduler probe: %w", err)
	}
	core, err := probe.NewCore("sched", attached, "turns_by_tid")
	if err != nil {
		return nil, errors.Join(err, attached.Close())
	}
	return &Probe{Core: core}, nil
}

// withoutHash shrinks the preallocated map that only raw tracepoints use.
func withoutHash(spec *ebpf.CollectionSpec) {
	spec.Maps["turns_by_tid"].MaxEntries = 1
}

// Read returns four distributions in ns (runqueue: runnable until on a CPU,
// after a wake-up and after a preemption; offcpu: from a voluntary switch until
// back on a CPU, the run queue included; oncpu: each stay on a CPU) and counts
// of switches by the kernel's own definition of voluntary.
func (p *Probe) Read() (probe.Reading, error) {
	histograms, err := p.Histograms(labels)
	if err != nil {
		return probe.Reading{}, err
	}
	counts, err := p.Counts()
	if err != nil {
		return probe.Reading{}, err
	}
	skipped, err := p.Skipped()
	if err != nil {
		return probe.Reading{}, err
	}
	lost := counts[counterLostSwitch] + counts[counterLostWake] + counts[counterLostWakeNew] + skipped
	return probe.Reading{Histograms: histograms, Counters: []probe.Counter{
		{Probe: "sched", Label: "voluntary switches", Value: float64(counts[counterVoluntary]), Unit: "count"},
		{Probe: "sched", Label: "involuntary switches", Value: float64(counts[counterInvoluntary]), Unit: "count"},
		{Probe: "sched", Label: "wake-ups", Value: float64(counts[counterWoken]), Unit: "count"},
		{Probe: "sched", Label: "new threads", Value: float64(counts[counterWokenNew]), Unit: "count"},
		{Probe: "sched", Label: "lost", Value: float64(lost), Unit: "count"},
	}}, nil
}
