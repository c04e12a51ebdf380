package machine

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/sys/unix"
)

// population is a /proc that a test writes.
type population struct{ fstest.MapFS }

func newPopulation() population {
	p := population{fstest.MapFS{}}
	p.put("proc/stat", "cpu0 0 0 0 0 0 0 0 0\ncpu1 0 0 0 0 0 0 0 0\n")
	return p
}

func (p population) put(name, text string) { p.MapFS[name] = &fstest.MapFile{Data: []byte(text)} }

type task struct {
	pid, parent, threads, cpu   int
	name                        string
	flags                       int
	ranMs, reapedTicks, started int
}

// add writes a process of one thread, or one with its threads to be added.
func (p population) add(t task) {
	dir := fmt.Sprintf("proc/%d", t.pid)
	p.line(dir, t)
	if t.threads == 0 {
		p.put(dir+"/schedstat", fmt.Sprintf("%d 5 9\n", t.ranMs*1e6))
	}
}

func (p population) addThread(pid, tid int, t task) {
	dir := fmt.Sprintf("proc/%d/task/%d", pid, tid)
	p.line(dir, t)
	p.put(dir+"/schedstat", fmt.Sprintf("%d 5 9\n", t.ranMs*1e6))
}

func (p population) line(dir string, t task) {
	fields := make([]any, 0, 52)
	for field := 3; field <= 52; field++ {
		value := any(0)
		switch field {
		case 3:
			value = "S"
		case 4:
			value = t.parent
		case 9:
			value = t.flags
		case 14:
			value = t.ranMs / 10
		case 16:
			value = t.reapedTicks
		case 20:
			value = max(1, t.threads)
		case 22:
			value = t.started
		case 39:
			value = t.cpu
		}
		fields = append(fields, value)
	}
	line := fmt.Sprintf("%d (%s)", t.pid, t.name)
	for _, f := range fields {
		line += fmt.Sprint(" ", f)
	}
	p.put(dir+"/stat", line+"\n")
}

func census(t *testing.T, p population, at time.Time) *Census {
	t.Helper()
	c, err := takeCensus(p)
	if err != nil {
		t.Fatal(err)
	}
	c.takenAt = at
	return c
}

// Who ran is charged to the CPU it was seen on, less the experiment, its
// descendants and the kernel; threads, the newborn and the dead included.
func TestCensusChargesStrangers(t *testing.T) {
	began := time.Unix(1000, 0)
	p := newPopulation()
	p.add(task{pid: 1, name: "init"})
	p.add(task{pid: 2, name: "journal", flags: kernelThread, ranMs: 100})
	p.add(task{pid: 10, parent: 1, name: "nexus", ranMs: 500})
	p.add(task{pid: 11, parent: 10, name: "contender", ranMs: 500})
	p.add(task{pid: 20, parent: 1, name: "a (b) c", threads: 2, ranMs: 10})
	p.addThread(20, 20, task{pid: 20, ranMs: 5, cpu: 0})
	p.addThread(20, 21, task{pid: 21, ranMs: 5, cpu: 1})
	p.add(task{pid: 30, parent: 1, name: "make", reapedTicks: 50})
	p.add(task{pid: 31, parent: 30, name: "cc", ranMs: 400})
	before := census(t, p, began)

	p.add(task{pid: 2, name: "journal", flags: kernelThread, ranMs: 900})
	p.add(task{pid: 10, parent: 1, name: "nexus", ranMs: 900})
	p.add(task{pid: 11, parent: 10, name: "contender", ranMs: 1500})
	p.add(task{pid: 12, parent: 11, name: "helper of contender", ranMs: 700, started: 9})
	p.addThread(20, 20, task{pid: 20, ranMs: 105, cpu: 0})
	p.addThread(20, 21, task{pid: 21, ranMs: 55, cpu: 1})
	p.add(task{pid: 40, parent: 1, name: "newborn", ranMs: 30, started: 9})
	// cc had used 400 ms before, and 200 ms until it ended: 60 ticks reaped.
	p.add(task{pid: 30, parent: 1, name: "make", reapedTicks: 110})
	delete(p.MapFS, "proc/31/stat")
	delete(p.MapFS, "proc/31/schedstat")
	after := census(t, p, began.Add(time.Second))

	load := before.Until(after, []int{0}, []int{10}, []int{11})
	want := map[string]int64{"a (b) c": 100e6, "newborn": 30e6, "children of make": 100e6} // half of cc's 200 ms: one CPU of two
	if len(load.Processes) != len(want) || load.Ns != 230e6 || load.ElapsedNs != 1e9 {
		t.Errorf("got %+v", load)
	}
	for _, found := range load.Processes {
		if want[found.Name] != found.Ns {
			t.Errorf("%s: %d ns, want %d", found.Name, found.Ns, want[found.Name])
		}
	}
	if share := load.Share(2); share != 0.115 {
		t.Errorf("share of two CPUs: %g", share)
	}
	if other := before.Until(after, []int{1}, []int{10}, []int{11}); other.Ns != 150e6 {
		t.Errorf("on the other CPU: %+v", other)
	}
	if !after.Complete() {
		t.Error("a census with init is not complete")
	}
	delete(p.MapFS, "proc/1/stat")
	if census(t, p, began).Complete() {
		t.Error("a census without init is complete")
	}
}

