package files

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func config(t *testing.T, pattern Pattern, depth int) Config {
	t.Helper()
	// Not the temporary folder: that may be a tmpfs, which knows no O_DIRECT.
	dir, err := os.MkdirTemp(".", "files-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return Config{Path: filepath.Join(dir, "f"), Len: 4 << 20, Pattern: pattern, BlockLen: 4096, Depth: depth, Duration: 100 * time.Millisecond, Seed: 7, CPU: -1}
}

// Runs of both patterns count what they timed, and leave the file as it was.
func TestRun(t *testing.T) {
	for pattern, depth := range map[Pattern]int{RandomRead: 16, SyncedWrite: 1} {
		t.Run(string(pattern), func(t *testing.T) {
			c := config(t, pattern, depth)
			if err := Prepare(c); err != nil {
				t.Fatal(err)
			}
			before, err := os.ReadFile(c.Path)
			if err != nil || int64(len(before)) != c.Len {
				t.Fatalf("%d bytes, %v", len(before), err)
			}
			var r *Result
			for c.Duration < 30*time.Second && (r == nil || r.Completed == 0) { // a crowded machine may need longer
				if r, err = Run(c); err != nil {
					t.Fatal(err)
				}
				c.Duration *= 10
			}
			timed, syncs := uint64(r.Latency.TotalCount()), uint64(r.Sync.TotalCount())
			if r.Completed == 0 || timed > r.Completed || timed+uint64(depth) < r.Completed {
				t.Errorf("%d completed, %d timed", r.Completed, timed)
			}
			if want := pattern == SyncedWrite; want != (syncs > 0) || syncs > r.Completed+1 {
				t.Errorf("%d syncs of %d operations", syncs, r.Completed)
			}
			after, err := os.ReadFile(c.Path)
			if err != nil || !bytes.Equal(before, after) {
				t.Errorf("the file changed (%v)", err)
			}
		})
	}
}

// A file with other bytes, or a shorter one, gives no result.
func TestWrongBytesAreFound(t *testing.T) {
	c := config(t, RandomRead, 4)
	if err := Prepare(c); err != nil {
		t.Fatal(err)
	}
	other := c
	other.Seed++
	if r, err := Run(other); !errors.Is(err, ErrWrong) || r != nil {
		t.Errorf("another seed's file: %v, %v", r, err)
	}
	if err := os.Truncate(c.Path, 4096); err != nil {
		t.Fatal(err)
	}
	if r, err := Run(c); err == nil {
		t.Errorf("a cut file: %+v", r)
	}
}

func TestBadConfigs(t *testing.T) {
	good := Config{Path: "x", Len: 1 << 20, Pattern: RandomRead, BlockLen: 4096, Depth: 1, Duration: time.Second, CPU: -1}
	for name, spoil := range map[string]func(*Config){
		"pattern":     func(c *Config) { c.Pattern = "trim" },
		"block":       func(c *Config) { c.BlockLen = 512 },
		"large block": func(c *Config) { c.BlockLen = 2 << 20 },
		"short file":  func(c *Config) { c.Len = 100 },
		"depth":       func(c *Config) { c.Depth = 0 },
		"deep sync":   func(c *Config) { c.Pattern, c.Depth = SyncedWrite, 2 },
		"duration":    func(c *Config) { c.Duration = 0 },
	} {
		c := good
		spoil(&c)
		if _, err := Run(c); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	good.Path = filepath.Join(t.TempDir(), "absent")
	if _, err := Run(good); err == nil {
		t.Error("an absent file was read")
	}
}
