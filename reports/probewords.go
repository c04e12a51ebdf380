package reports

// probeWords say what a kernel probe measured, for people.
type probeWords struct {
	title  string // of the chart
	axis   string // what grows to the right
	better string // how to read the direction; empty where neither is better
}

const (
	leftIsBetter      = "Further left is better."
	leftUnlessWaiting = "Further left is better, except where a call only waits for work."
)

// wordsOfProbes are by probe and unit.
var wordsOfProbes = map[[2]string]probeWords{
	{"syscall", "ns"}:  {"Time in system calls", "duration", leftUnlessWaiting},
	{"runqueue", "ns"}: {"Time waiting for a CPU", "duration", leftIsBetter},
	{"offcpu", "ns"}:   {"Time off the CPU", "duration", "Waits for work are among them: neither direction is better by itself."},
	{"oncpu", "ns"}:    {"Time on the CPU at a stretch", "duration", ""},
	{"block", "ns"}:    {"Block I/O, issue to completion", "duration", leftIsBetter},
	{"block", "bytes"}: {"Size of block I/O requests", "size", ""},
	{"uring", "ns"}:    {"io_uring operations, submit to completion", "duration", leftUnlessWaiting},
	{"uring", "count"}: {"io_uring completions worked off in one go", "completions in a batch", ""},
	{"lock", "ns"}:     {"Wait for kernel locks", "duration", leftIsBetter},
	{"lock", "count"}:  {"How often a waiter for an inode lock was overtaken", "times overtaken", leftIsBetter},
	{"fault", "ns"}:    {"Page faults", "duration", leftIsBetter},
}

// wordsOf are those of a probe in its unit; one without words of its own shows
// under its name.
func wordsOf(probe, unit string) probeWords {
	if w, known := wordsOfProbes[[2]string{probe, unit}]; known {
		return w
	}
	switch unit {
	case "ns":
		return probeWords{"Durations of " + probe, "duration", leftIsBetter}
	case "bytes":
		return probeWords{"Sizes of " + probe, "size", ""}
	}
	return probeWords{"Counts of " + probe, unit, ""}
}
