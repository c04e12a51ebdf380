package machine

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// favourContender gives the contender the CPU that takes the data disk's
// interrupts, in exchange for one of its own. The kernel finishes writes and
// syncs where they interrupt: that work belongs to the contender's bill, and
// on the generator's CPU each would hold up the other.
func (p CPUPlan) favourContender(interrupted int) CPUPlan {
	i := slices.Index(p.Generator, interrupted)
	if i < 0 || p.Shared || len(p.Contender) == 0 {
		return p
	}
	p.Generator, p.Contender = slices.Clone(p.Generator), slices.Clone(p.Contender)
	last := len(p.Contender) - 1
	p.Generator[i], p.Contender[last] = p.Contender[last], p.Generator[i]
	slices.Sort(p.Generator)
	slices.Sort(p.Contender)
	return p
}

// diskInterruptCPU returns the CPU that takes the request interrupts of the
// disk below dir, or -1 where no single one does (NVMe has a queue for each CPU)
// or the kernel doesn't say.
func diskInterruptCPU(dir string) int {
	var stat unix.Stat_t
	if err := unix.Stat(dir, &stat); err != nil {
		return -1
	}
	node := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(stat.Dev), unix.Minor(stat.Dev))
	disk, err := filepath.EvalSymlinks(node)
	if err != nil {
		return -1
	}
	if _, err := os.Stat(filepath.Join(disk, "partition")); err == nil {
		disk = filepath.Dir(disk)
	}
	device, err := filepath.EvalSymlinks(filepath.Join(disk, "device"))
	if err != nil {
		return -1
	}
	return interruptCPU(os.DirFS("/proc/irq"), filepath.Base(device)+"-req")
}

// interruptCPU looks through /proc/irq for the interrupts whose action begins
// with the prefix, and returns the one CPU that takes them all, or -1.
func interruptCPU(irqs fs.FS, prefix string) int {
	actions, err := fs.Glob(irqs, "*/"+prefix+"*")
	if err != nil {
		return -1
	}
	found := -1
	for _, action := range actions {
		text, err := fs.ReadFile(irqs, path.Join(path.Dir(action), "effective_affinity_list"))
		if err != nil {
			return -1
		}
		cpu, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil || found >= 0 && cpu != found {
			return -1
		}
		found = cpu
	}
	return found
}
