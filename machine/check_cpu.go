package machine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

const groupCPU = "CPU"

// cpusComfort is the number of CPUs from which the generator, a contender with
// several threads and the rest of the machine each have CPUs of their own.
const cpusComfort = 4

func checkCPU(_ context.Context, h host) []Finding {
	return []Finding{cpuCount(h.facts), cpuPinning(h.facts), cpuGovernor(h.facts), cpuClock(h.facts)}
}

func cpuCount(facts Facts) Finding {
	allowed, online := len(facts.CPUsAllowed), len(facts.CPUsOnline)
	f := Finding{ID: "cpu.count", Group: groupCPU, Title: fmt.Sprintf("%d CPUs", allowed), Status: OK, Detail: facts.CPUModel}
	if allowed == 1 {
		f.Title = "1 CPU"
	}
	if allowed < online {
		f.Detail += fmt.Sprintf("; %d are online, this process may use %s", online, formatCPUs(facts.CPUsAllowed))
	}
	if allowed < cpusComfort {
		f.Status = Warn
		f.Costs = "contenders with several threads, and everything else on the machine, share one CPU: compare ratios within a run, not absolute numbers, and expect wider intervals"
		f.Fix = fmt.Sprintf("use a machine with %d CPUs or more for the full mode", cpusComfort)
	}
	return f
}

// cpuPinning judges the plan that a run would follow.
func cpuPinning(facts Facts) Finding {
	f := Finding{ID: "cpu.pinning", Group: groupCPU, Title: "generator and contender can be pinned apart", Status: OK}
	plan, err := planCPUs(facts.CPUsAllowed)
	switch {
	case err != nil:
		f.Status, f.Title, f.Detail = Absent, "CPUs can't be planned", err.Error()
		f.Costs, f.Fix = "no lab runs", "give this machine or container at least 2 CPUs"
		return f
	case plan.Shared:
		f.Status, f.Title = Absent, "generator and contender share one CPU"
		f.Costs = "the generator takes time from what it measures: runs are invalid by their own rules"
		f.Fix = "give this machine or container at least 2 CPUs"
		return f
	case shareCore(facts.Siblings, plan.Generator, plan.Contender):
		f.Status, f.Title = Warn, "generator and contender share a core"
		f.Costs = "their CPUs are hardware threads of one core and compete for its units and caches: absolute numbers come out low"
		f.Fix = "switch hardware threads off (echo off | sudo tee /sys/devices/system/cpu/smt/control), or allow CPUs of other cores (taskset)"
	}
	f.Detail = fmt.Sprintf("generator on CPU %s, contender on %s, the rest of the machine on %s", formatCPUs(plan.Generator), formatCPUs(plan.Contender), formatCPUs(plan.System))
	return f
}

// shareCore reports whether any core has a CPU of both sets.
func shareCore(cores [][]int, a, b []int) bool {
	for _, core := range cores {
		if len(intersectNonEmpty(core, a)) > 0 && len(intersectNonEmpty(core, b)) > 0 {
			return true
		}
	}
	return false
}

// coresAllowed counts the cores that have at least one allowed CPU.
func coresAllowed(facts Facts) int {
	cores := 0
	for _, core := range facts.Siblings {
		if len(core) > 0 && len(intersectNonEmpty(core, facts.CPUsAllowed)) > 0 {
			cores++
		}
	}
	return cores
}

func intersectNonEmpty(a, b []int) []int {
	if len(b) == 0 {
		return nil
	}
	return intersect(a, b)
}

func cpuGovernor(facts Facts) Finding {
	f := Finding{ID: "cpu.governor", Group: groupCPU, Title: "frequency governor " + facts.Governor, Status: OK}
	switch {
	case facts.Governor == notVisible:
		f.Title = "frequency governor not visible"
		f.Detail = "no cpufreq here"
		if facts.Virtual != "none" {
			f.Detail += ": the hypervisor decides"
		}
		f.Status = Warn
		f.Costs = "frequency changes during a trial can't be seen: they are reported as not measured"
	case facts.Governor != "performance":
		f.Status = Warn
		f.Costs = "the clock rises and falls with load: low rates look slower than they are, trials vary more"
		f.Fix = "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
	}
	return f
}

func cpuClock(facts Facts) Finding {
	f := Finding{ID: "cpu.clock", Group: groupCPU, Title: "clock source " + facts.ClockSource, Status: OK}
	switch facts.ClockSource {
	case "tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page":
	case notVisible:
		f.Status, f.Costs = Warn, "can't tell what reading the time costs"
	default:
		f.Status = Warn
		f.Costs = "reading the time is a system call on this source: it adds up to a microsecond to every latency"
		f.Fix = "boot without clocksource= and notsc; this guest is offered none that is read in user space"
		for _, fast := range []string{"tsc", "kvm-clock"} {
			if slices.Contains(strings.Fields(facts.ClockSources), fast) {
				f.Fix = "echo " + fast + " | sudo tee /" + clockSourceFile
				break
			}
		}
	}
	return f
}

// stealShareMax is the share of stolen time above which Doctor warns; a run
// judges its own trials more strictly.
const stealShareMax = 0.01

func checkSteal(ctx context.Context, h host) []Finding {
	sampler := NewSampler(SamplerOptions{CPUs: h.facts.CPUsAllowed})
	if err := sampler.Start(); err != nil {
		return []Finding{{ID: "cpu.steal", Group: groupCPU, Title: "steal time unknown", Status: Warn, Detail: err.Error(),
			Costs: "trials that the hypervisor disturbed can't be told"}}
	}
	wait(ctx, h.options.Sample)
	readings, err := sampler.Stop()
	if err != nil {
		return []Finding{{ID: "cpu.steal", Group: groupCPU, Title: "steal time unknown", Status: Warn, Detail: err.Error(),
			Costs: "trials that the hypervisor disturbed can't be told"}}
	}
	return []Finding{stealFinding(readings, len(h.facts.CPUsAllowed))}
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func stealFinding(r Readings, cpus int) Finding {
	wall := float64(r.ElapsedNs) * float64(max(cpus, 1))
	steal, load := 0.0, 0.0
	if wall > 0 {
		steal, load = float64(r.StealNs)/wall, float64(r.OtherLoadNs)/wall
	}
	f := Finding{ID: "cpu.steal", Group: groupCPU, Status: OK,
		Title:  fmt.Sprintf("steal %.1f%% in %.1f s", 100*steal, float64(r.ElapsedNs)/1e9),
		Detail: fmt.Sprintf("other load took %.0f%% of the CPUs", 100*load)}
	if steal > stealShareMax {
		f.Status = Warn
		f.Costs = "the hypervisor takes time away: trials in which it does are invalid and repeated"
		f.Fix = "run when the host is quieter, or on an instance type with dedicated CPUs (not a burstable one)"
	}
	if len(r.Invalid) > 0 {
		f.Status, f.Detail = Warn, f.Detail+"; "+strings.Join(r.Invalid, "; ")
	}
	return f
}
