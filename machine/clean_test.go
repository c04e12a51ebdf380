package machine

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// These tests start real runs: processes of this test binary that make every
// kind of thing a run makes. Some are killed with SIGKILL, at the end or half
// way, one lives on; Clean must remove all of the first and nothing of the last.

// runSteps are what the helper makes, in order.
var runSteps = []string{"folder", "half owner", "owner", "child", "cgroup", "member", "nested", "mount", "netns", "link", "pin"}

const helperVariable = "NEXUS_MACHINE_TEST_RUN"

// helperSpec tells a helper where to make its things.
type helperSpec struct {
	Temp, Cgroup, Netns, Pins string
	Steps                     int
	Deaf                      bool // the child ignores SIGTERM
}

// TestRunHelper is no test: it is a run, in a process of its own.
func TestRunHelper(t *testing.T) {
	text := os.Getenv(helperVariable)
	if text == "" {
		return
	}
	var spec helperSpec
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	h := helper{spec: spec}
	for _, step := range runSteps[:spec.Steps] {
		if err := h.make(step); err != nil {
			fmt.Printf("failed %s: %v\n", step, err)
			os.Exit(1)
		}
	}
	fmt.Println("ready", strings.Join(h.children, " "))
	select {}
}

type helper struct {
	spec     helperSpec
	dir      string
	cgroup   string
	children []string
}

func (h *helper) make(step string) error {
	switch step {
	case "folder":
		dir, err := os.MkdirTemp(h.spec.Temp, fmt.Sprintf("%s%d-*", CgroupPrefix, os.Getpid()))
		h.dir = dir
		return err
	case "half owner":
		return os.WriteFile(filepath.Join(h.dir, ownerTemp), []byte(`{"pid":`), 0o644)
	case "owner":
		return WriteOwner(h.dir)
	case "child": // in no cgroup of the run
		script := `echo up; exec sleep 1000`
		if h.spec.Deaf {
			script = `trap "" TERM; echo up; while :; do sleep 1; done`
		}
		cmd := exec.Command("sh", "-c", script)
		if err := startAndHear(cmd); err != nil {
			return err
		}
		h.children = append(h.children, strconv.Itoa(cmd.Process.Pid))
		return RecordChild(h.dir, cmd.Process.Pid)
	case "cgroup":
		h.cgroup = filepath.Join(h.spec.Cgroup, LeftoverName())
		return os.Mkdir(h.cgroup, 0o755)
	case "member":
		return h.startIn(h.cgroup)
	case "nested":
		nested := filepath.Join(h.cgroup, "of-the-contender")
		if err := os.Mkdir(nested, 0o755); err != nil {
			return err
		}
		return h.startIn(nested)
	case "mount":
		point := filepath.Join(h.dir, "disk full")
		if err := os.Mkdir(point, 0o755); err != nil {
			return err
		}
		return unix.Mount("none", point, "tmpfs", 0, "size=64k")
	case "netns":
		return makeNetns(filepath.Join(h.spec.Netns, LeftoverName()))
	case "link":
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: LinkName("a")}, PeerName: LinkName("b")})
	case "pin":
		return os.WriteFile(filepath.Join(h.spec.Pins, LeftoverName()), nil, 0o600)
	}
	return errors.New("no such step")
}

// startAndHear starts cmd and waits for its first line.
func startAndHear(cmd *exec.Cmd) error {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	_, err = bufio.NewReader(out).ReadString('\n')
	return err
}

func (h *helper) startIn(cgroup string) error {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		return err
	}
	h.children = append(h.children, strconv.Itoa(cmd.Process.Pid))
	return os.WriteFile(filepath.Join(cgroup, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0)
}

// makeNetns names a new network namespace as ip-netns(8) does. It leaves the
// calling thread in it, so it comes back at once.
func makeNetns(name string) error {
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer own.Close()
	if err := os.WriteFile(name, nil, 0o444); err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	err = unix.Mount("/proc/thread-self/ns/net", name, "none", unix.MS_BIND, "")
	return errors.Join(err, unix.Setns(int(own.Fd()), unix.CLONE_NEWNET))
}

// ground is a set of folders and a cgroup for one test, so that what other
// processes of this machine own is out of sight.
func ground(t *testing.T) (places, helperSpec) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making cgroups, mounts and namespaces needs root")
	}
	mounts, err := readMounts(hostRoot())
	if err != nil {
		t.Fatal(err)
	}
	_, point := cgroupModeOf(mounts)
	if point == "" {
		t.Skip("no cgroup2 hierarchy is mounted")
	}
	cgroup, err := os.MkdirTemp(point, "machine-test-*")
	if err != nil {
		t.Skipf("cgroup2 is not writable: %v", err)
	}
	base := t.TempDir()
	spec := helperSpec{Temp: filepath.Join(base, "temp"), Cgroup: cgroup, Netns: filepath.Join(base, "netns"), Pins: filepath.Join(base, "pins"), Steps: len(runSteps)}
	for _, dir := range []string{spec.Temp, spec.Netns, spec.Pins} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	p := places{cgroup: cgroup, temps: []string{spec.Temp}, pins: spec.Pins, netns: spec.Netns, links: true, processes: hostRoot()}
	t.Cleanup(func() {
		if err := os.Remove(cgroup); err != nil {
			t.Errorf("the test left something in its cgroup: %v", err)
		}
	})
	return p, spec
}

// startRun starts a helper, waits until it has made its things and returns it
// with the pids of its children.
func startRun(t *testing.T, spec helperSpec) (*exec.Cmd, []int) {
	t.Helper()
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestRunHelper$")
	cmd.Env = append(os.Environ(), helperVariable+"="+string(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "ready") {
		t.Fatalf("the run did not start: %q, %v", line, err)
	}
	var children []int
	for _, field := range strings.Fields(line)[1:] {
		pid, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		children = append(children, pid)
	}
	return cmd, children
}

func kill9(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the run ended otherwise: %v", err)
	}
}

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
