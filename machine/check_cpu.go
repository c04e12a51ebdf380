package machine

import (
	"context"
	"fmt"
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

func cpuPinning(facts Facts) Finding {
	f := Finding{ID: "cpu.pinning", Group: groupCPU, Title: "generator and contender can be pinned apart", Status: OK}
	cores := coresAllowed(facts)
	switch {
	case len(facts.CPUsAllowed) < 2:
		f.Status, f.Title = Absent, "generator and contender share one CPU"
		f.Costs = "the generator steals time from what it measures: runs are invalid by their own rules"
		f.Fix = "give this machine or container at least 2 CPUs"
	case cores < 2:
		f.Status, f.Detail = Warn, "the allowed CPUs are hardware threads of one core"
		f.Costs = "generator and contender compete for the core's units and caches"
		f.Fix = "allow CPUs of two cores"
	default:
		f.Detail = fmt.Sprintf("%d cores", cores)
	}
	return f
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
		f.Fix = "echo tsc | sudo tee /sys/devices/system/clocksource/clocksource0/current_clocksource"
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
