package convoy

import (
	"fmt"
	"path/filepath"
	"strconv"
)

// QueueDepth is how many commands a disk takes at a time.
type QueueDepth struct {
	Disk   string // sda
	Driver string // sd
	Depth  int
}

// DiskQueueDepth reads the queue depth of the disk behind dir. Only SCSI and
// SATA disks show theirs, in device/queue_depth, Documentation/scsi; what every
// disk has, queue/nr_requests, is the kernel's own queue in front of it.
func DiskQueueDepth(dir string) (QueueDepth, error) { return diskOf(dir).queueDepth() }

func (d blockDisk) queueDepth() (QueueDepth, error) {
	if d.sysfs == "" {
		return QueueDepth{}, notMeasurable(fmt.Errorf("no disk of the kernel's stands directly behind the file system"))
	}
	q := QueueDepth{Disk: filepath.Base(d.sysfs), Driver: d.driver()}
	text := d.attribute("device/queue_depth")
	if text == "" {
		return q, notMeasurable(fmt.Errorf("this disk (%s, %s) does not show its queue depth", q.Disk, orUnknown(q.Driver)))
	}
	depth, err := strconv.Atoi(text)
	if err != nil || depth < 1 {
		return q, fmt.Errorf("queue depth of %s: %q is no depth", q.Disk, text)
	}
	q.Depth = depth
	return q, nil
}

func orUnknown(driver string) string {
	if driver == "" {
		return "driver unknown"
	}
	return driver
}

// VerdictQueueDepth judges ncq-depth-32.
func VerdictQueueDepth(depth int) Verdict {
	if depth == ncqDepth {
		return Held
	}
	return Refuted
}

const ncqDepth = 32
