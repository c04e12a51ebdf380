package machine

import (
	"context"
	"fmt"
	"io/fs"
	"sort"
	"strings"

	"github.com/nexuscore-labs/nexus/uring"
)

const groupURing = "io_uring"

// uringOps are the operations that the log and the generator submit.
var uringOps = []string{"nop", "readv", "writev", "fsync", "read_fixed", "write_fixed", "read", "write", "fallocate", "timeout",
	"link_timeout", "async_cancel", "accept", "connect", "send", "recv", "sendmsg", "recvmsg", "poll_add", "msg_ring"}

// uringCosts says what the absence of a feature costs; each has a fallback.
var uringCosts = map[string]string{
	"single_issuer":    "completions may interrupt the worker: more schedule lag",
	"registered_ring":  "each enter looks the ring's file up: some 20 ns per call",
	"abs_timer":        "waits use relative times: slightly later sends",
	"min_timeout":      "waits wake up more often at low rates",
	"fixed_file":       "each request looks its file up",
	"fixed_buffer":     "each write maps its buffer again",
	"buf_ring":         "the generator receives into one buffer per connection: more memory, lower ceiling",
	"udp_offload":      "each UDP request crosses the network stack alone: a tenth of the generator's ceiling over UDP",
	"multishot_recv":   "one receive request per answer: lower ceiling of the generator",
	"recvsend_bundle":  "one completion per buffer: lower ceiling for pipelined answers",
	"multishot_accept": "one accept request per connection",
	"msg_ring":         "rings are woken through an eventfd instead",
	"send_zc":          "large sends are copied",
}

func checkURing(_ context.Context, h host) []Finding {
	support, err := uring.Probe()
	return uringFindings(h.root, support, err)
}

func uringFindings(root fs.FS, support *uring.Support, err error) []Finding {
	f := Finding{ID: "io_uring", Group: groupURing, Title: "io_uring", Status: OK}
	if err != nil {
		f.Status, f.Title, f.Detail = Absent, "io_uring can't be used", err.Error()
		f.Costs = "no lab runs: the generator and day 7's log are built on it"
		f.Fix = uringFix(root)
		return []Finding{f}
	}
	var missing []string
	have := 0
	for _, op := range uringOps {
		if support.Ops[op] {
			have++
			continue
		}
		missing = append(missing, op)
	}
	f.Detail = fmt.Sprintf("%d of %d operations in use here, %d features tried", have, len(uringOps), len(support.Features))
	if len(missing) > 0 {
		f.Status, f.Title = Warn, "io_uring without "+strings.Join(missing, ", ")
		f.Costs, f.Fix = "what submits these operations fails: the log or the generator", helpVM
	}
	findings := []Finding{f}
	for _, feature := range support.Features {
		findings = append(findings, uringFeature(feature))
	}
	return append(findings, uringOperations(support.Ops)...)
}

func uringFeature(feature uring.Feature) Finding {
	f := Finding{ID: "io_uring." + feature.Name, Group: groupURing, Title: feature.Name, Status: OK, Detail: feature.Detail}
	if !feature.Supported {
		f.Status, f.Title = Absent, feature.Name+" not supported"
		f.Costs, f.Fix = uringCosts[feature.Name], helpVM
	}
	return f
}

// uringOperations makes each operation known to Needs as io_uring.op.<name>;
// those outside uringOps are told in sum, not one by one.
func uringOperations(ops map[string]bool) []Finding {
	names := make([]string, 0, len(ops))
	for name := range ops {
		names = append(names, name)
	}
	sort.Strings(names)
	findings := make([]Finding, 0, len(names))
	for _, name := range names {
		f := Finding{ID: "io_uring.op." + name, Group: groupURing, Title: name, Status: OK, Minor: true}
		if !ops[name] {
			f.Status, f.Title = Absent, name+" not supported"
			f.Costs, f.Fix = "nothing here submits it", helpVM
		}
		findings = append(findings, f)
	}
	return findings
}

// uringFix reads kernel.io_uring_disabled: 0 all, 1 only the group
// kernel.io_uring_group or CAP_SYS_ADMIN, 2 nobody (Linux 6.6).
func uringFix(root fs.FS) string {
	switch lineOr(root, "proc/sys/kernel/io_uring_disabled", "") {
	case "1":
		return "sudo sysctl kernel.io_uring_disabled=0   (or run as root)"
	case "2":
		return "sudo sysctl kernel.io_uring_disabled=0"
	case "0":
		return "allow the io_uring system calls in the container's seccomp profile (docker run --security-opt seccomp=unconfined)"
	default:
		return helpVM + "; in a container, allow the io_uring system calls in its seccomp profile"
	}
}
