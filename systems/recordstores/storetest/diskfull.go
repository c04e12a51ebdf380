package storetest

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/frame"
	"github.com/nexuscore-labs/nexus/systems/recordserver"
)

// testDiskFull fills a small file system: the append that finds no room says so
// and leaves nothing behind, and when room comes back the store goes on.
func (k Kind) testDiskFull(t *testing.T) {
	if !k.SurvivesDiskFull {
		t.Skip("this store does not promise to survive a full disk")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=512k"); err != nil {
		t.Skipf("a small file system needs the right to mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	ballast, data := filepath.Join(dir, "ballast"), filepath.Join(dir, "data")
	if err := errors.Join(os.WriteFile(ballast, make([]byte, 256<<10), 0o600), os.Mkdir(data, 0o755)); err != nil {
		t.Fatal(err)
	}
	store := k.open(t, data)
	seq := uint64(1)
	for ; ; seq++ {
		err := appendNext(store, 3, seq)
		if err == nil {
			continue
		}
		if recordserver.StatusOf(err) != frame.StatusDiskFull {
			t.Fatalf("record %d on a full disk: %v", seq, err)
		}
		break
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if err := appendNext(store, 3, seq); err != nil {
			t.Fatal(err)
		}
		seq++
	}
	closeStore(t, store)
	k.mustScan(t, data, map[uint32]uint64{3: seq - 1})
}
