package support

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

func tracepoint(*sandbox) error {
	return withProgram(&ebpf.ProgramSpec{Type: ebpf.TracePoint}, func(p *ebpf.Program) (link.Link, error) {
		return link.Tracepoint("task", "task_newtask", p, nil)
	})
}

func rawTracepoint(*sandbox) error {
	return withProgram(&ebpf.ProgramSpec{Type: ebpf.RawTracepoint}, func(p *ebpf.Program) (link.Link, error) {
		return link.AttachRawTracepoint(link.RawTracepointOptions{Name: "task_newtask", Program: p})
	})
}

func tracing(kind ebpf.AttachType, target string) func(*sandbox) error {
	return func(*sandbox) error {
		spec := &ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: kind, AttachTo: target}
		return withProgram(spec, func(p *ebpf.Program) (link.Link, error) {
			return link.AttachTracing(link.TracingOptions{Program: p, AttachType: kind})
		})
	}
}

// lsm attaches a hook that allows everything, for a moment.
func lsm(*sandbox) error {
	spec := &ebpf.ProgramSpec{Type: ebpf.LSM, AttachType: ebpf.AttachLSMMac, AttachTo: "file_mprotect"}
	return withProgram(spec, func(p *ebpf.Program) (link.Link, error) {
		return link.AttachLSM(link.LSMOptions{Program: p})
	})
}

func kprobe(*sandbox) error {
	return withProgram(&ebpf.ProgramSpec{Type: ebpf.Kprobe}, func(p *ebpf.Program) (link.Link, error) {
		return link.Kprobe("kernel_clone", p, nil)
	})
}

// uprobe attaches to the first byte of this program's own code.
func uprobe(*sandbox) error {
	self, err := link.OpenExecutable("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("open this program: %w", err)
	}
	offset, err := entryOffset("/proc/self/exe")
	if err != nil {
		return err
	}
	return withProgram(&ebpf.ProgramSpec{Type: ebpf.Kprobe}, func(p *ebpf.Program) (link.Link, error) {
		return self.Uprobe("entry", p, &link.UprobeOptions{Address: offset})
	})
}

func iterator(*sandbox) error {
	spec := &ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceIter, AttachTo: "task"}
	program, err := load(spec)
	if err != nil {
		return err
	}
	defer program.Close()
	tasks, err := link.AttachIter(link.IterOptions{Program: program})
	if err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	defer tasks.Close()
	reader, err := tasks.Open()
	if err != nil {
		return fmt.Errorf("open the iterator: %w", err)
	}
	defer reader.Close()
	if _, err := io.Copy(io.Discard, reader); err != nil {
		return fmt.Errorf("run the iterator: %w", err)
	}
	return nil
}

func perfEvent(*sandbox) error {
	program, err := load(&ebpf.ProgramSpec{Type: ebpf.PerfEvent})
	if err != nil {
		return err
	}
	defer program.Close()
	clock := &unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK,
		Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{})), Sample: 1e9, Bits: unix.PerfBitDisabled}
	fd, err := unix.PerfEventOpen(clock, 0, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("open a software event: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_SET_BPF, program.FD()); err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	return nil
}

func syscallProgram(*sandbox) error {
	spec := &ebpf.ProgramSpec{Type: ebpf.Syscall, Flags: unix.BPF_F_SLEEPABLE, Instructions: minimal(7)}
	program, err := load(spec)
	if err != nil {
		return err
	}
	defer program.Close()
	value, err := program.Run(&ebpf.RunOptions{})
	if err != nil {
		return fmt.Errorf("run: %w", err)
	}
	if value != 7 {
		return fmt.Errorf("run: returned %d, want 7", value)
	}
	return nil
}

// makeCgroup makes an empty cgroup in the v2 hierarchy; see proc_pid_mountinfo(5).
func makeCgroup() (string, error) {
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("list mounts: %w", err)
	}
	for line := range strings.Lines(string(raw)) {
		mount, fs, found := strings.Cut(line, " - ")
		fields := strings.Fields(mount)
		if !found || !strings.HasPrefix(fs, "cgroup2 ") || len(fields) < 5 {
			continue
		}
		dir := filepath.Join(fields[4], fmt.Sprintf("nexus-support-%d", os.Getpid()))
		if err := os.Mkdir(dir, 0o755); err != nil {
			return "", fmt.Errorf("make a cgroup: %w", err)
		}
		return dir, nil
	}
	return "", errors.New("no cgroup2 file system is mounted")
}
