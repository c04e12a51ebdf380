package machine

import (
	"fmt"
	"runtime"
	"sort"

	"golang.org/x/sys/unix"
)

// generatorCPUsMax bounds the generator: more workers than this never were the
// bottleneck, and every one is a CPU that the contender lacks.
const generatorCPUsMax = 8

// CPUPlan says who may run where during a trial. The sets don't overlap unless
// the machine offers a single CPU; then Shared is true and says why.
type CPUPlan struct {
	Generator []int
	Contender []int
	System    []int  // left to the kernel, the runner and everything else
	Shared    bool   // generator and contender share a CPU
	Note      string // one sentence for the report; empty when all is separate
}

// PlanCPUs splits the CPUs that the calling process may use.
//
// With four or more, CPU order decides: the lowest is left to the system (it
// takes most interrupts), the generator gets at most a quarter of the rest from
// the top, the contender what lies between. With two or three the lowest is the
// contender's and the highest the generator's. The CPU that takes the data disk's
// interrupts is never the generator's. NUMA is not looked at.
func PlanCPUs() (CPUPlan, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return CPUPlan{}, fmt.Errorf("read the CPU affinity: %w", err)
	}
	var allowed []int
	for cpu := 0; cpu < len(set)*64; cpu++ {
		if set.IsSet(cpu) {
			allowed = append(allowed, cpu)
		}
	}
	plan, err := planCPUs(allowed)
	if err != nil {
		return plan, err
	}
	base, err := TempBase()
	if err != nil {
		return plan, nil // the run says so when it needs the folder
	}
	return plan.favourContender(diskInterruptCPU(base)), nil
}

func planCPUs(allowed []int) (CPUPlan, error) {
	cpus := append([]int(nil), allowed...)
	sort.Ints(cpus)
	n := len(cpus)
	switch {
	case n == 0:
		return CPUPlan{}, fmt.Errorf("plan the CPUs: this process may use none")
	case n == 1:
		return CPUPlan{
			Generator: cpus, Contender: cpus, System: cpus, Shared: true,
			Note: "one CPU: the generator takes time from the contender, so latencies are upper bounds and rates lower bounds",
		}, nil
	case n < 4:
		return CPUPlan{
			Generator: cpus[n-1:], Contender: cpus[:n-1], System: cpus,
			Note: fmt.Sprintf("%d CPUs: none is left to the system, so its work disturbs the measured ones", n),
		}, nil
	}
	generators := min(max(1, (n-1)/4), generatorCPUsMax)
	return CPUPlan{
		System:    cpus[:1],
		Contender: cpus[1 : n-generators],
		Generator: cpus[n-generators:],
	}, nil
}

// Map is the plan as a result's environment shows it.
func (p CPUPlan) Map() map[string][]int {
	return map[string][]int{"generator": p.Generator, "contender": p.Contender, "system": p.System}
}

// GoPinned runs work in a goroutine on a thread of its own, which is bound to
// cpus, and throws the thread away afterwards. Children inherit the affinity of
// the thread that starts them, sched_setaffinity(2). work is told when the
// thread could not be bound.
//
// The thread is never the process's first one: that one can't be thrown away,
// and it is what /proc/self shows.
func GoPinned(cpus []int, work func(pinned error)) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			work(pinThread(cpus))
			return // still locked: the runtime ends the thread
		}
		defer runtime.UnlockOSThread()
		elsewhere := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(elsewhere)
			work(pinThread(cpus))
		}()
		<-elsewhere
	}()
}

func pinThread(cpus []int) error {
	var set unix.CPUSet
	set.Zero()
	for _, cpu := range cpus {
		set.Set(cpu)
	}
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("pin to CPUs %s: %w", formatCPUs(cpus), err)
	}
	return nil
}
