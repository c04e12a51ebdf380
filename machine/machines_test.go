package machine

import (
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/tools/txtar"
)

// Each archive in testdata/machines is a machine: the files of its /proc, /sys
// and /etc that this package reads, "name -> target" for a link, and in "want"
// what must be found. -update writes want anew; read it before you keep it.

var update = flag.Bool("update", false, "write the golden files anew")

func TestMachines(t *testing.T) {
	names, err := filepath.Glob("testdata/machines/*.txtar")
	if err != nil || len(names) < 7 {
		t.Fatalf("found %d machines, %v", len(names), err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			before, after, want := trees(archive)
			got := describe(t, before, after)
			if got == string(want) {
				return
			}
			if !*update {
				t.Fatalf("found:\n%s\nwant:\n%s", got, want)
			}
			for i := range archive.Files {
				if archive.Files[i].Name == "want" {
					archive.Files[i].Data = []byte(got)
				}
			}
			if err := os.WriteFile(name, txtar.Format(archive), 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// trees splits an archive: files below "after/" replace the others a second later.
func trees(archive *txtar.Archive) (before, after fstest.MapFS, want []byte) {
	before, after = fstest.MapFS{}, fstest.MapFS{}
	put := func(tree fstest.MapFS, name string, data []byte) {
		file := &fstest.MapFile{Data: data, Mode: 0o644}
		if strings.Contains(name, "/bin/") || strings.Contains(name, "/sbin/") {
			file.Mode = 0o755
		}
		if link, target, isLink := strings.Cut(name, " -> "); isLink {
			name, file = link, &fstest.MapFile{Data: []byte(target), Mode: fs.ModeSymlink | 0o777}
		}
		tree[name] = file
	}
	for _, f := range archive.Files {
		switch {
		case f.Name == "want":
			want = f.Data
		case !strings.HasPrefix(f.Name, "after/"):
			put(before, f.Name, f.Data)
			put(after, f.Name, f.Data)
		}
	}
	for _, f := range archive.Files {
		if later, isLater := strings.CutPrefix(f.Name, "after/"); isLater {
			put(after, later, f.Data)
		}
	}
	return before, after, want
}

// describe is what this package finds on a machine that it only sees in files.
func describe(t *testing.T, before, after fs.FS) string {
	t.Helper()
	facts := inspectTree(before, "/data/runs")
	facts.Arch = "-" // the test's own
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s, kernel %s, %s\n", facts.Distro, facts.Kernel, facts.Virtual)
	fmt.Fprintf(&b, "%s, online %s, allowed %s, %d cores, %s\n", facts.CPUModel, formatCPUs(facts.CPUsOnline), formatCPUs(facts.CPUsAllowed),
		coresAllowed(facts), formatBytes(facts.MemoryBytes))
	fmt.Fprintf(&b, "%s; %s\n", facts.Storage.describeFilesystem(), facts.Storage.describeDisk())
	mounts, err := readMounts(before)
	if err != nil {
		t.Fatal(err)
	}
	mode, point := cgroupModeOf(mounts)
	findings := []Finding{kernelVersion(facts.Kernel), kernelConfig(before, facts.Kernel), btf(before),
		mounted(mounts, "tracefs", costsTracefs, fixMountTrace), mounted(mounts, "bpf", costsBPFFS, fixMountBPF),
		cgroupFinding(before, mode, point), cpuCount(facts), cpuPinning(facts), cpuGovernor(facts), cpuClock(facts),
		stealFinding(readingsBetween(t, before, after, facts.CPUsAllowed), len(facts.CPUsAllowed))}
	located := locateTools(before, "/usr/local/bin:/usr/bin")
	findings = append(findings, toolFindings(located, nil, packageFamily(readOSRelease(before)))...)
	for _, f := range findings {
		fmt.Fprintf(&b, "%-7s %-18s %s\n", f.Status, f.ID, f.Title)
		if f.Status == OK && f.Group == groupTools || f.ID == "cpu.pinning" || f.ID == "cpu.steal" {
			fmt.Fprintf(&b, "        %s\n", f.Detail)
		}
		if f.Status != OK && f.Fix != "" {
			fmt.Fprintf(&b, "        fix: %s\n", f.Fix)
		}
		if f.Status != OK && f.Costs == "" {
			t.Errorf("%s does not say what it costs", f.ID)
		}
	}
	return b.String()
}

func readingsBetween(t *testing.T, before, after fs.FS, cpus []int) Readings {
	t.Helper()
	tree := before
	now := Clocks{MonotonicNs: 1}
	s := NewSampler(SamplerOptions{CPUs: cpus, OwnNs: func() (int64, error) { return 0, nil }})
	s.clocks = func() (Clocks, error) { return now, nil }
	s.root = tree
	if err := s.begin(); err != nil {
		t.Fatal(err)
	}
	now = Clocks{MonotonicNs: 1 + 1e9, RealNs: 1e9, BootNs: 1e9}
	s.root = after
	r, err := s.end()
	if err != nil {
		t.Fatal(err)
	}
	return r
}
