package machine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// These tests start real runs: processes of this test binary that make every
// kind of thing a run makes. Some are killed with SIGKILL, at the end or half
// way, one lives on; Clean must remove all of the first and nothing of the last.

// ofRun keeps the leftovers of one run.
func ofRun(found []Leftover, pid int) []Leftover {
	var own []Leftover
	for _, l := range found {
		if l.PID == pid {
			own = append(own, l)
		}
	}
	return own
}

func mustList(t *testing.T, p places) []Leftover {
	t.Helper()
	found, err := p.list(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestCleanRemovesTheKilledAndLeavesTheLive(t *testing.T) {
	p, spec := ground(t)
	spec.Deaf = true
	killed, strays := startRun(t, spec)
	live, liveChildren := startRun(t, spec)
	foreign := filepath.Join(spec.Temp, "somebody-elses")
	if err := os.Mkdir(foreign, 0o755); err != nil {
		t.Fatal(err)
	}
	kill9(t, killed)

	dead := ofRun(mustList(t, p), killed.Process.Pid)
	kinds := map[LeftoverKind]int{}
	for _, l := range dead {
		kinds[l.Kind]++
		if l.Live != Dead {
			t.Errorf("%v: want dead", l)
		}
	}
	for kind, want := range map[LeftoverKind]int{LeftoverProcess: 1, LeftoverCgroup: 1, LeftoverMount: 1, LeftoverTemp: 1, LeftoverPin: 1, LeftoverNetns: 1, LeftoverLink: 2} {
		if kinds[kind] != want {
			t.Errorf("found %d of kind %s, want %d", kinds[kind], kind, want)
		}
	}

	var said bytes.Buffer
	report, err := p.clean(context.Background(), CleanOptions{DryRun: true, Out: &said})
	if err != nil {
		t.Fatal(err)
	}
	if got := ofRun(report.Removed, killed.Process.Pid); len(got) != len(dead) || strings.Count(said.String(), "would remove") != len(report.Removed) {
		t.Errorf("the dry run names %d of %d:\n%s", len(got), len(dead), said.String())
	}
	if after := ofRun(mustList(t, p), killed.Process.Pid); len(after) != len(dead) {
		t.Fatalf("the dry run changed something: %v became %v", dead, after)
	}

	if _, err := p.clean(context.Background(), CleanOptions{}); err != nil {
		t.Fatal(err)
	}
	after := mustList(t, p)
	if left := ofRun(after, killed.Process.Pid); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	for _, pid := range strays {
		if stat, err := readProcStat(hostRoot(), pid); err == nil && !stat.ended() {
			t.Errorf("stray %d still runs", pid)
		}
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Errorf("what is not ours was removed: %v", err)
	}
	checkUntouched(t, spec, live, liveChildren, ofRun(after, live.Process.Pid))

	report, err = p.clean(context.Background(), CleanOptions{})
	if err != nil || len(ofRun(report.Removed, killed.Process.Pid)) > 0 {
		t.Errorf("a second clean: %v, removed %v", err, report.Removed)
	}
	kill9(t, live)
	if _, err := p.clean(context.Background(), CleanOptions{}); err != nil {
		t.Fatal(err)
	}
}

// checkUntouched looks at a live run's things, not at what Clean says of them.
func checkUntouched(t *testing.T, spec helperSpec, live *exec.Cmd, children []int, listed []Leftover) {
	t.Helper()
	for _, pid := range append(children, live.Process.Pid) {
		if stat, err := readProcStat(hostRoot(), pid); err != nil || stat.ended() {
			t.Errorf("process %d of the live run is gone: %v", pid, err)
		}
	}
	prefix := fmt.Sprintf("%s%d-*", CgroupPrefix, live.Process.Pid)
	for _, folder := range []string{spec.Temp, spec.Cgroup, spec.Netns, spec.Pins} {
		if names, err := filepath.Glob(filepath.Join(folder, prefix)); err != nil || len(names) != 1 {
			t.Errorf("%s of the live run: %v, %v", folder, names, err)
		}
	}
	mounts, err := readMounts(hostRoot())
	if err != nil {
		t.Fatal(err)
	}
	mounted := 0
	for _, m := range mounts {
		if strings.HasPrefix(m.Point, filepath.Join(spec.Temp, fmt.Sprintf("%s%d-", CgroupPrefix, live.Process.Pid))) {
			mounted++
		}
	}
	if mounted != 1 {
		t.Errorf("the live run has %d mounts, want 1", mounted)
	}
	for _, l := range listed {
		if l.Live != Live {
			t.Errorf("%v: want live", l)
		}
	}
}

// TestCleanAfterAKillAtEachStep kills runs half way through making their things.
func TestCleanAfterAKillAtEachStep(t *testing.T) {
	p, spec := ground(t)
	for steps := 1; steps <= len(runSteps); steps++ {
		spec.Steps = steps
		run, strays := startRun(t, spec)
		kill9(t, run)
		if _, err := p.clean(context.Background(), CleanOptions{}); err != nil {
			t.Errorf("killed after %q: %v", runSteps[steps-1], err)
		}
		if left := ofRun(mustList(t, p), run.Process.Pid); len(left) > 0 {
			t.Errorf("killed after %q: left behind %v", runSteps[steps-1], left)
		}
		for _, pid := range strays {
			if stat, err := readProcStat(hostRoot(), pid); err == nil && !stat.ended() {
				t.Errorf("killed after %q: stray %d still runs", runSteps[steps-1], pid)
			}
		}
	}
	for _, folder := range []string{spec.Temp, spec.Netns, spec.Pins} {
		if entries, err := os.ReadDir(folder); err != nil || len(entries) > 0 {
			t.Errorf("%s still holds %v, %v", folder, entries, err)
		}
	}
}

func deadPID(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// TestCleanKeepsWhatItCannotJudge: names alone never condemn a folder that
// somebody put something into.
func TestCleanKeepsWhatItCannotJudge(t *testing.T) {
	base, pid := t.TempDir(), deadPID(t)
	folder := func(name string) string {
		dir := filepath.Join(base, fmt.Sprintf("%s%d-%s", CgroupPrefix, pid, name))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	write := func(dir, name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	owner, err := Self()
	if err != nil {
		t.Fatal(err)
	}
	ownerText := func(change func(*Owner)) string {
		o := owner
		o.PID = pid
		change(&o)
		data, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	keep := []string{folder("full"), folder("torn"), folder("container"), folder("other-pid")}
	write(keep[0], "precious", "x")
	write(keep[1], OwnerFile, `{"pid":`)
	write(keep[2], OwnerFile, ownerText(func(o *Owner) { o.PIDNS = "pid:[1]" }))
	write(keep[3], OwnerFile, ownerText(func(o *Owner) { o.PID++ }))
	gone := []string{folder("empty"), folder("dead"), folder("rebooted")}
	write(gone[1], OwnerFile, ownerText(func(*Owner) {}))
	write(gone[2], OwnerFile, ownerText(func(o *Owner) { o.BootID = "another" }))
	write(base, fmt.Sprintf("%s%d-file", CgroupPrefix, pid), "a file, not a folder")
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.Mkdir(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	write(outside, "precious", "x")
	for _, link := range []string{filepath.Join(base, fmt.Sprintf("%s%d-link", CgroupPrefix, pid)), filepath.Join(gone[1], "link")} {
		if err := os.Symlink(outside, link); err != nil {
			t.Fatal(err)
		}
	}

	p := places{temps: []string{base, filepath.Join(base, "not-there")}, processes: hostRoot()}
	report, err := p.clean(context.Background(), CleanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range keep {
		if _, err := os.Stat(dir); err != nil {
			t.Errorf("removed: %v", err)
		}
	}
	for _, dir := range gone {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", dir, err)
		}
	}
	if _, err := os.Stat(filepath.Join(outside, "precious")); err != nil {
		t.Errorf("a link was followed: %v", err)
	}
	if len(report.Kept) != len(keep) || len(report.Removed) != len(gone) {
		t.Errorf("kept %v, removed %v", report.Kept, report.Removed)
	}
	for _, l := range report.Kept {
		if l.Why == "" {
			t.Errorf("%v: no reason", l)
		}
	}
}

// TestRemovalKeepsItsOwnerFile: a clean that is killed half way must leave
// what the next one needs to judge the rest.
func TestRemovalKeepsItsOwnerFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "x")
	if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := WriteOwner(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "sub", "f"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	mountPoint := filepath.Join(dir, "sub")
	if os.Geteuid() != 0 {
		t.Skip("making a removal fail half way needs root")
	}
	if err := unix.Mount("none", mountPoint, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	if err := removeKeepingOwner(dir); err == nil {
		t.Error("a busy folder was removed")
	}
	if _, err := ReadOwner(dir); err != nil {
		t.Errorf("the owner file went before the rest: %v", err)
	}
	if err := unix.Unmount(mountPoint, 0); err != nil {
		t.Fatal(err)
	}
	if err := removeKeepingOwner(dir); err != nil {
		t.Error(err)
	}
}

func TestNamesCarryTheirPID(t *testing.T) {
	if pid, ours := LeftoverPID(LeftoverName()); !ours || pid != os.Getpid() {
		t.Errorf("%s: %d, %v", LeftoverName(), pid, ours)
	}
	name := LinkName("abcde")
	if pid, ours := linkPID(name); !ours || pid != os.Getpid() {
		t.Errorf("%s: %d, %v", name, pid, ours)
	}
	if len(LinkPrefix)+len("4194304-")+5 > unix.IFNAMSIZ-1 {
		t.Error("the longest link name does not fit")
	}
	for _, name := range []string{"nexus", "nexus-", "nexus-1", "nexus-x-1", "nexus-0-1", "nexus--1-1", "xnexus-1-1", "nx-1", "nx12", "nxa-1"} {
		if pid, ours := LeftoverPID(name); ours {
			t.Errorf("%s names run %d", name, pid)
		}
		if pid, ours := linkPID(name); ours {
			t.Errorf("%s names run %d", name, pid)
		}
	}
}

// TestReusedPIDs: a number in a name or a record may mean another process by now.
func TestReusedPIDs(t *testing.T) {
	p := places{processes: hostRoot()}
	for _, c := range []struct {
		name   string
		pid    int
		madeAt time.Time
		want   Liveness
	}{
		{"own, made now", os.Getpid(), time.Now(), Live},
		{"own, age unknown", os.Getpid(), time.Time{}, Live},
		{"made an hour before the process began", os.Getpid(), time.Now().Add(-time.Hour - processAgeOf(t)), Dead},
		{"no such process", deadPID(t), time.Now(), Dead},
	} {
		if got := p.byPID(c.pid, c.madeAt); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}

	base := t.TempDir()
	dir := filepath.Join(base, fmt.Sprintf("%s%d-x", CgroupPrefix, deadPID(t)))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	bystander := exec.Command("sleep", "1000")
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = bystander.Process.Kill()
		_ = bystander.Wait() // reports the kill
	}()
	child, err := OwnerOf(bystander.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	child.StartTicks-- // the recorded child had the number before
	data, err := json.Marshal(child)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".nexus-child-1.json"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := endProcess(context.Background(), child); err != nil {
		t.Error(err)
	}
	p.temps = []string{base}
	if found := p.listProcesses([]Leftover{{Kind: LeftoverTemp, Name: dir, Live: Dead}}); len(found) > 0 {
		t.Errorf("found %v", found)
	}
	if stat, err := readProcStat(hostRoot(), bystander.Process.Pid); err != nil || stat.ended() {
		t.Errorf("a bystander with a reused pid was ended: %v", err)
	}
}

func processAgeOf(t *testing.T) time.Duration {
	t.Helper()
	stat, err := readProcStat(hostRoot(), os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	return processAge(stat)
}
