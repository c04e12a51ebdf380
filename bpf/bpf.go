// Package bpf measures contenders from inside the kernel: histograms and
// counters of one cgroup, collected per CPU by the programs in the folders
// beside it.
package bpf

import "github.com/nexuscore-labs/nexus/bpf/hist"

// Histogram is one distribution of one probe.
type Histogram struct {
	Probe string // syscall, runqueue, offcpu, block, uring, fault
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

// Snapshot is what the probes counted between Start and Stop.
type Snapshot struct {
	Histograms  []Histogram
	Counters    []Counter
	NotMeasured []string // "hardware counters: no PMU on this machine"
}

// Attachment says how one probe is attached.
type Attachment struct {
	Probe   string
	Program string
	Rung    string // fentry, tp_btf, raw_tracepoint, tracepoint, kprobe, perf_event
}
