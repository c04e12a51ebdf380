// Package bpftest runs workloads of a known size in child processes, each in a
// cgroup of its own, for the tests of the probes. A test binary is its own
// workload: Main tells the child from the test.
package bpftest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const workloadEnv = "NEXUS_BPF_WORKLOAD"

// Workload prepares itself from one number and returns what to do when told to.
type Workload func(n int) (step func() error, err error)

// Main runs the tests, or, in a child, the named workload. Call it from TestMain.
func Main(m *testing.M, workloads map[string]Workload) {
	spec := os.Getenv(workloadEnv)
	if spec == "" {
		if code, ran := inTracefs(); ran {
			os.Exit(code)
		}
		os.Exit(m.Run())
	}
	if err := serve(spec, workloads); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serve answers each line on standard input with one run of the step. Nothing
// but the step may disturb the counts: no garbage collection, one thread.
func serve(spec string, workloads map[string]Workload) error {
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	name, size, _ := strings.Cut(spec, ":")
	n, err := strconv.Atoi(size)
	if err != nil {
		return fmt.Errorf("workload %s: %w", spec, err)
	}
	step, err := workloads[name](n)
	if err != nil {
		return fmt.Errorf("prepare workload %s: %w", spec, err)
	}
	var line [1]byte
	for {
		if _, err := unix.Write(1, []byte(".")); err != nil {
			return err
		}
		if got, err := unix.Read(0, line[:]); got == 0 || err != nil {
			return err
		}
		if err := step(); err != nil {
			return fmt.Errorf("run workload %s: %w", spec, err)
		}
	}
}

// Process is a child in a cgroup of its own.
type Process struct {
	CgroupID uint64
	PID      int
	t        testing.TB
	stdin    io.WriteCloser
	stdout   *bufio.Reader
}

var cgroups atomic.Uint64

// Start runs the named workload with size n in a new cgroup and waits until it
// is ready. It skips the test where no cgroup can be made. Everything goes when
// the test ends.
func Start(t testing.TB, name string, n int) *Process {
	t.Helper()
	dir := newCgroup(t)
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("open the cgroup: %v", err)
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		t.Fatalf("stat the cgroup: %v", err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s:%d", workloadEnv, name, n), "GOMAXPROCS=1",
		"GODEBUG=asyncpreemptoff=1") // its signals would restart system calls
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd, Pdeathsig: syscall.SIGKILL}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start workload %s: %v", name, err)
	}
	t.Cleanup(func() {
		stdin.Close() // the child ends by itself
		if err := cmd.Wait(); err != nil {
			t.Errorf("workload %s: %v", name, err)
		}
	})
	p := &Process{CgroupID: stat.Ino, PID: cmd.Process.Pid, t: t, stdin: stdin, stdout: bufio.NewReader(stdout)}
	p.await()
	return p
}

// Step lets the child do its work once and waits until it has.
func (p *Process) Step() {
	p.t.Helper()
	if _, err := p.stdin.Write([]byte{'\n'}); err != nil {
		p.t.Fatalf("tell the workload to run: %v", err)
	}
	p.await()
}

func (p *Process) await() {
	p.t.Helper()
	if _, err := p.stdout.ReadByte(); err != nil {
		p.t.Fatalf("wait for the workload: %v", err)
	}
	for !p.waits() {
		runtime.Gosched()
	}
}

// waits tells whether the child has come to its read of standard input, so that
// nothing of one step falls into the next measurement. See proc_pid_syscall(5);
// a kernel without that file leaves it open.
func (p *Process) waits() bool {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", p.PID))
	if err != nil || len(files) == 0 {
		return true
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if errors.Is(err, os.ErrPermission) || strings.HasPrefix(string(raw), fmt.Sprintf("%d 0x0 ", unix.SYS_READ)) {
			return true
		}
	}
	return false
}

func newCgroup(t testing.TB) string {
	t.Helper()
	root := cgroup2Mount(t)
	dir := filepath.Join(root, fmt.Sprintf("nexus-bpftest-%d-%d", os.Getpid(), cgroups.Add(1)))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skipf("no cgroup can be made here: %v", err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Errorf("remove the cgroup: %v", err)
		}
	})
	return dir
}

func cgroup2Mount(t testing.TB) string {
	t.Helper()
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		mount, fs, found := strings.Cut(line, " - ")
		if fields := strings.Fields(mount); found && strings.HasPrefix(fs, "cgroup2 ") && len(fields) > 4 {
			return fields[4]
		}
	}
	t.Skip("no cgroup2 file system is mounted")
	return ""
}

// Usage is what the kernel's own accounting says of a process.
type Usage struct {
	Voluntary, Involuntary uint64 // context switches
	Faults                 uint64 // minor and major
}

// Usage reads the accounts of all threads.
func (p *Process) Usage() Usage {
	p.t.Helper()
	var u Usage
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.PID))
	if err != nil || len(tasks) == 0 {
		p.t.Fatalf("list the threads of %d: %v", p.PID, err)
	}
	for _, status := range tasks {
		u.Voluntary += statusField(p.t, status, "voluntary_ctxt_switches:")
		u.Involuntary += statusField(p.t, status, "nonvoluntary_ctxt_switches:")
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID))
	if err != nil {
		p.t.Fatal(err)
	}
	// proc_pid_stat(5): fields 10 and 12, counted behind the name, field 2.
	fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	for _, i := range []int{10, 12} {
		n, err := strconv.ParseUint(fields[i-3], 10, 64)
		if err != nil {
			p.t.Fatalf("parse /proc/%d/stat: %v", p.PID, err)
		}
		u.Faults += n
	}
	return u
}

func statusField(t testing.TB, path, name string) uint64 {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if rest, found := strings.CutPrefix(line, name); found {
			n, err := strconv.ParseUint(strings.TrimSpace(rest), 10, 64)
			if err != nil {
				t.Fatalf("parse %s: %v", path, err)
			}
			return n
		}
	}
	t.Fatalf("%s has no field %s", path, name)
	return 0
}
