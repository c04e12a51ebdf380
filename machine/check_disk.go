package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const (
	groupStorage = "Storage"

	// diskFreeBytesMin is what the largest lab in full mode leaves for a moment.
	diskFreeBytesMin = 4 << 30

	syncProbes = 16 // fdatasync calls that Doctor times
	// syncNsSuspect is faster than any device with a real flush; a drive with
	// a battery-backed or capacitor-backed cache may stay below it rightly.
	syncNsSuspect = 10_000
)

func checkDisk(_ context.Context, h host) []Finding {
	folder := existingFolder(h.options.Dir)
	return []Finding{diskSpace(folder), diskDurable(h.facts.Storage, folder)}
}

// existingFolder is dir or the nearest folder above it that exists: a run
// folder may yet have to be made.
func existingFolder(dir string) string {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return dir
	}
	for {
		info, err := os.Stat(abs)
		if err == nil && info.IsDir() {
			return abs
		}
		parent := filepath.Dir(abs)
		if parent == abs {
			return abs
		}
		abs = parent
	}
}

func diskSpace(folder string) Finding {
	f := Finding{ID: "disk.space", Group: groupStorage, Status: OK}
	var st unix.Statfs_t
	if err := unix.Statfs(folder, &st); err != nil {
		f.Status, f.Title, f.Detail = Absent, "run folder can't be read", err.Error()
		f.Costs, f.Fix = "no run can be kept", "choose another folder: nexus run --out <folder>"
		return f
	}
	free := int64(st.Bavail) * st.Bsize
	f.Title, f.Detail = formatBytes(free)+" free", folder
	if free < diskFreeBytesMin {
		f.Status = Warn
		f.Costs = "a full run may meet a full disk; its trial then fails, finished ones are kept"
		f.Fix = "free some space, or choose another folder: nexus run --out <folder>"
	}
	return f
}

func diskDurable(s Storage, folder string) Finding {
	f := Finding{ID: "disk.durable", Group: groupStorage, Title: "fdatasync", Status: OK}
	median, err := timeSync(folder)
	switch {
	case err != nil:
		f.Status, f.Title, f.Detail = Absent, "run folder not writable", err.Error()
		f.Costs, f.Fix = "no run can be kept", "choose another folder: nexus run --out <folder>"
		return f
	case s.volatile():
		f.Status, f.Title = Warn, "run folder is in memory"
		f.Costs = "durability numbers mean nothing here: fdatasync returns at once and a power cut takes everything"
		f.Fix = "choose a folder on a disk: nexus run --out <folder>"
	case remoteFilesystems[s.Filesystem]:
		f.Status, f.Title = Warn, "run folder is on another machine or the host"
		f.Costs = "durability numbers are those of the network and the server, not of a disk"
		f.Fix = "choose a folder on a local disk: nexus run --out <folder>"
	case median < syncNsSuspect:
		f.Status, f.Title = Warn, fmt.Sprintf("fdatasync takes only %v", median)
		f.Costs = "the device answers before a flush could end: a protected write cache, or a host that does not flush. Ratios hold, absolute durability numbers don't travel"
		f.Fix = "on a VM: set the disk's cache mode to none or writethrough on the host"
	default:
		f.Title = fmt.Sprintf("fdatasync takes %v", median.Round(time.Microsecond))
	}
	f.Detail = fmt.Sprintf("%s; %s; median of %d 4 KiB overwrites: %v", s.describeFilesystem(), s.describeDisk(), syncProbes, median)
	return f
}

// timeSync returns the median time of an fdatasync after overwriting a block
// that is already allocated, so that no journal commit is in it.
func timeSync(folder string) (_ time.Duration, err error) {
	file, err := os.CreateTemp(folder, "."+CgroupPrefix+"doctor-*")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(file.Name())) }()
	block := make([]byte, 4096)
	if _, err := file.WriteAt(block, 0); err != nil {
		return 0, err
	}
	if err := file.Sync(); err != nil {
		return 0, err
	}
	times := make([]time.Duration, syncProbes)
	for i := range times {
		block[0] = byte(i + 1)
		if _, err := file.WriteAt(block, 0); err != nil {
			return 0, err
		}
		start := time.Now()
		if err := unix.Fdatasync(int(file.Fd())); err != nil {
			return 0, fmt.Errorf("fdatasync: %w", err)
		}
		times[i] = time.Since(start)
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}
