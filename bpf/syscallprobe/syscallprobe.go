// Package syscallprobe measures how long system calls take, by call, for the
// threads of one cgroup.
package syscallprobe

import (
	"fmt"

	"github.com/nexuscore-labs/nexus/bpf/attach"
	"github.com/nexuscore-labs/nexus/bpf/probe"
)

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -strip llvm-strip-19 -no-global-types -target bpfel -go-package syscallprobe object syscall.bpf.c -- -I../headers -O2 -g -Wall -Werror -mcpu=v3

// Of syscall.h.
const (
	slotLen        = 64
	counterEntered = 0
	counterLost    = 1
)

// Probe is the attached probe. See probe.Probe.
type Probe struct {
	*probe.Core
}

// Open loads and attaches the probe, switched off.
func Open(opts probe.Options) (*Probe, error) {
	spec, err := loadObject()
	if err != nil {
		return nil, fmt.Errorf("parse the syscall object: %w", err)
	}
	attached, err := attach.Climb(spec, []attach.Candidate{
		{Rung: attach.TpBTF, Programs: []string{"enter_tp_btf", "exit_tp_btf"}},
		{Rung: attach.RawTracepoint, Programs: []string{"enter_raw_tp", "exit_raw_tp"}},
		{Rung: attach.Tracepoint, Programs: []string{"enter_tracepoint", "exit_tracepoint"}},
	}, opts.Attach())
	if err != nil {
		return nil, fmt.Errorf("attach the syscall probe: %w", err)
	}
	core, err := probe.NewCore("syscall", attached)
	if err != nil {
		attached.Close()
		return nil, err
	}
	return &Probe{Core: core}, nil
}

// Read returns a latency histogram (ns, entry to exit) per system call that the
// cgroup made, and how many calls were entered, were still running at the end,
// and could not be timed.
func (p *Probe) Read() (probe.Reading, error) {
	labels, err := p.labels()
	if err != nil {
		return probe.Reading{}, err
	}
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
	var completed uint64
	for i := range histograms {
		completed += histograms[i].Count()
	}
	entered := counts[counterEntered]
	return probe.Reading{Histograms: histograms, Counters: []probe.Counter{
		{Probe: "syscall", Label: "entered", Value: float64(entered), Unit: "count"},
		{Probe: "syscall", Label: "unfinished", Value: float64(entered) - float64(completed), Unit: "count"},
		{Probe: "syscall", Label: "lost", Value: float64(counts[counterLost] + skipped), Unit: "count"},
	}}, nil
}

func (p *Probe) labels() ([]probe.Label, error) {
	slots := make([]uint32, numberMax)
	if err := p.Attached().Collection.Variables["slots"].Get(&slots); err != nil {
		return nil, fmt.Errorf("read the slots of the syscall probe: %w", err)
	}
	labels := []probe.Label{{Slot: 0, Probe: "syscall", Label: "other", Unit: "ns"}}
	for number, slot := range slots {
		if slot != 0 && slot < slotLen {
			labels = append(labels, probe.Label{Slot: slot, Probe: "syscall", Label: Name(number), Unit: "ns"})
		}
	}
	return labels, nil
}
