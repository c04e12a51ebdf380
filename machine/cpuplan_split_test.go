package machine

import (
	"os"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPlanCPUSplit(t *testing.T) {
	upTo := func(from, to int) (cpus []int) {
		for c := from; c < to; c++ {
			cpus = append(cpus, c)
		}
		return cpus
	}
	cases := []struct {
		name                 string
		allowed              []int
		generator, contender []int
		system               []int
		shared, noted        bool
	}{
		{"one", []int{3}, []int{3}, []int{3}, []int{3}, true, true},
		{"two", []int{0, 1}, []int{1}, []int{0}, []int{0, 1}, false, true},
		{"three", []int{0, 1, 2}, []int{2}, []int{0, 1}, []int{0, 1, 2}, false, true},
		{"four", upTo(0, 4), []int{3}, []int{1, 2}, []int{0}, false, false},
		{"eight", upTo(0, 8), []int{7}, upTo(1, 7), []int{0}, false, false},
		{"sixty-four", upTo(0, 64), upTo(56, 64), upTo(1, 56), []int{0}, false, false},
		{"a cpuset, unordered", []int{9, 5, 7, 11}, []int{11}, []int{7, 9}, []int{5}, false, false},
	}
	for _, c := range cases {
		got, err := planCPUs(c.allowed)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if !reflect.DeepEqual(got.Generator, c.generator) || !reflect.DeepEqual(got.Contender, c.contender) || !reflect.DeepEqual(got.System, c.system) {
			t.Errorf("%s: generator %v contender %v system %v", c.name, got.Generator, got.Contender, got.System)
		}
		if got.Shared != c.shared || (got.Note != "") != c.noted {
			t.Errorf("%s: shared %v, note %q", c.name, got.Shared, got.Note)
		}
	}
	if _, err := planCPUs(nil); err == nil {
		t.Error("no CPU at all was planned")
	}
}

// For every size: all CPUs are used, generator and contender apart, and the
// generator has at most a quarter of what is not the system's.
func TestPlanCPUProperties(t *testing.T) {
	for n := 2; n <= 300; n++ {
		var allowed []int
		for c := range n {
			allowed = append(allowed, 2*c+1)
		}
		p, err := planCPUs(allowed)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[int]bool{}
		for _, c := range append(append([]int(nil), p.Generator...), p.Contender...) {
			if seen[c] {
				t.Fatalf("%d CPUs: CPU %d twice", n, c)
			}
			seen[c] = true
		}
		if n >= 4 && (seen[allowed[0]] || len(seen) != n-1 || len(p.Generator) > max(1, n/4)) {
			t.Errorf("%d CPUs: %+v", n, p)
		}
	}
}

// The thread of a pinned goroutine runs where it should; others, and what
// /proc/self shows of the process, don't inherit that. Many goroutines, because
// the first thread of the process must never be taken.
func TestGoPinned(t *testing.T) {
	plan, err := PlanCPUs()
	if err != nil {
		t.Fatal(err)
	}
	affinity := func(tid int) int {
		var set unix.CPUSet
		if err := unix.SchedGetaffinity(tid, &set); err != nil {
			t.Fatal(err)
		}
		return set.Count()
	}
	before := affinity(os.Getpid())
	for range 200 {
		pinned := make(chan int)
		GoPinned(plan.Generator[:1], func(err error) {
			if err != nil {
				t.Error(err)
			}
			if unix.Gettid() == unix.Getpid() {
				t.Error("the process's first thread was taken")
			}
			pinned <- affinity(0)
		})
		if got := <-pinned; got != 1 {
			t.Fatalf("the pinned thread may use %d CPUs", got)
		}
	}
	if after := affinity(os.Getpid()); after != before {
		t.Errorf("the process may use %d CPUs, before it was %d", after, before)
	}
}