// A pid that was given anew is another process.
func TestCensusKnowsRecycledPIDs(t *testing.T) {
	began := time.Unix(1000, 0)
	p := newPopulation()
	p.add(task{pid: 1, name: "init"})
	p.add(task{pid: 5, name: "old", ranMs: 300, started: 1})
	before := census(t, p, began)
	p.add(task{pid: 5, name: "new", ranMs: 200, started: 2})
	load := before.Until(census(t, p, began.Add(time.Second)), []int{0, 1}, nil, nil)
	if load.Ns != 200e6 || load.Processes[0].String() != "new (pid 5)" {
		t.Errorf("got %+v", load)
	}
}

// On this machine: a process that burns a CPU is found, by its name, on that
// CPU and with about the time that /proc charges it with; declared as own it is not.
func TestCensusFindsAHog(t *testing.T) {
	cmd := exec.Command("sh", "-c", "while :; do :; done")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // reports the kill
	}()
	pid := cmd.Process.Pid
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
	cpu := 0
	for !set.IsSet(cpu) {
		cpu++
	}
	set.Zero()
	set.Set(cpu)
	if err := unix.SchedSetaffinity(pid, &set); err != nil {
		t.Fatal(err)
	}
	used := func() int64 {
		ns, err := ProcessCPUNs(pid)
		if err != nil {
			t.Fatal(err)
		}
		return ns
	}
	before, err := TakeCensus()
	if err != nil {
		t.Fatal(err)
	}
	start := used()
	poll(t, "the child burns its CPU time", func() bool { return used()-start >= 200_000_000 })
	after, err := TakeCensus()
	if err != nil {
		t.Fatal(err)
	}
	burnt := used() - start
	find := func(load OtherLoad) (found ProcessLoad) {
		for _, p := range load.Processes {
			if p.PID == pid {
				found = p
			}
		}
		return found
	}
	load := before.Until(after, []int{cpu}, []int{os.Getpid()}, nil)
	if hog := find(load); hog.Name != "sh" || hog.Ns < 150_000_000 || hog.Ns > burnt+2*tickNs {
		t.Errorf("the hog burnt %d ns, found %+v", burnt, hog)
	}
	if hog := find(before.Until(after, []int{cpu}, nil, []int{os.Getpid()})); hog.PID != 0 {
		t.Errorf("a descendant of the experiment counts as other: %+v", hog)
	}
}

func FuzzTaskStat(f *testing.F) {
	f.Add("1 (a) S 0 0 0 0 0 0 0 0 0 0 1 2 3 4 0 0 1 0 9 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 3 0 0")
	f.Add("1 (a) b) S 0")
	f.Add("")
	f.Fuzz(func(t *testing.T, line string) {
		if out, err := parseTaskStat(line); err == nil && out.reapedTicks < 0 {
			t.Errorf("%q: %+v", line, out)
		}
	})
}

func BenchmarkTakeCensus(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := TakeCensus(); err != nil {
			b.Fatal(err)
		}
	}
}
