// Package blockprobe measures block I/O from the driver's acceptance of a
// request to its completion, by operation and by who issued it.
package blockprobe

import (
	"errors"
	"fmt"

	"github.com/nexuscore-labs/nexus/bpf/attach"
	"github.com/nexuscore-labs/nexus/bpf/probe"
)

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -strip llvm-strip-19 -no-global-types -target bpfel -go-package blockprobe object block.bpf.c -- -I../headers -O2 -g -Wall -Werror -mcpu=v3

// Of block.h.
const (
	counterIssued = iota
	counterLost
	counterLostInsert
	counterErrors
	counterMergedBack
	counterMergedFront
	counterMissed

	queuedSlot = 50
)

var (
	ops = []string{"read", "write", "flush", "discard", "other"}
	// origins are suffixes of labels. The last three are kernel threads that
	// work for the whole machine: a journal commit or a flush on behalf of the
	// cgroup is among them, and so is everyone else's.
	origins = []string{"", " (writeback)", " (jbd2)", " (kworker)", " (kernel thread)"}
)

// Probe is the attached probe. See probe.Probe.
type Probe struct {
	*probe.Core
}

// Open loads and attaches the probe, switched off. Functions are no rung of it:
// drivers that complete in batches pass by every function with a symbol; and the
// classic tracepoints don't carry the request that ties issue to completion.
func Open(opts probe.Options) (*Probe, error) {
	spec, err := loadObject()
	if err != nil {
		return nil, fmt.Errorf("parse the block object: %w", err)
	}
	attached, err := attach.Climb(spec, []attach.Candidate{
		{Rung: attach.TpBTF, Programs: []string{"complete_tp_btf", "requeue_tp_btf", "issue_tp_btf"},
			Optional: []string{"insert_tp_btf", "merge_tp_btf", "backmerge_tp_btf", "frontmerge_tp_btf"}},
		{Rung: attach.RawTracepoint, Programs: []string{"complete_raw_tp", "requeue_raw_tp", "issue_raw_tp"},
			Optional: []string{"insert_raw_tp", "merge_raw_tp", "backmerge_raw_tp", "frontmerge_raw_tp"}},
	}, opts.Attach())
	if err != nil {
		return nil, fmt.Errorf("attach the block probe: %w", err)
	}
	core, err := probe.NewCore("block", attached, "inflights")
	if err != nil {
		return nil, errors.Join(err, attached.Close())
	}
	return &Probe{Core: core}, nil
}

// labels follow the slots of block.h.
func labels() []probe.Label {
	var out []probe.Label
	for origin, suffix := range origins {
		for op, name := range ops {
			pair := uint32(origin*len(ops) + op)
			out = append(out,
				probe.Label{Slot: 2 * pair, Probe: "block", Label: name + suffix, Unit: "ns"},
				probe.Label{Slot: 2*pair + 1, Probe: "block", Label: name + suffix, Unit: "bytes"})
		}
		out = append(out, probe.Label{Slot: queuedSlot + uint32(origin), Probe: "block",
			Label: "scheduler queue" + suffix, Unit: "ns"})
	}
	return out
}

// Read returns per operation and origin the latency from issue to completion
// (ns) and the size (bytes), and per origin the time in the I/O scheduler. A
// label without a suffix counts what the cgroup's own threads issued; "(jbd2)",
// "(kworker)" and "(kernel thread)" are machine-wide. The counter merged is how
// often I/O of the cgroup joined a request that waited already, its own or
// another's, instead of making one; unfinished is what was issued and not seen
// to complete: still in flight, or the kernel did not run the program; missed is
// the part of it that is certain, because the request was issued again.
func (p *Probe) Read() (probe.Reading, error) {
	if err := p.Sweep(); err != nil {
		return probe.Reading{}, err
	}
	histograms, err := p.Histograms(labels())
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
		if histograms[i].Unit == "bytes" {
			completed += histograms[i].Count()
		}
	}
	merged := counts[counterMergedBack] + counts[counterMergedFront]
	lost := counts[counterLost] + counts[counterLostInsert] + skipped
	unfinished := float64(counts[counterIssued]) - float64(completed) - float64(counts[counterLost])
	return probe.Reading{Histograms: histograms, Counters: []probe.Counter{
		{Probe: "block", Label: "issued", Value: float64(counts[counterIssued]), Unit: "count"},
		{Probe: "block", Label: "unfinished", Value: unfinished, Unit: "count"},
		{Probe: "block", Label: "missed", Value: float64(counts[counterMissed]), Unit: "count"},
		{Probe: "block", Label: "merged", Value: float64(merged), Unit: "count"},
		{Probe: "block", Label: "errors", Value: float64(counts[counterErrors]), Unit: "count"},
		{Probe: "block", Label: "lost", Value: float64(lost), Unit: "count"},
	}}, nil
}
