package machine

import (
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// Storage is where a folder's bytes go.
type Storage struct {
	Filesystem string // ext4, tmpfs, ...
	MountPoint string
	Device     string // as mounted: /dev/vda1, tmpfs, server:/path
	Disk       string // the whole device: vda, nvme0n1; empty when there is none
	Model      string
	Transport  string // virtio, nvme, scsi, loop, device-mapper, zram, mmc
	Rotational string // "yes", "no" or notVisible; hypervisors often tell a guest nothing true
	WriteCache string // "write back": completed writes are not durable before a flush
}

// volatileFilesystems keep their bytes in memory.
var volatileFilesystems = map[string]bool{"tmpfs": true, "ramfs": true, "devtmpfs": true, "hugetlbfs": true}

// remoteFilesystems pass fsync on to another machine.
var remoteFilesystems = map[string]bool{"nfs": true, "nfs4": true, "cifs": true, "smb3": true, "9p": true, "virtiofs": true, "ceph": true}

func storageOf(root fs.FS, mounts []Mount, dir string) Storage {
	m, found := mountOf(mounts, dir)
	if !found {
		return Storage{Filesystem: notVisible}
	}
	s := Storage{Filesystem: m.Type, MountPoint: m.Point, Device: m.Source}
	s.Disk = diskOf(root, m)
	if s.Disk == "" {
		return s
	}
	block := "sys/class/block/" + s.Disk
	s.Model = lineOr(root, block+"/device/model", "")
	s.Transport = transport(root, s.Disk)
	s.WriteCache = lineOr(root, block+"/queue/write_cache", notVisible)
	switch lineOr(root, block+"/queue/rotational", "") {
	case "0":
		s.Rotational = "no"
	case "1":
		s.Rotational = "yes"
	default:
		s.Rotational = notVisible
	}
	return s
}

// diskOf finds the whole disk under a mount by its device number; btrfs and
// overlay have an anonymous one, so that the source's name is the second way.
func diskOf(root fs.FS, m Mount) string {
	entries, err := fs.ReadDir(root, "sys/class/block")
	if err != nil {
		return ""
	}
	source := path.Base(m.Source)
	for _, e := range entries {
		number := lineOr(root, "sys/class/block/"+e.Name()+"/dev", "")
		byName := strings.HasPrefix(m.Source, "/dev/") && e.Name() == source
		if (number != "" && number == m.Device) || byName {
			return wholeDisk(root, e.Name())
		}
	}
	return ""
}

// wholeDisk turns a partition into its disk: /sys/class/block/<part> points to
// .../block/<disk>/<part>.
func wholeDisk(root fs.FS, name string) string {
	if !exists(root, "sys/class/block/"+name+"/partition") {
		return name
	}
	target, err := fs.ReadLink(root, "sys/class/block/"+name)
	if err != nil {
		return name
	}
	if disk := path.Base(path.Dir(target)); disk != "block" && disk != "." {
		return disk
	}
	return name
}

func transport(root fs.FS, disk string) string {
	target, _ := fs.ReadLink(root, "sys/class/block/"+disk)
	switch {
	case strings.HasPrefix(disk, "nvme"):
		return "nvme"
	case strings.HasPrefix(disk, "loop"):
		return "loop"
	case strings.HasPrefix(disk, "dm-"):
		return "device-mapper"
	case strings.HasPrefix(disk, "zram"):
		return "zram"
	case strings.HasPrefix(disk, "md"):
		return "md raid"
	case strings.HasPrefix(disk, "mmcblk"):
		return "mmc"
	case strings.HasPrefix(disk, "vd") || strings.Contains(target, "/virtio"):
		return "virtio"
	case strings.HasPrefix(disk, "xvd"):
		return "xen"
	case strings.HasPrefix(disk, "sd"):
		return "scsi"
	default:
		return notVisible
	}
}

// volatile reports whether a power cut takes the bytes, fsync or not.
func (s Storage) volatile() bool { return volatileFilesystems[s.Filesystem] || s.Transport == "zram" }

func (s Storage) describeFilesystem() string {
	if s.Device == "" {
		return s.Filesystem
	}
	return s.Filesystem + " on " + s.Device
}

func (s Storage) describeDisk() string {
	if s.Disk == "" {
		if s.volatile() {
			return "memory"
		}
		return "no local disk visible"
	}
	parts := []string{s.Disk, s.Transport}
	if s.Model != "" {
		parts = append(parts, strconv.Quote(s.Model))
	}
	switch s.Rotational {
	case "yes":
		parts = append(parts, "rotational")
	case "no":
		parts = append(parts, "not rotational")
	}
	if s.WriteCache != "" && s.WriteCache != notVisible {
		parts = append(parts, s.WriteCache)
	}
	return strings.Join(parts, ", ")
}
