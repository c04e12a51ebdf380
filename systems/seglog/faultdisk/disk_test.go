package faultdisk

import (
	"bytes"
	"errors"
	"io"
	"syscall"
	"testing"

	"github.com/nexuscore-labs/nexus/systems/seglog"
)

func named(t *testing.T, d *Disk, size int64) seglog.File {
	t.Helper()
	f, err := d.Create("tmp", size, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), d.Rename("tmp", "file")); err != nil {
		t.Fatal(err)
	}
	return f
}

func content(t *testing.T, d *Disk) []byte {
	t.Helper()
	f, err := d.Open("file")
	if err != nil {
		t.Fatal(err)
	}
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, size)
	if _, err := f.ReadAt(p, 0); err != nil {
		t.Fatal(err)
	}
	return p
}

// What was synced survives every cut; what was not survives in sectors, and
// over the seeds in every mixture.
func TestPowerCutKeepsSyncedAndTearsTheRest(t *testing.T) {
	var none, all, torn, reordered int
	for seed := range uint64(300) {
		d := New(Options{Seed: seed})
		f := named(t, d, 16*SectorBytes)
		synced := bytes.Repeat([]byte{1}, 8*SectorBytes)
		if _, err := f.WriteAt(synced, 0); err != nil {
			t.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(bytes.Repeat([]byte{2}, 8*SectorBytes), 8*SectorBytes); err != nil {
			t.Fatal(err)
		}
		d.PowerOff()
		if _, err := f.WriteAt(synced, 0); !errors.Is(err, ErrPowerCut) {
			t.Fatalf("write after the cut: %v", err)
		}
		got := content(t, d.Reboot(Options{}))
		if !bytes.Equal(got[:len(synced)], synced) {
			t.Fatalf("seed %d: synced bytes are gone", seed)
		}
		kept, first := 0, -1
		for s := 8; s < 16; s++ {
			sector := got[s*SectorBytes : (s+1)*SectorBytes]
			if bytes.Count(sector, sector[:1]) != SectorBytes {
				t.Fatalf("seed %d: sector %d is torn inside", seed, s)
			}
			if sector[0] == 2 {
				kept++
				if first < 0 {
					first = s
				}
			}
		}
		switch {
		case kept == 0:
			none++
		case kept == 8:
			all++
		case first > 8:
			reordered++ // later sectors without earlier ones
		default:
			torn++
		}
	}
	if none == 0 || all == 0 || torn == 0 || reordered == 0 {
		t.Errorf("none %d, all %d, torn %d, reordered %d", none, all, torn, reordered)
	}
}

func TestKilledProcessLosesNothingUntilPowerIsCut(t *testing.T) {
	d := New(Options{Seed: 3, CutAt: 5, CutKills: true})
	f := named(t, d, SectorBytes) // three operations
	if _, err := f.WriteAt([]byte("hello"), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); !errors.Is(err, ErrPowerCut) {
		t.Fatalf("the fifth operation: %v", err)
	}
	next := d.Reboot(Options{Seed: 4})
	if got := content(t, next); !bytes.HasPrefix(got, []byte("hello")) {
		t.Fatalf("after the kill: %q", got[:5])
	}
	lost := false
	for seed := range uint64(50) {
		next := d.Reboot(Options{Seed: seed})
		next.PowerOff()
		lost = lost || !bytes.HasPrefix(content(t, next.Reboot(Options{})), []byte("hello"))
	}
	if !lost {
		t.Error("no power cut took what the dead process had not synced")
	}
}

func TestEqualSeedsGiveEqualDisks(t *testing.T) {
	run := func() []byte {
		d := New(Options{Seed: 9})
		f := named(t, d, 64*SectorBytes)
		for i := range 20 {
			if _, err := f.WriteAt(bytes.Repeat([]byte{byte(i)}, 3000), int64(i)*1400); err != nil {
				t.Fatal(err)
			}
		}
		d.PowerOff()
		return content(t, d.Reboot(Options{}))
	}
	if !bytes.Equal(run(), run()) {
		t.Error("the same run left two different disks")
	}
}

// A failed sync must not be curable by another one.
func TestFailedSyncIsForgotten(t *testing.T) {
	lost := false
	for seed := range uint64(30) {
		d := New(Options{Seed: seed})
		f := named(t, d, SectorBytes)
		if _, err := f.WriteAt([]byte("hello"), 0); err != nil {
			t.Fatal(err)
		}
		d.Inject(EIO, 1, false)
		if err := f.Sync(); !errors.Is(err, syscall.EIO) {
			t.Fatalf("sync: %v", err)
		}
		if err := f.Sync(); err != nil {
			t.Fatalf("second sync: %v", err)
		}
		d.PowerOff()
		lost = lost || !bytes.HasPrefix(content(t, d.Reboot(Options{})), []byte("hello"))
	}
	if !lost {
		t.Error("retrying a failed sync always saved the data")
	}
}

func TestFaults(t *testing.T) {
	d := New(Options{Seed: 1})
	f := named(t, d, 4*SectorBytes)
	d.Inject(ShortWrite, 1, false)
	if n, err := f.WriteAt(make([]byte, 1000), 0); n <= 0 || n >= 1000 || !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("short write: %d, %v", n, err)
	}
	d.Inject(ENOSPC, 1, true)
	if _, err := f.WriteAt(make([]byte, 10), 0); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("write: %v", err)
	}
	if _, err := d.Create("more", 10, nil); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("create: %v", err)
	}
	d.Heal()
	if _, err := f.WriteAt(make([]byte, 10), 0); err != nil {
		t.Errorf("healed: %v", err)
	}
	if d.Faults() != 3 {
		t.Errorf("%d faults", d.Faults())
	}
}
