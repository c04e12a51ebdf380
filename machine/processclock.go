package machine

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// ProcessClockNs returns the CPU time of a running process with all its threads,
// ns, exact to the moment; io_uring's workers are its threads, the kernel's own
// threads and interrupts are not in it.
func ProcessClockNs(pid int) (int64, error) {
	// The clock's id is made as clock_getcpuclockid(3) does.
	const cpuclockSched = 2
	var now unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|cpuclockSched), &now); err != nil {
		return 0, fmt.Errorf("read the CPU clock of process %d: %w", pid, err)
	}
	return now.Nano(), nil
}
