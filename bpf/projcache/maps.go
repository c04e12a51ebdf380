package projcache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Names of the maps, also of their pins.
const (
	mapProjections = "projections"
	mapSlots       = "slots"
	mapSnapshots   = "snapshots"
	mapOutcomes    = "outcomes"
	mapLayout      = "layout"
)

// ErrLayout says that what is pinned was made by another version of the package
// or with other sizes, and was left alone.
var ErrLayout = errors.New("projcache: what is pinned is of another layout")

// ErrInUse says that another process fills the pinned cache.
var ErrInUse = errors.New("projcache: the pinned cache is another process's")

func (c *Cache) openMaps() error {
	spec, err := loadObject()
	if err != nil {
		return fmt.Errorf("projcache: read the program: %w", err)
	}
	spec.Maps[mapProjections].MaxEntries = uint32(c.options.Slots)
	spec.Maps[mapSlots].MaxEntries = uint32(c.options.Slots)
	spec.Maps[mapSnapshots].MaxEntries = uint32(c.options.Tenants)
	if c.options.Pins != "" {
		if err := c.lockPins(); err != nil {
			return err
		}
		if err := c.checkPins(); err != nil {
			return err
		}
	}
	c.maps = map[string]*ebpf.Map{}
	// The layout comes last: what has one is whole.
	for _, name := range []string{mapProjections, mapSlots, mapSnapshots, mapOutcomes, mapLayout} {
		if c.maps[name], err = c.openMap(spec.Maps[name]); err != nil {
			delete(c.maps, name)
			return err
		}
	}
	if err := c.maps[mapLayout].Put(uint32(0), uint32(layoutVersion)); err != nil {
		return fmt.Errorf("projcache: note the layout: %w", err)
	}
	return nil
}

func (c *Cache) openMap(spec *ebpf.MapSpec) (*ebpf.Map, error) {
	options := ebpf.MapOptions{}
	if c.options.Pins != "" {
		spec.Pinning = ebpf.PinByName
		options.PinPath = c.options.Pins
	}
	m, err := ebpf.NewMapWithOptions(spec, options)
	if errors.Is(err, ebpf.ErrMapIncompatible) {
		return nil, fmt.Errorf("%w: map %s in %s has other sizes (%v): open it with the sizes it was made with, or remove the folder", ErrLayout, spec.Name, c.options.Pins, err)
	}
	if errors.Is(err, unix.EPERM) {
		err = unix.EPERM // the library's advice on memory limits is for kernels before 5.11
	}
	if err != nil {
		return nil, fmt.Errorf("projcache: make map %s: %w", spec.Name, err)
	}
	return m, nil
}

// lockPins makes the folder and takes its lock, which ends with the process.
func (c *Cache) lockPins() error {
	dir := c.options.Pins
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("projcache: make the folder of pins (in a BPF file system, such as /sys/fs/bpf): %w", err)
	}
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return fmt.Errorf("projcache: look at %s: %w", dir, err)
	}
	if uint32(stat.Type) != unix.BPF_FS_MAGIC {
		return fmt.Errorf("projcache: %s is not in a BPF file system (mount -t bpf bpf /sys/fs/bpf)", dir)
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("projcache: open %s: %w", dir, err)
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return errors.Join(fmt.Errorf("%w: %s: %w", ErrInUse, dir, err), unix.Close(fd))
	}
	c.lock = fd
	return nil
}

// checkPins refuses maps of another layout, and removes a set that was never
// finished: no link can have served from it.
func (c *Cache) checkPins() error {
	layout, err := ebpf.LoadPinnedMap(filepath.Join(c.options.Pins, mapLayout), nil)
	if errors.Is(err, fs.ErrNotExist) {
		return c.removeMaps()
	}
	if err != nil {
		return fmt.Errorf("projcache: open the pinned layout: %w", err)
	}
	defer layout.Close()
	var version uint32
	if err := layout.Lookup(uint32(0), &version); err != nil {
		return fmt.Errorf("%w: the layout in %s can't be read: %w", ErrLayout, c.options.Pins, err)
	}
	switch version {
	case layoutVersion:
		return nil
	case 0:
		return c.removeMaps()
	}
	return fmt.Errorf("%w: %s has layout %d, this program %d: stop what uses it and remove the folder", ErrLayout, c.options.Pins, version, layoutVersion)
}

func (c *Cache) removeMaps() error {
	for _, name := range []string{mapProjections, mapSlots, mapSnapshots, mapOutcomes, mapLayout} {
		if err := os.Remove(filepath.Join(c.options.Pins, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("projcache: remove an unfinished pin: %w", err)
		}
	}
	return nil
}
