package bpf

import (
	"fmt"
	"io"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Account is how often a program has run while the kernel kept accounts, and for
// how long. It covers all runs, whichever cgroup they found and whether they
// counted anything. The time holds most of one reading of the clock per run.
type Account struct {
	Probe   string
	Program string // the name in the object
	Runs    uint64
	RunNs   uint64
}

// KeepAccounts lets the kernel time each run of each BPF program on the machine
// (kernel.bpf_stats_enabled) until the closer is closed. Two readings of the clock
// are added to every run: some 20 ns each where the clock is the TSC.
func KeepAccounts() (io.Closer, error) {
	closer, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		return nil, fmt.Errorf("keep accounts of BPF programs: %w", err)
	}
	return closer, nil
}

// Accounts reads the accounts of all programs of the suite; differences of two
// readings are what happened in between.
func (s *Suite) Accounts() ([]Account, error) {
	var out []Account
	for _, p := range s.probes {
		for _, program := range p.Attached().Programs {
			loaded := p.Attached().Collection
			if loaded == nil || loaded.Programs[program.Name] == nil {
				continue // a perf event
			}
			stats, err := loaded.Programs[program.Name].Stats()
			if err != nil {
				return nil, fmt.Errorf("read the account of %s %s: %w", p.name, program.Name, err)
			}
			out = append(out, Account{Probe: p.name, Program: program.Name, Runs: stats.RunCount, RunNs: uint64(stats.Runtime)})
		}
	}
	return out, nil
}
