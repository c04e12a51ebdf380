package convoy

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// blockDisk is a whole disk by its folder in sysfs. The zero value is no disk:
// it has no attributes.
type blockDisk struct {
	sysfs string // /sys/devices/…/block/sda
}

// statFlushes is the column of flush requests in a disk's stat file,
// Documentation/ABI/stable/sysfs-block, since Linux 5.5.
const statFlushes = 15

// diskOf finds the disk that stands behind dir. Partitions count no flushes of
// their own, so it goes up to the whole disk.
func diskOf(dir string) blockDisk {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return blockDisk{}
	}
	device := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	device, err := filepath.EvalSymlinks(device)
	if err != nil {
		return blockDisk{} // no block device: btrfs, overlay, network
	}
	if _, err := os.Stat(filepath.Join(device, "partition")); err == nil {
		device = filepath.Dir(device)
	}
	return blockDisk{sysfs: device}
}

// attribute reads a file of the disk's folder; "" if it has none of that name.
func (d blockDisk) attribute(name string) string {
	if d.sysfs == "" {
		return ""
	}
	text, err := os.ReadFile(filepath.Join(d.sysfs, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// driver is the name of the driver of the disk or, where the disk's device has
// none (NVMe), of the controller that it hangs from; "" if neither shows one.
func (d blockDisk) driver() string {
	for _, link := range []string{"device/driver", "device/device/driver"} {
		if target, err := os.Readlink(filepath.Join(d.sysfs, link)); err == nil {
			return filepath.Base(target)
		}
	}
	return ""
}

// flushes is how many flush requests the disk has completed.
func (d blockDisk) flushes() (uint64, bool) { return flushesIn(d.attribute("stat")) }

func flushesIn(stat string) (uint64, bool) {
	fields := strings.Fields(stat)
	if len(fields) <= statFlushes {
		return 0, false
	}
	n, err := strconv.ParseUint(fields[statFlushes], 10, 64)
	return n, err == nil
}
