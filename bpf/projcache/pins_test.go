package projcache

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// mountPins gives a folder in a BPF file system of the test's own.
func mountPins(t testing.TB) string {
	t.Helper()
	if unix.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("bpf", dir, "bpf", 0, "mode=0700"); err != nil {
		t.Skipf("no BPF file system can be mounted: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, "cache")
}

func TestPinsOutliveTheLoader(t *testing.T) {
	options := Options{Slots: 32, Tenants: 4, Pins: mountPins(t)}
	c := openCache(t, options)
	if err := c.SetSnapshot(2, 7); err != nil {
		t.Fatal(err)
	}
	key := Key{Tenant: 2, Projection: 1, Snapshot: 7}
	for version := range uint64(40) {
		if err := c.Put(key, version, []byte("kept")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(options); !errors.Is(err, ErrInUse) {
		t.Errorf("a second writer: %v, want %v", err, ErrInUse)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	again := openCache(t, options)
	body, found := again.Get(nil, key)
	if !found || !bytes.Equal(body[BodyHeaderLen:], []byte("kept")) || body[0] != 39 || again.Snapshot(2) != 7 {
		t.Errorf("after a restart: %q, found %v, snapshot %d", body, found, again.Snapshot(2))
	}
	if err := again.Put(key, 40, []byte("new")); err != nil {
		t.Error(err)
	}
}

// A writer that dies within a write has changed nothing that is served, and its
// successor uses the slot again.
func TestDeathWithinAWrite(t *testing.T) {
	options := Options{Slots: 16, Tenants: 4, Pins: mountPins(t)}
	c := openCache(t, options)
	key := Key{Tenant: 1, Projection: 1, Snapshot: 1}
	if err := c.Put(key, 1, []byte("whole")); err != nil {
		t.Fatal(err)
	}
	at, err := c.take()
	if err != nil {
		t.Fatal(err)
	}
	c.memory.slot(at).sequence.Add(1)
	c.memory.slot(at).bodyLen = 99
	// And another one died between taking a slot away and giving the key up.
	stray := Key{Tenant: 2, Projection: 2, Snapshot: 2}
	if err := c.maps[mapProjections].Put(stray, at); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	again := openCache(t, options)
	if body, found := again.Get(nil, key); !found || string(body[BodyHeaderLen:]) != "whole" {
		t.Errorf("the value before: %q, found %v", body, found)
	}
	if _, found := again.Get(nil, stray); found {
		t.Error("the stray key is found")
	}
	if again.frees != options.Slots-1 {
		t.Errorf("%d slots are free, want all but one of %d", again.frees, options.Slots)
	}
	var slot uint32
	if err := again.maps[mapProjections].Lookup(stray, &slot); !errors.Is(err, ebpf.ErrKeyNotExist) {
		t.Errorf("the stray key is still in the map: %v", err)
	}
}

func TestForeignPinsAreLeftAlone(t *testing.T) {
	options := Options{Slots: 32, Tenants: 4, Pins: mountPins(t)}
	c := openCache(t, options)
	if err := c.maps[mapLayout].Put(uint32(0), uint32(layoutVersion+1)); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(options); !errors.Is(err, ErrLayout) {
		t.Errorf("another layout: %v, want %v", err, ErrLayout)
	}
	if _, err := os.Stat(filepath.Join(options.Pins, mapSlots)); err != nil {
		t.Errorf("its maps were touched: %v", err)
	}
	// What never got its layout was never served.
	if err := os.Remove(filepath.Join(options.Pins, mapLayout)); err != nil {
		t.Fatal(err)
	}
	again, err := Open(options)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	options.Slots++
	if _, err := Open(options); !errors.Is(err, ErrLayout) {
		t.Errorf("another size: %v, want %v", err, ErrLayout)
	}
	options.Pins = t.TempDir()
	if _, err := Open(options); err == nil {
		t.Error("a folder that is in no BPF file system was taken")
	}
}

func TestForeignProgramsAreLeftAlone(t *testing.T) {
	options := Options{Slots: 32, Tenants: 4, Pins: mountPins(t)}
	b := newBed(t)
	c := openCache(t, options)
	p := loadProgram(t, c)
	foreign, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "foreign", Type: ebpf.XDP, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, ActionPass), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer foreign.Close()
	err = b.Server.Run(func() error {
		other, err := attachXDP(foreign, b.Server.Index)
		if err != nil {
			return err
		}
		if _, err := c.Attach(p, b.Server.Index); !errors.Is(err, ErrForeign) {
			t.Errorf("an interface with another's program: %v, want %v", err, ErrForeign)
		}
		pin := filepath.Join(options.Pins, pinOfLink(b.Server.Index))
		if err := other.link.Pin(pin); err != nil {
			return err
		}
		if _, err := c.Attach(p, b.Server.Index); !errors.Is(err, ErrForeign) {
			t.Errorf("a pinned link with another's program: %v, want %v", err, ErrForeign)
		}
		if err := os.Remove(pin); err != nil {
			return err
		}
		return other.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
}
