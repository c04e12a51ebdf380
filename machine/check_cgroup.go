package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
)

const groupCgroup = "Cgroups"

// CgroupMode is how control groups are mounted, cgroups(7).
type CgroupMode string

const (
	CgroupV2     CgroupMode = "v2"     // one unified hierarchy
	CgroupHybrid CgroupMode = "hybrid" // v1 holds the controllers, v2 beside it
	CgroupV1     CgroupMode = "v1"
	CgroupNone   CgroupMode = "none"
)

// cgroupModeOf returns the mode and where the v2 hierarchy is mounted.
func cgroupModeOf(mounts []Mount) (CgroupMode, string) {
	unified, hasUnified := mountOfType(mounts, "cgroup2")
	_, hasLegacy := mountOfType(mounts, "cgroup")
	switch {
	case hasUnified && hasLegacy:
		return CgroupHybrid, unified.Point
	case hasUnified:
		return CgroupV2, unified.Point
	case hasLegacy:
		return CgroupV1, ""
	default:
		return CgroupNone, ""
	}
}

func checkCgroup(_ context.Context, h host) []Finding {
	mounts, err := readMounts(h.root)
	if err != nil {
		return []Finding{{ID: "cgroup", Group: groupCgroup, Title: "cgroups unknown", Status: Absent, Detail: err.Error(), Costs: costsNoCgroup}}
	}
	mode, point := cgroupModeOf(mounts)
	findings := []Finding{cgroupFinding(h.root, mode, point)}
	if point != "" {
		findings = append(findings, cgroupWritable(point, tryCgroup(point)))
	}
	return findings
}

const costsNoCgroup = "contenders can't be told apart in the kernel: the BPF probes have nothing to attribute events to, and strays can't be ended as a group"

func cgroupFinding(root fs.FS, mode CgroupMode, point string) Finding {
	f := Finding{ID: "cgroup", Group: groupCgroup, Title: "cgroups " + string(mode), Status: OK}
	switch mode {
	case CgroupV2:
		f.Detail = "controllers " + lineOr(root, strings.TrimPrefix(path.Join(point, "cgroup.controllers"), "/"), "none")
	case CgroupHybrid:
		f.Detail = "v1 holds the controllers, cgroup2 at " + point + ": enough for BPF attribution and for ending strays; CPUs are pinned by affinity"
	case CgroupV1:
		f.Status, f.Title = Absent, "cgroups v1 only"
		f.Costs, f.Fix = costsNoCgroup, "sudo mkdir -p /sys/fs/cgroup/unified && sudo mount -t cgroup2 none /sys/fs/cgroup/unified"
	default:
		f.Status, f.Title = Absent, "no cgroups mounted"
		f.Costs, f.Fix = costsNoCgroup, "sudo mount -t cgroup2 none /sys/fs/cgroup"
	}
	return f
}

// tryCgroup makes a child cgroup and removes it.
func tryCgroup(point string) error {
	name := path.Join(point, fmt.Sprintf("nexus-%d-doctor", os.Getpid()))
	if err := os.Mkdir(name, 0o755); err != nil {
		return fmt.Errorf("make a cgroup: %w", err)
	}
	if err := os.Remove(name); err != nil {
		return fmt.Errorf("remove a cgroup: %w", err)
	}
	return nil
}

func cgroupWritable(point string, err error) Finding {
	f := Finding{ID: "cgroup.write", Group: groupCgroup, Title: "cgroup2 writable", Status: OK, Detail: point}
	if err == nil {
		return f
	}
	f.Status, f.Title, f.Detail, f.Costs = Absent, "cgroup2 not writable", err.Error(), costsNoCgroup
	f.Fix = "run as root: sudo nexus run …"
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() == 0 || strings.Contains(err.Error(), "read-only") {
		f.Fix = "start the container with a writable cgroup mount (docker run --privileged --cgroupns=private)"
	}
	return f
}
