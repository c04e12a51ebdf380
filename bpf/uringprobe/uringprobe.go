// Package uringprobe measures the io_uring requests of one cgroup from
// submission to completion, by opcode.
package uringprobe

import (
	"errors"
	"fmt"

	"github.com/nexuscore-labs/nexus/bpf/attach"
	"github.com/nexuscore-labs/nexus/bpf/probe"
)

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -strip llvm-strip-19 -no-global-types -target bpfel -go-package uringprobe object uring.bpf.c -- -I../headers -O2 -g -Wall -Werror -mcpu=v3

// Of uring.h.
const (
	opcodesLen     = 72
	slotTaskWork   = opcodesLen
	slotLocalWork  = opcodesLen + 1
	counterAsync   = opcodesLen
	counterLost    = 2 * opcodesLen
	counterExtra   = 2*opcodesLen + 1
	counterOverrun = 2*opcodesLen + 2
)

// Probe is the attached probe. See probe.Probe.
type Probe struct {
	*probe.Core
}

// Open loads and attaches the probe, switched off.
func Open(opts probe.Options) (*Probe, error) {
	spec, err := loadObject()
	if err != nil {
		return nil, fmt.Errorf("parse the io_uring object: %w", err)
	}
	attached, err := attach.Climb(spec, candidates(), opts.Attach())
	if err != nil {
		return nil, fmt.Errorf("attach the io_uring probe: %w", err)
	}
	core, err := probe.NewCore("uring", attached, "inflights")
	if err != nil {
		return nil, errors.Join(err, attached.Close())
	}
	return &Probe{Core: core}, nil
}

// candidates tries each rung with the submission tracepoint's present name and
// the one that it had before kernel 6.3.
func candidates() []attach.Candidate {
	var out []attach.Candidate
	for _, rung := range []struct {
		name   attach.Rung
		suffix string
	}{{attach.TpBTF, "_tp_btf"}, {attach.RawTracepoint, "_raw_tp"}} {
		for _, submit := range []string{"submit", "submit_sqe"} {
			out = append(out, attach.Candidate{Rung: rung.name,
				Programs: []string{"complete" + rung.suffix, submit + rung.suffix},
				Optional: []string{"async" + rung.suffix, "task_work" + rung.suffix,
					"local_work" + rung.suffix, "overflow" + rung.suffix}})
		}
	}
	return out
}

// Read returns per opcode the latency from submission to the posting of the
// completion (ns; for a linked request the wait for its predecessors is in it;
// a multishot request counts when it ends), the sizes of the batches in which
// task work ran (where completions are posted from), and counters: submissions
// and hand-overs to io-wq by opcode, completions beyond a request's own, ring
// overflows.
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
	var submitted, completed uint64
	for i := range histograms {
		if histograms[i].Unit == "ns" {
			completed += histograms[i].Count()
		}
	}
	for _, n := range counts[:opcodesLen] {
		submitted += n
	}
	counter := func(label string, n float64) probe.Counter {
		return probe.Counter{Probe: "uring", Label: label, Value: n, Unit: "count"}
	}
	reading := probe.Reading{Histograms: histograms, Counters: []probe.Counter{
		counter("submitted", float64(submitted)),
		counter("unfinished", float64(submitted)-float64(completed)-float64(counts[counterLost])),
		counter("further completions", float64(counts[counterExtra])),
		counter("completion overflows", float64(counts[counterOverrun])),
		counter("lost", float64(counts[counterLost]+skipped)),
	}}
	for opcode := range opcodesLen {
		if n := counts[opcode]; n != 0 {
			reading.Counters = append(reading.Counters, counter("submitted "+OpName(opcode), float64(n)))
		}
		if n := counts[counterAsync+opcode]; n != 0 {
			reading.Counters = append(reading.Counters, counter("to io-wq "+OpName(opcode), float64(n)))
		}
	}
	return reading, nil
}

func labels() []probe.Label {
	out := make([]probe.Label, 0, opcodesLen+2)
	for opcode := range opcodesLen {
		out = append(out, probe.Label{Slot: uint32(opcode), Probe: "uring", Label: OpName(opcode), Unit: "ns"})
	}
	return append(out,
		probe.Label{Slot: slotTaskWork, Probe: "uring", Label: "task work batch", Unit: "count"},
		probe.Label{Slot: slotLocalWork, Probe: "uring", Label: "local work batch", Unit: "count"})
}

// opNames are the operations of enum io_uring_op, linux/io_uring.h, in order.
var opNames = [...]string{
	"nop", "readv", "writev", "fsync", "read_fixed", "write_fixed", "poll_add", "poll_remove",
	"sync_file_range", "sendmsg", "recvmsg", "timeout", "timeout_remove", "accept", "async_cancel",
	"link_timeout", "connect", "fallocate", "openat", "close", "files_update", "statx", "read", "write",
	"fadvise", "madvise", "send", "recv", "openat2", "epoll_ctl", "splice", "provide_buffers",
	"remove_buffers", "tee", "shutdown", "renameat", "unlinkat", "mkdirat", "symlinkat", "linkat",
	"msg_ring", "fsetxattr", "setxattr", "fgetxattr", "getxattr", "socket", "uring_cmd", "send_zc",
	"sendmsg_zc", "read_multishot", "waitid", "futex_wait", "futex_wake", "futex_waitv",
	"fixed_fd_install", "ftruncate", "bind", "listen", "recv_zc", "epoll_wait", "readv_fixed",
	"writev_fixed", "pipe", "nop128", "uring_cmd128",
}

// OpName returns the name of an io_uring opcode.
func OpName(opcode int) string {
	if opcode >= 0 && opcode < len(opNames) {
		return opNames[opcode]
	}
	return fmt.Sprintf("opcode %d", opcode)
}
