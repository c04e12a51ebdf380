package convoy

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestQueueDepth(t *testing.T) {
	for _, test := range []struct {
		name, depth string // "": the disk has no such file
		want        int
		measurable  bool
		fails       bool
	}{
		{"SATA", "32\n", 32, true, false},
		{"SCSI", "254\n", 254, true, false},
		{"virtio", "", 0, false, true},
		{"not a number", "deep\n", 0, true, true},
		{"zero", "0\n", 0, true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			disk := blockDisk{sysfs: filepath.Join(t.TempDir(), "sda")}
			device := filepath.Join(disk.sysfs, "device")
			if err := errors.Join(os.MkdirAll(device, 0o755), os.MkdirAll(filepath.Join(disk.sysfs, "queue"), 0o755),
				os.WriteFile(filepath.Join(disk.sysfs, "queue/nr_requests"), []byte("32\n"), 0o644),
				os.Symlink("/sys/bus/none/drivers/sd", filepath.Join(device, "driver"))); err != nil {
				t.Fatal(err)
			}
			if test.depth != "" {
				if err := os.WriteFile(filepath.Join(device, "queue_depth"), []byte(test.depth), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got, err := disk.queueDepth()
			if got.Disk != "sda" || got.Driver != "sd" || got.Depth != test.want {
				t.Errorf("%+v", got)
			}
			if (err != nil) != test.fails || test.fails && errors.Is(err, ErrNotMeasurable) == test.measurable {
				t.Errorf("error %v", err)
			}
		})
	}
	if _, err := (blockDisk{}).queueDepth(); !errors.Is(err, ErrNotMeasurable) {
		t.Errorf("of no disk: %v", err)
	}
}

func TestOnPath(t *testing.T) {
	r := InodeLockSymbolResult{Related: []Symbol{{Name: "vfs_write"}, {Name: "xfs_file_write_iter"}, {Name: "ext4_file_write_iter"}, {Name: "vfs_write"}}}
	got := r.OnPath("ext4")
	if len(got) != 2 || got[0] != "vfs_write" || got[1] != "ext4_file_write_iter" {
		t.Errorf("%v", got)
	}
}
