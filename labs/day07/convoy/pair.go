package convoy

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Priorities of SCHED_FIFO, which is above every normal task: the lowest for a
// pair, and one more for the thread that has to stop it.
const (
	pairPriority  = 1
	watchPriority = 2
)

// task is one of the two that hand a CPU to each other.
type task struct {
	id     int    // of the thread
	status string // its status file in /proc
	end    func() error
}

// pairRate runs a pair on cpu for about length and returns its switches a second.
func pairRate(method SwitchMethod, space Space, cpu int, length time.Duration) (rate float64, err error) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		// Never unlocked: the thread ends with the goroutine, and its affinity
		// and policy with it.
		runtime.LockOSThread()
		if err = watchFromElsewhere(method, cpu); err == nil {
			rate, err = runPair(method, space, cpu, length)
		}
	}()
	<-ended
	return rate, err
}

// watchFromElsewhere keeps the calling thread off the pair's CPU and, if the
// pair is above normal tasks, puts the thread above the pair: it must not wait
// behind what it measures.
func watchFromElsewhere(method SwitchMethod, cpu int) error {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return fmt.Errorf("read the CPU affinity: %w", err)
	}
	set.Clear(cpu)
	if set.Count() == 0 {
		if method == YieldFIFO {
			return notMeasurable(errors.New("a pair under SCHED_FIFO would leave no CPU to stop it from"))
		}
		return nil
	}
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("leave CPU %d: %w", cpu, err)
	}
	if method != YieldFIFO {
		return nil
	}
	return setFIFO(0, watchPriority)
}

func setFIFO(tid int, priority uint32) error {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: priority}
	if err := unix.SchedSetAttr(tid, &attr, 0); err != nil {
		return notMeasurable(fmt.Errorf("set the policy SCHED_FIFO: %w", err))
	}
	return nil
}

func runPair(method SwitchMethod, space Space, cpu int, length time.Duration) (rate float64, err error) {
	b, err := newBaton(method)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	// A thread of the pair never comes back to Go's scheduler, so a collection
	// that began meanwhile would wait for it with the whole process stopped, this
	// thread too, for ever. Setting the percentage ends none that is under way;
	// GC does.
	percent := debug.SetGCPercent(-1)
	defer debug.SetGCPercent(percent)
	runtime.GC()
	// Each of two threads keeps its P for as long as it runs.
	before := runtime.GOMAXPROCS(runtime.NumCPU() + 2)
	defer runtime.GOMAXPROCS(before)
	start := startThread
	if space == Processes {
		start = startProcess
	}
	var tasks [2]task
	for me := range tasks {
		if tasks[me], err = start(b, uint32(me)); err != nil {
			break
		}
	}
	if err == nil {
		rate, err = switches(tasks[:], method, cpu, length)
	}
	b.stop()
	for _, t := range tasks {
		if t.end != nil {
			err = errors.Join(err, t.end())
		}
	}
	return rate, err
}

func switches(tasks []task, method SwitchMethod, cpu int, length time.Duration) (float64, error) {
	var set unix.CPUSet
	set.Set(cpu)
	for _, t := range tasks {
		if err := unix.SchedSetaffinity(t.id, &set); err != nil {
			return 0, fmt.Errorf("pin to CPU %d: %w", cpu, err)
		}
		if method == YieldFIFO {
			if err := setFIFO(t.id, pairPriority); err != nil {
				return 0, err
			}
		}
	}
	// The clock is read outside of both counts: should this thread lose its CPU
	// in between, the rate comes out too low, never too high.
	began := time.Now()
	before, err := switchesOf(tasks)
	if err != nil {
		return 0, err
	}
	sleep(length)
	after, err := switchesOf(tasks)
	if err != nil {
		return 0, err
	}
	return float64(after-before) / time.Since(began).Seconds(), nil
}

// sleep blocks the thread itself: the runtime's timers are served by whichever
// thread it likes, which may be one that waits behind the pair.
func sleep(d time.Duration) {
	left := unix.NsecToTimespec(int64(d))
	for errors.Is(unix.Nanosleep(&left, &left), unix.EINTR) {
	}
}

// switchesOf sums how often the kernel has switched away from the tasks,
// proc_pid_status(5).
func switchesOf(tasks []task) (uint64, error) {
	var sum uint64
	for _, t := range tasks {
		text, err := os.ReadFile(t.status)
		if err != nil {
			return 0, fmt.Errorf("read the context switches of a task: %w", err)
		}
		for _, line := range strings.Split(string(text), "\n") {
			key, value, _ := strings.Cut(line, ":")
			if key != "voluntary_ctxt_switches" && key != "nonvoluntary_ctxt_switches" {
				continue
			}
			n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("%s: %w", key, err)
			}
			sum += n
		}
	}
	return sum, nil
}

func startThread(b *baton, me uint32) (task, error) {
	tid := make(chan int)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		// Never unlocked: the thread ends with the goroutine, and its affinity
		// and policy with it.
		runtime.LockOSThread()
		tid <- unix.Gettid()
		pass(b.method, b.words, b.pipes[me], b.pipes[1-me], me)
	}()
	id := <-tid
	return task{
		id: id, status: fmt.Sprintf("/proc/self/task/%d/status", id),
		end: func() error { <-ended; return nil },
	}, nil
}

func startProcess(b *baton, me uint32) (task, error) {
	started := make(chan error)
	release := make(chan struct{})
	var pid int
	go func() {
		// The process dies with the thread that made it, so that thread stays.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		var err error
		pid, err = fork(b, me)
		started <- err
		<-release
	}()
	if err := <-started; err != nil {
		close(release)
		return task{}, err
	}
	return task{
		id: pid, status: fmt.Sprintf("/proc/%d/status", pid),
		end: func() error { defer close(release); return kill(pid) },
	}, nil
}

// kill ends a child and reaps it.
func kill(pid int) error {
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		return fmt.Errorf("kill a child: %w", err)
	}
	for {
		_, err := unix.Wait4(pid, nil, 0, nil)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// chooseCPU returns cpu, or the last that the process may run on for -1.
func chooseCPU(cpu int) (int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return 0, fmt.Errorf("read the CPU affinity: %w", err)
	}
	if cpu >= 0 {
		if !set.IsSet(cpu) {
			return 0, fmt.Errorf("CPU %d is not one that this process may run on", cpu)
		}
		return cpu, nil
	}
	for cpu = len(set)*64 - 1; cpu > 0 && !set.IsSet(cpu); cpu-- {
	}
	return cpu, nil
}
