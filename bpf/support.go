package bpf

import "github.com/nexuscore-labs/nexus/bpf/support"

// Support is the outcome of trying one kind of BPF program.
type Support = support.Result

// ProbeSupport loads and attaches a minimal program of every kind and says which
// of them this kernel accepts. It takes well under a second and leaves nothing.
func ProbeSupport() []Support { return support.Probe() }
