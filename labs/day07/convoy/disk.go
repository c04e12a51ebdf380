package convoy

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// flushCounter reads the flush requests that a disk has completed. The zero
// value counts nothing.
type flushCounter struct {
	stat string // /sys/dev/block/8:0/stat
}

// statFlushes is the column of flush requests in a disk's stat file,
// Documentation/ABI/stable/sysfs-block, since Linux 5.5.
const statFlushes = 15

// diskOf finds the disk that stands behind dir. Partitions count no flushes of
// their own, so it goes up to the whole disk.
func diskOf(dir string) flushCounter {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return flushCounter{}
	}
	device := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	device, err := filepath.EvalSymlinks(device)
	if err != nil {
		return flushCounter{} // no block device: btrfs, overlay, network
	}
	if _, err := os.Stat(filepath.Join(device, "partition")); err == nil {
		device = filepath.Dir(device)
	}
	return flushCounter{stat: filepath.Join(device, "stat")}
}

func (c flushCounter) flushes() (uint64, bool) {
	if c.stat == "" {
		return 0, false
	}
	text, err := os.ReadFile(c.stat)
	if err != nil {
		return 0, false
	}
	return flushesIn(string(text))
}

func flushesIn(stat string) (uint64, bool) {
	fields := strings.Fields(stat)
	if len(fields) <= statFlushes {
		return 0, false
	}
	n, err := strconv.ParseUint(fields[statFlushes], 10, 64)
	return n, err == nil
}
