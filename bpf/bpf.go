// Package bpf measures contenders from inside the kernel: histograms and
// counters of one cgroup, collected per CPU by the programs in the folders
// beside it.
//
// The compiled programs are committed; after a change to a .bpf.c file or a
// header, "go generate ./bpf/..." makes them anew. That takes clang-19 and
// llvm-strip-19 and nothing else, and gives the same bytes everywhere.
package bpf

import "github.com/nexuscore-labs/nexus/bpf/probe"

// Histogram is one distribution of one probe: its Probe, Label and Unit, and
// the embedded hist.Histogram.
type Histogram = probe.Histogram

// Counter is one counter of one probe.
type Counter = probe.Counter

// Snapshot is what the probes counted between Start and Stop.
type Snapshot struct {
	Histograms  []Histogram
	Counters    []Counter
	NotMeasured []string // "hardware counters: no PMU on this machine"
}

// Attachment says how one program of one probe is attached.
type Attachment struct {
	Probe   string
	Program string // what it is attached to, such as sched_switch
	Rung    string // fentry, tp_btf, raw_tracepoint, tracepoint, kprobe, perf_event
	// VerifiedInstructions is how many instructions the verifier walked; 0 for
	// perf events and where the kernel doesn't say.
	VerifiedInstructions uint32
}
