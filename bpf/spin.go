package bpf

import (
	"errors"
	"time"

	"github.com/nexuscore-labs/nexus/bpf/probe"
	"github.com/nexuscore-labs/nexus/bpf/spinprobe"
)

// Spin is a Suite of one probe that costs a known time. Its Accounts are not the
// kernel's but its own: what it has spent, by its own clock.
type Spin struct {
	Suite
	probe *spinprobe.Probe
}

// OpenSpin attaches a probe, switched off, that will hold up each system call of
// the cgroup for about perCall.
func OpenSpin(perCall time.Duration) (*Spin, error) {
	p, err := spinprobe.Open(probe.Options{}, perCall)
	if err != nil {
		return nil, err
	}
	return &Spin{Suite: Suite{probes: []named{{"spin", p}}}, probe: p}, nil
}

// Accounts returns one account, of the calls that were held up.
func (s *Spin) Accounts() ([]Account, error) {
	if len(s.probes) == 0 {
		return nil, errors.New("read the account of the spin probe: closed")
	}
	events, ns, err := s.probe.Spent()
	if err != nil {
		return nil, err
	}
	return []Account{{Probe: "spin", Program: "known", Runs: events, RunNs: ns}}, nil
}
