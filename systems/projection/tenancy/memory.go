package tenancy

import (
	"bytes"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
)

// MemoryBytes is what the fleet's processes take of the machine's memory, a page
// that several share divided between them (Pss in proc_pid_smaps_rollup, see
// proc(5)). Garbage is collected before.
func MemoryBytes(f Fleet) (total int64, err error) {
	debug.FreeOSMemory()
	for _, pid := range f.PIDs() {
		name := "self"
		if pid != 0 {
			name = strconv.Itoa(pid)
		}
		n, err := proportionalBytes("/proc/" + name + "/smaps_rollup")
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

func proportionalBytes(path string) (int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("read memory of a process: %w", err)
	}
	for line := range bytes.Lines(text) {
		fields := bytes.Fields(line)
		if len(fields) == 3 && string(fields[0]) == "Pss:" && string(fields[2]) == "kB" {
			kib, err := strconv.ParseInt(string(fields[1]), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("%s has no Pss", path)
}
