package support

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What a kernel with BPF must take from root; the others depend on it.
var always = []string{"xdp generic", "socket filter", "raw_tracepoint", "syscall"}

func TestProbe(t *testing.T) {
	if unix.Geteuid() != 0 {
		t.Skip("loading BPF programs needs root")
	}
	before := state(t)
	results := map[string]error{}
	for _, r := range Probe() {
		if _, again := results[r.Name]; again || r.Name == "" {
			t.Errorf("%q is listed twice", r.Name)
		}
		results[r.Name] = r.Err
		t.Logf("%-20s %v", r.Name, r.Err)
	}
	if len(results) != len(trials()) {
		t.Errorf("%d results of %d trials", len(results), len(trials()))
	}
	for _, name := range always {
		if err, found := results[name]; !found || err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if after := state(t); after != before {
		t.Errorf("something was left behind:\n%s\nbefore:\n%s", after, before)
	}
}

// state is all that a trial could leave: BPF descriptors of this process, its
// cgroups, its interfaces.
func state(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		target, _ := os.Readlink(fd)
		if strings.Contains(target, "bpf") || strings.Contains(target, "perf") {
			out.WriteString(target + "\n")
		}
	}
	for _, pattern := range []string{"/sys/fs/cgroup/nexus-support-*", "/sys/fs/cgroup/unified/nexus-support-*", "/sys/class/net/nexus*"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		out.WriteString(strings.Join(found, "\n"))
	}
	return out.String()
}

func TestEntryOffset(t *testing.T) {
	offset, err := entryOffset("/proc/self/exe")
	if err != nil || offset == 0 {
		t.Errorf("offset %d, %v", offset, err)
	}
	if _, err := entryOffset("/proc/self/status"); err == nil {
		t.Error("a text file has an entry point")
	}
}
