package machine

import (
	"reflect"
	"slices"
	"testing"
	"testing/fstest"
)

func TestParseCPUs(t *testing.T) {
	for _, c := range []struct {
		list string
		want []int
		text string
	}{
		{"", nil, ""},
		{"0\n", []int{0}, "0"},
		{"0-3", []int{0, 1, 2, 3}, "0-3"},
		{"8,0-1,10-11", []int{0, 1, 8, 10, 11}, "0-1,8,10-11"},
		{"1,1,0-1", []int{0, 1}, "0-1"},
	} {
		got, err := parseCPUs(c.list)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%q: %v, %v; want %v", c.list, got, err, c.want)
		}
		if text := formatCPUs(got); text != c.text {
			t.Errorf("%q: written as %q, want %q", c.list, text, c.text)
		}
	}
	for _, bad := range []string{"x", "3-1", "-1", "0-", "0,,1", "0-99999999", "0-1-2"} {
		if got, err := parseCPUs(bad); err == nil {
			t.Errorf("%q was read as %v", bad, got)
		}
	}
}

func FuzzParseCPUs(f *testing.F) {
	f.Add("0-3,8")
	f.Add("65535")
	f.Fuzz(func(t *testing.T, list string) {
		cpus, err := parseCPUs(list)
		if err != nil {
			return
		}
		again, err := parseCPUs(formatCPUs(cpus))
		if err != nil || !slices.Equal(again, cpus) {
			t.Fatalf("%q: %v came back as %v (%v)", list, cpus, again, err)
		}
	})
}

func TestParseMounts(t *testing.T) {
	text := "22 27 0:21 / /proc rw,relatime - proc proc rw\n" +
		"27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw\n" +
		"41 27 0:40 / /mnt/a\\040b rw - tmpfs none rw,size=4k\n" +
		"42 27 0:41 / /mnt ro - xfs /dev/sdb rw\n"
	mounts, err := parseMounts(text)
	if err != nil {
		t.Fatal(err)
	}
	want := Mount{Device: "254:0", Root: "/", Point: "/", Options: "rw,relatime", Type: "ext4", Source: "/dev/vda", Super: "rw"}
	if !reflect.DeepEqual(mounts[1], want) {
		t.Errorf("got %+v, want %+v", mounts[1], want)
	}
	for name, point := range map[string]string{
		"/": "/", "/home/x": "/", "/mnt": "/mnt", "/mnt/a b/c": "/mnt/a b", "/mnt/a bc": "/mnt", "/mntx": "/", "/proc/1": "/proc",
	} {
		if m, found := mountOf(mounts, name); !found || m.Point != point {
			t.Errorf("%s lies on %q, want %q", name, m.Point, point)
		}
	}
	if !mounts[3].readOnly() || mounts[1].readOnly() {
		t.Error("read-only is told wrongly")
	}
	for _, bad := range []string{"x", "22 27 0:21 / /proc rw", "22 27 0:21 / - proc proc"} {
		if _, err := parseMounts(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func FuzzParseMounts(f *testing.F) {
	f.Add("27 1 254:0 / / rw shared:1 - ext4 /dev/vda rw")
	f.Fuzz(func(t *testing.T, text string) {
		mounts, err := parseMounts(text)
		if err != nil {
			return
		}
		for _, m := range mounts {
			if m.Type == "" || m.Point == "" {
				t.Fatalf("%q gave %+v", text, m)
			}
		}
	})
}

func TestParseCPUTimes(t *testing.T) {
	text := "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 10 1 20 300 4 5 6 7 0 0\ncpu3 1 0 0 0 0 0 0 2 0 0\nintr 5\n"
	got, err := parseCPUTimes(text)
	if err != nil {
		t.Fatal(err)
	}
	want := cpuTimes{
		0: {busyNs: 31 * tickNs, interruptNs: 11 * tickNs, stealNs: 7 * tickNs},
		3: {busyNs: tickNs, stealNs: 2 * tickNs},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, bad := range []string{"", "cpu 1 2", "cpux 1 2 3 4 5 6 7 8", "cpu0 1 2 3", "cpu0 1 2 3 4 5 6 7 x", "cpu0 1 2 3 4 5 6 7 -8"} {
		if _, err := parseCPUTimes(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func FuzzParseCPUTimes(f *testing.F) {
	f.Add("cpu0 10 1 20 300 4 5 6 7 0 0\n")
	f.Fuzz(func(t *testing.T, text string) {
		if times, err := parseCPUTimes(text); err == nil && len(times) == 0 {
			t.Fatal("no error and no CPUs")
		}
	})
}

func TestParseVersion(t *testing.T) {
	for text, want := range map[string]string{
		"Debian clang version 19.1.7 (3~deb12u1)\nTarget: x86_64": "19.1.7",
		"Debian LLD 19.1.7 (compatible with GNU linkers)":         "19.1.7",
		"bpftool v7.1.0\nusing libbpf v1.1\nfeatures:":            "7.1.0",
		"Chromium 142.0.7444.59 built on Debian":                  "142.0.7444.59",
		"postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)":    "15.14",
		"Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc":    "7.0.15",
		"fio-3.33":                      "3.33",
		"wrk debian/4.1.0-3+b2 [epoll]": "4.1.0",
		"no number at all":              "unknown",
		"":                              "unknown",
	} {
		if got := parseVersion(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestParseKernel(t *testing.T) {
	for release, want := range map[string][2]int{
		"6.18.44-fc-v657": {6, 18}, "5.15.0-1053-aws": {5, 15}, "6.1-rc3": {6, 1}, "6.12+deb13-amd64": {6, 12}, "7.0": {7, 0},
	} {
		major, minor, err := parseKernel(release)
		if err != nil || major != want[0] || minor != want[1] {
			t.Errorf("%s: %d.%d, %v; want %v", release, major, minor, err, want)
		}
	}
	for _, bad := range []string{"", "6", "x.y", "6.x"} {
		if _, _, err := parseKernel(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func FuzzParseKernel(f *testing.F) {
	f.Add("6.1.0-18-amd64")
	f.Fuzz(func(t *testing.T, release string) {
		if major, minor, err := parseKernel(release); err == nil && minor < 0 {
			t.Fatalf("%q: %d.%d", release, major, minor)
		}
	})
}

func FuzzHostPort(f *testing.F) {
	f.Add("postgres://user:secret@db:5433/x")
	f.Fuzz(func(t *testing.T, value string) {
		addresses, err := serverAddresses(value, "1")
		if err == nil && len(addresses) == 0 {
			t.Fatal("no error and no address")
		}
	})
}

// TestAllowedCPUsOfTheCallingThread: the first thread may be pinned for good.
func TestAllowedCPUsOfTheCallingThread(t *testing.T) {
	root := fstest.MapFS{
		"proc/self/status":        {Data: []byte("Cpus_allowed_list:\t3\n")},
		"proc/thread-self/status": {Data: []byte("Cpus_allowed_list:\t0-3\n")},
	}
	if got := allowedCPUs(root, []int{0, 1, 3}); !slices.Equal(got, []int{0, 1, 3}) {
		t.Errorf("got %v, want what the thread may use and is online", got)
	}
}
