package machine

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nexuscore-labs/nexus/uring"
	"golang.org/x/sys/unix"
)

func byID(findings []Finding) map[string]Finding {
	m := map[string]Finding{}
	for _, f := range findings {
		m[f.ID] = f
	}
	return m
}

// TestDoctorOnThisMachine checks each finding against a second way of knowing.
func TestDoctorOnThisMachine(t *testing.T) {
	dir := t.TempDir()
	extra := func(context.Context) []Finding {
		return []Finding{{ID: "bpf.tp_btf", Group: "BPF", Title: "tp_btf", Status: OK}}
	}
	mountsBefore, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	findings, err := Doctor(context.Background(), DoctorOptions{Dir: dir, Sample: 50 * time.Millisecond, Probers: []Prober{extra}})
	if err != nil {
		t.Fatal(err)
	}
	found := byID(findings)
	if len(found) != len(findings) {
		t.Errorf("%d findings have %d ids", len(findings), len(found))
	}
	for _, f := range findings {
		if f.ID == "" || f.Group == "" || f.Title == "" || (f.Status != OK && f.Status != Warn && f.Status != Absent) {
			t.Errorf("incomplete: %+v", f)
		}
		if f.Status != OK && f.Costs == "" {
			t.Errorf("%s does not say what it costs", f.ID)
		}
		if f.Status == Absent && f.Fix == "" {
			t.Errorf("%s is missing and has no fix", f.ID)
		}
	}
	if found["bpf.tp_btf"].Status != OK {
		t.Error("the extra prober was not asked")
	}
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	hasV1, hasV2 := strings.Contains(string(mounts), " cgroup "), strings.Contains(string(mounts), " cgroup2 ")
	mode := map[[2]bool]string{{true, true}: "hybrid", {true, false}: "v1 only", {false, true}: "v2"}[[2]bool{hasV1, hasV2}]
	if !strings.HasSuffix(found["cgroup"].Title, mode) {
		t.Errorf("cgroups: %q, /proc/mounts says %q", found["cgroup"].Title, mode)
	}
	for id, kind := range map[string]string{"tracefs": " tracefs ", "bpffs": " bpf "} {
		before, after := strings.Contains(string(mountsBefore), kind), strings.Contains(string(mounts), kind)
		if before == after { // else somebody mounted or unmounted it meanwhile
			same(t, found[id], after)
		}
	}
	var pmus []string
	for _, pattern := range []string{"cpu", "cpu_core", "armv8*"} {
		names, err := filepath.Glob("/sys/bus/event_source/devices/" + pattern)
		if err != nil {
			t.Fatal(err)
		}
		pmus = append(pmus, names...)
	}
	if len(pmus) == 0 && found["pmu"].Status != Absent {
		t.Errorf("no PMU in /sys, and doctor says %+v", found["pmu"])
	}
	if len(pmus) > 0 && found["pmu"].Status == Absent && !strings.Contains(found["pmu"].Title, "forbidden") {
		t.Errorf("%v, and doctor says %+v", pmus, found["pmu"])
	}
	if _, err := uring.Probe(); (err == nil) != (found["io_uring"].Status != Absent) {
		t.Errorf("io_uring: %v, and doctor says %+v", err, found["io_uring"])
	}
	if !strings.HasPrefix(found["cpu.count"].Title, itoa(runtime.NumCPU())) {
		t.Errorf("%q, the runtime counts %d", found["cpu.count"].Title, runtime.NumCPU())
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(found["kernel.version"].Title, unix.ByteSliceToString(uts.Release[:])) {
		t.Errorf("%q", found["kernel.version"].Title)
	}
	for _, tool := range tools {
		onPath := false
		for _, c := range tool.Commands {
			_, err := exec.LookPath(c)
			onPath = onPath || err == nil
		}
		if onPath && found[tool.ID].Status != OK {
			t.Errorf("%s is on PATH, and doctor says %+v", tool.Name, found[tool.ID])
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("doctor left %v, %v", entries, err)
	}
}

func itoa(n int) string { return formatCPUs([]int{n}) }

func same(t *testing.T, f Finding, there bool) {
	t.Helper()
	if (f.Status == OK) != there {
		t.Errorf("%s: %v, want there = %v", f.ID, f.Status, there)
	}
}

func TestDoctorStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Doctor(ctx, DoctorOptions{Sample: time.Hour}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestDiskOfMemoryIsNotDurable(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting tmpfs needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	facts, err := Inspect(dir)
	if err != nil {
		t.Fatal(err)
	}
	f := diskDurable(facts.Storage, dir)
	if f.Status != Warn || !strings.Contains(f.Costs, "mean nothing") {
		t.Errorf("%+v", f)
	}
	if f := diskSpace(dir); f.Status != Warn {
		t.Errorf("1 MiB is enough: %+v", f)
	}
	if f := diskDurable(Storage{Filesystem: "ext4"}, filepath.Join(dir, "none")); f.Status != Absent {
		t.Errorf("a folder that is not there: %+v", f)
	}
}

func TestDiskDurable(t *testing.T) {
	dir := t.TempDir()
	for kind, want := range map[string]string{"nfs4": "another machine", "tmpfs": "in memory"} {
		if f := diskDurable(Storage{Filesystem: kind}, dir); f.Status != Warn || !strings.Contains(f.Title, want) {
			t.Errorf("%s: %+v", kind, f)
		}
	}
	if got := existingFolder(filepath.Join(dir, "a", "b")); got != dir {
		t.Errorf("nearest folder of a path that is not there: %s", got)
	}
}

func TestNeeds(t *testing.T) {
	asked := 0
	options := DoctorOptions{Probers: []Prober{func(context.Context) []Finding {
		asked++
		return []Finding{
			{ID: "bpf.tp_btf", Title: "tp_btf", Status: OK},
			{ID: "bpf.fentry", Title: "fentry refused", Detail: "EPERM", Status: Absent, Costs: "inode lock wait", Fix: "another kernel"},
			{ID: "bpf.xdp", Title: "generic only", Status: Warn},
		}
	}}}
	ask := func(ids ...string) []Missing {
		t.Helper()
		missing, err := Needs(context.Background(), ids, options)
		if err != nil {
			t.Fatal(err)
		}
		return missing
	}
	if got := ask(); got != nil {
		t.Errorf("no needs: %v", got)
	}
	if got := ask("cpu.count", "limits.nofile"); len(got) != 0 || asked != 0 {
		t.Errorf("known ids: %v, probers asked %d times", got, asked)
	}
	if got := ask("bpf.tp_btf", "bpf.xdp"); len(got) != 0 || asked != 1 {
		t.Errorf("satisfied: %v, probers asked %d times", got, asked)
	}
	got := ask("bpf.fentry")
	if len(got) != 1 || got[0] != (Missing{ID: "bpf.fentry", Why: "fentry refused: EPERM", Costs: "inode lock wait", Fix: "another kernel"}) {
		t.Errorf("missing: %+v", got)
	}
	if got := ask("bpf.tpbtf"); len(got) != 1 || !strings.Contains(got[0].Why, `did you mean "bpf.tp_btf"`) {
		t.Errorf("misspelt: %+v", got)
	}
	if got := ask("io_uring.multishot_rcv"); len(got) != 1 || !strings.Contains(got[0].Why, "multishot_recv") {
		t.Errorf("misspelt: %+v", got)
	}
	text := (&MissingError{Missing: ask("bpf.fentry")}).Error()
	if !strings.Contains(text, "bpf.fentry: fentry refused") || !strings.Contains(text, "fix: another kernel") {
		t.Errorf("error text: %s", text)
	}
}

func TestEditDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"kitten", "sitting", 3}, {"flaw", "lawn", 2}, {"btf", "btf", 0}} {
		if got := editDistance(c.a, c.b); got != c.want || editDistance(c.b, c.a) != c.want {
			t.Errorf("%q, %q: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func TestFingerprintOfThisMachine(t *testing.T) {
	env, err := Fingerprint(context.Background(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if env.Hostname != host || env.CPUs != runtime.NumCPU() || env.GoVersion != runtime.Version() || env.Arch != runtime.GOARCH {
		t.Errorf("%+v", env)
	}
	if env.Kernel == "" || env.MemoryBytes < 1<<27 || env.Filesystem == "" || env.Virtual == "" || env.NexusVersion == "" || env.CPUPlan == nil {
		t.Errorf("incomplete: %+v", env)
	}
}
