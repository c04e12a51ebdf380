package convoy

import (
	"slices"
	"strings"
	"testing"
)

func TestSymbols(t *testing.T) {
	for _, test := range []struct {
		name, text               string
		exact, variants, related int
		kprobes                  bool
	}{
		{"empty", "", 0, 0, 0, false},
		{"old kernel", "ffff T inode_lock\nffff T down_write\n", 1, 0, 1, false},
		{"data of that name", "ffff D inode_lock\n", 0, 0, 0, false},
		{"clone", "0000 t inode_lock.isra.0\n", 0, 1, 0, false},
		{"longer name", "0000 t inode_lock_nested\n", 0, 0, 0, false},
		{"module", "0000 t ext4_file_write_iter\t[ext4]\n", 0, 0, 1, false},
		{"kprobes", "0000 T register_kprobe\n", 0, 0, 0, true},
		{"broken", "inode_lock\nffff inode_lock\nffff TT inode_lock\n\n", 0, 0, 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := symbols(strings.NewReader(test.text))
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Exact) != test.exact || len(got.Variants) != test.variants || len(got.Related) != test.related || got.Kprobes != test.kprobes {
				t.Errorf("%+v", got)
			}
		})
	}
}

// What the running kernel says has to agree with a dumb search of the same text.
func TestInodeLockSymbol(t *testing.T) {
	got, err := InodeLockSymbol()
	if err != nil {
		t.Skipf("no symbols here: %v", err)
	}
	if got.Symbols == 0 || len(got.Related) == 0 {
		t.Errorf("looked at %d symbols, found %v on the path of an append", got.Symbols, got.Related)
	}
	t.Logf("inode_lock %v, related %v, kprobes %v", got.Exact, got.Related, got.Kprobes)
}

func FuzzSymbols(f *testing.F) {
	f.Add("ffffffff81000000 T inode_lock\n")
	f.Add("0000000000000000 t inode_lock.constprop.0\t[ext4]\n")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := symbols(strings.NewReader(text))
		if err != nil {
			return
		}
		if len(got.Exact) > 0 && !slices.Contains(strings.Fields(text), inodeLock) {
			t.Errorf("found %v in %q", got.Exact, text)
		}
	})
}

func TestFlushesIn(t *testing.T) {
	whole := " 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 4711 17\n"
	if n, ok := flushesIn(whole); !ok || n != 4711 {
		t.Errorf("%d, %v", n, ok)
	}
	for _, text := range []string{"", "1 2 3 4 5 6 7 8 9 10 11", strings.Replace(whole, "4711", "-1", 1)} {
		if n, ok := flushesIn(text); ok {
			t.Errorf("%q: %d", text, n)
		}
	}
}

func FuzzFlushesIn(f *testing.F) {
	f.Add("1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17")
	f.Fuzz(func(t *testing.T, text string) {
		if n, ok := flushesIn(text); !ok && n != 0 {
			t.Errorf("%d without ok", n)
		}
	})
}

func TestMountIn(t *testing.T) {
	const info = `22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,data=ordered
23 22 0:21 / /tmp rw - tmpfs tmpfs rw
broken
`
	for device, want := range map[string]string{"8:1": "ext4 rw,data=ordered", "0:21": "tmpfs rw", "9:9": "", "": ""} {
		if got := mountIn(info, device); got != want {
			t.Errorf("%s: %q, want %q", device, got, want)
		}
	}
}

func FuzzMountIn(f *testing.F) {
	f.Add("22 1 8:1 / / rw - ext4 /dev/sda1 rw", "8:1")
	f.Fuzz(func(t *testing.T, info, device string) {
		if got := mountIn(info, device); got != "" && !strings.Contains(info, device) {
			t.Errorf("%q from %q", got, info)
		}
	})
}
