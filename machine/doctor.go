package machine

import (
	"context"
	"io/fs"
	"os"
	"strings"
	"time"
)

// DoctorOptions says what Doctor looks at beside the machine itself.
type DoctorOptions struct {
	Dir      string        // the folder that runs write to; default "."
	Sample   time.Duration // how long to watch for steal; default 1 s
	Probers  []Prober      // further capabilities, such as BPF program types
	TempDirs []string      // where runs were told to keep temporary folders, beside the usual ones
	Env      func(key string) string
}

func (o DoctorOptions) withDefaults() DoctorOptions {
	if o.Dir == "" {
		o.Dir = "."
	}
	if o.Sample <= 0 {
		o.Sample = time.Second
	}
	if o.Env == nil {
		o.Env = os.Getenv
	}
	return o
}

// check is one group of findings with the ids, or the prefixes of ids ending in
// a dot, that it answers for.
type check struct {
	answers []string
	run     func(ctx context.Context, h host) []Finding
}

// host is what the checks look at: the machine's files and the options.
type host struct {
	root    fs.FS
	facts   Facts
	options DoctorOptions
}

// checks are in the order in which the findings are shown.
var checks = []check{
	{[]string{"kernel.", "btf", "pmu", "perf.software", "tracefs", "bpffs"}, checkKernel},
	{[]string{"io_uring", "io_uring."}, checkURing},
	{[]string{"cgroup", "cgroup."}, checkCgroup},
	{[]string{"cpu.count", "cpu.pinning", "cpu.governor", "cpu.clock"}, checkCPU},
	{[]string{"cpu.steal"}, checkSteal},
	{[]string{"limits."}, checkLimits},
	{[]string{"disk.space", "disk.durable"}, checkDisk},
	{[]string{"tool."}, checkTools},
	{[]string{"server."}, checkServers},
	{[]string{"leftovers", "leftovers."}, checkLeftovers},
}

// Doctor looks at everything and returns its findings in the order of their
// groups. It takes about as long as the steal sample. It stops early when ctx
// ends and returns what it has.
func Doctor(ctx context.Context, options DoctorOptions) ([]Finding, error) {
	h, err := newHost(options)
	if err != nil {
		return nil, err
	}
	var findings []Finding
	for _, c := range checks {
		if err := ctx.Err(); err != nil {
			return findings, err
		}
		findings = append(findings, c.run(ctx, h)...)
	}
	for _, p := range options.Probers {
		if err := ctx.Err(); err != nil {
			return findings, err
		}
		findings = append(findings, p(ctx)...)
	}
	return findings, nil
}

// Needs returns which of the capability ids this machine has not got. It runs
// only the checks that answer for them; an id that no check knows is asked of
// the options' probers.
func Needs(ctx context.Context, ids []string, options DoctorOptions) ([]Missing, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	h, err := newHost(options)
	if err != nil {
		return nil, err
	}
	var findings []Finding
	askProbers := false
	for _, c := range checks {
		if c.answersAny(ids) {
			findings = append(findings, c.run(ctx, h)...)
		}
	}
	for _, id := range ids {
		askProbers = askProbers || !answered(id)
	}
	if askProbers {
		for _, p := range options.Probers {
			findings = append(findings, p(ctx)...)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return missingFrom(findings, ids), nil
}

func newHost(options DoctorOptions) (host, error) {
	options = options.withDefaults()
	facts, err := Inspect(options.Dir)
	if err != nil {
		return host{}, err
	}
	return host{root: hostRoot(), facts: facts, options: options}, nil
}

func (c check) answersAny(ids []string) bool {
	for _, id := range ids {
		if c.answersFor(id) {
			return true
		}
	}
	return false
}

func (c check) answersFor(id string) bool {
	for _, a := range c.answers {
		if a == id || (strings.HasSuffix(a, ".") && strings.HasPrefix(id, a)) {
			return true
		}
	}
	return false
}

func answered(id string) bool {
	for _, c := range checks {
		if c.answersFor(id) {
			return true
		}
	}
	return false
}
