package guest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Init is the machine's first process. It prepares the machine, starts RunCommand,
// buries orphans until that ends, and switches the machine off. It returns only
// where it must not run: elsewhere than as process 1.
func Init() error {
	if os.Getpid() != 1 {
		return errors.New(InitCommand + " is the first process of a virtual machine; see nexus vm")
	}
	if err := boot(); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", InitCommand, err)
	}
	unix.Sync()
	// The runner asked the machine monitor to end where a machine would restart.
	return unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}

func boot() error {
	if err := mountAll(systemMounts); err != nil {
		return err
	}
	if err := delegateControllers(); err != nil {
		return err
	}
	runner := exec.Command(BinaryPath, RunCommand)
	runner.Env = environment()
	runner.Stdout, runner.Stderr = os.Stderr, os.Stderr
	if err := runner.Start(); err != nil {
		return fmt.Errorf("start %s: %w", RunCommand, err)
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait for processes: %w", err)
		}
		if pid == runner.Process.Pid {
			return nil
		}
	}
}

func environment() []string {
	return []string{"PATH=/bin:/sbin", "HOME=/root", "TERM=linux", "USER=root", "TMPDIR=" + TempDir}
}

// mountPoint is one file system of the machine.
type mountPoint struct {
	kind, point, options string
	optional             bool // not every kernel has it
}

var systemMounts = []mountPoint{
	{kind: "proc", point: "/proc"},
	{kind: "sysfs", point: "/sys"},
	{kind: "devtmpfs", point: "/dev"},
	{kind: "tmpfs", point: "/run", options: "mode=755"},
	{kind: "tmpfs", point: "/tmp", options: "mode=1777"},
	{kind: "devpts", point: "/dev/pts"},
	{kind: "tmpfs", point: "/dev/shm", options: "mode=1777"},
	{kind: "cgroup2", point: "/sys/fs/cgroup"},
	{kind: "bpf", point: "/sys/fs/bpf"},
	{kind: "tracefs", point: "/sys/kernel/tracing"},
	{kind: "debugfs", point: "/sys/kernel/debug", optional: true},
	{kind: "securityfs", point: "/sys/kernel/security", optional: true},
}

func mountAll(mounts []mountPoint) error {
	for _, m := range mounts {
		if err := os.MkdirAll(m.point, 0o755); err != nil {
			return fmt.Errorf("make %s: %w", m.point, err)
		}
		err := unix.Mount(m.kind, m.point, m.kind, 0, m.options)
		if err != nil && !m.optional && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s on %s: %w", m.kind, m.point, err)
		}
	}
	return nil
}

// delegateControllers gives child cgroups all controllers, as an init system does.
// It also makes perf events countable by cgroup: their controller is implicit,
// and child cgroups get it no earlier than the first change of the list.
func delegateControllers() error {
	const root = "/sys/fs/cgroup/"
	controllers, err := os.ReadFile(root + "cgroup.controllers")
	if err != nil {
		return fmt.Errorf("list cgroup controllers: %w", err)
	}
	for _, name := range strings.Fields(string(controllers)) {
		if err := os.WriteFile(root+"cgroup.subtree_control", []byte("+"+name), 0); err != nil {
			return fmt.Errorf("delegate the cgroup controller %s: %w", name, err)
		}
	}
	return nil
}

// loadModules loads in the given order; what is there already is fine.
func loadModules(paths []string) error {
	for _, path := range paths {
		file, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("load a module: %w", err)
		}
		err = unix.FinitModule(int(file.Fd()), "", 0)
		file.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load module %s: %w", filepath.Base(path), err)
		}
	}
	return nil
}

// openPort finds the port to the host by its name in sysfs.
func openPort() (*os.File, error) {
	names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err == nil && strings.TrimSpace(string(text)) == PortName {
			return os.OpenFile("/dev/"+filepath.Base(filepath.Dir(name)), os.O_RDWR, 0)
		}
	}
	return nil, errors.New("this machine has no port to its host")
}

// firstDisk is the only disk that the runner gives.
const firstDisk = "/dev/vda"

func mountDisk() error {
	if err := os.MkdirAll(DataDir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(firstDisk, DataDir, "ext4", 0, ""); err != nil {
		return fmt.Errorf("mount the disk %s: %w", firstDisk, err)
	}
	return nil
}

func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find the loopback link: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set the loopback link up: %w", err)
	}
	return nil
}

// shell gives the console to a person until the shell ends.
func shell() error {
	if out, err := exec.Command(BusyboxPath, "--install", "-s", "/bin").CombinedOutput(); err != nil {
		return fmt.Errorf("install the shell's commands: %w: %s", err, out)
	}
	console, err := os.OpenFile("/dev/ttyS0", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open the console: %w", err)
	}
	defer console.Close()
	fmt.Fprintln(console, "nexus vm: a shell in the machine. exit (or Ctrl-A X) ends it, the disk is", DataDir)
	sh := exec.Command(BusyboxPath, "sh", "-l")
	sh.Env, sh.Dir = append(environment(), "PS1=vm# "), "/"
	sh.Stdin, sh.Stdout, sh.Stderr = console, console, console
	sh.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	_ = sh.Run() // its last command's status is the person's business
	return nil
}
