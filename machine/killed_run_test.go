package machine

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

// A run for the tests of Clean: a process of this test binary that makes every
// kind of thing a run makes, says so, and waits to be killed.

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
		pid, err := h.start()
		if err != nil {
			return err
		}
		return RecordChild(h.dir, pid)
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

// start starts a child that runs until it is killed.
func (h *helper) start() (int, error) {
	script := `echo up; exec sleep 1000`
	if h.spec.Deaf {
		script = `trap "" TERM; echo up; while :; do sleep 1; done`
	}
	cmd := exec.Command("sh", "-c", script)
	if err := startAndHear(cmd); err != nil {
		return 0, err
	}
	h.children = append(h.children, strconv.Itoa(cmd.Process.Pid))
	return cmd.Process.Pid, nil
}

func (h *helper) startIn(cgroup string) error {
	pid, err := h.start()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(cgroup, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
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
	t.Cleanup(func() { // after every run of this test was killed
		if _, err := p.clean(context.Background(), CleanOptions{}); err != nil {
			t.Error(err)
		}
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
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // most tests have waited already
	})
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
