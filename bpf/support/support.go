// Package support finds out which kinds of BPF programs this kernel loads and
// attaches, by doing it: nothing is guessed from the version or the configuration.
package support

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Result is one kind that was tried. Err is nil if it loaded and attached.
type Result struct {
	Name string
	Err  error
}

// trial is one kind. Everything that it makes is gone when it returns.
type trial struct {
	name string
	try  func(*sandbox) error
}

func trials() []trial {
	return []trial{
		{"xdp native (veth)", xdp(link.XDPDriverMode)},
		{"xdp generic", xdp(link.XDPGenericMode)},
		{"af_xdp socket", afXDP},
		{"tc (clsact)", clsact},
		{"tcx", tcx},
		{"sk_lookup", skLookup},
		{"sk_msg", skMsg},
		{"sockops", cgroupHook(ebpf.SockOps, ebpf.AttachCGroupSockOps)},
		{"cgroup_skb", cgroupHook(ebpf.CGroupSKB, ebpf.AttachCGroupInetIngress)},
		{"sk_reuseport", skReuseport},
		{"socket filter", socketFilter},
		{"tracepoint", tracepoint},
		{"raw_tracepoint", rawTracepoint},
		{"tp_btf", tracing(ebpf.AttachTraceRawTp, "task_newtask")},
		{"fentry", tracing(ebpf.AttachTraceFEntry, "bpf_fentry_test1")},
		{"fexit", tracing(ebpf.AttachTraceFExit, "bpf_fentry_test1")},
		{"lsm", lsm},
		{"kprobe", kprobe},
		{"uprobe", uprobe},
		{"iterator", iterator},
		{"perf_event", perfEvent},
		{"syscall", syscallProgram},
	}
}

// Probe tries every kind, in an order that never changes. It needs root to say
// anything but EPERM. Interfaces are made in a network namespace of its own and
// the cgroup under the v2 mount; both go before it returns.
func Probe() []Result {
	results := make(chan []Result)
	go func() {
		// The thread stays in the new namespace, so it must end with this
		// goroutine: it is never unlocked.
		runtime.LockOSThread()
		results <- probe()
	}()
	return <-results
}

func probe() []Result {
	box, boxErr := newSandbox()
	var out []Result
	for _, t := range trials() {
		err := boxErr
		if err == nil {
			err = t.try(box)
		}
		out = append(out, Result{t.name, err})
	}
	if box != nil {
		if err := box.close(); err != nil {
			out = append(out, Result{"clean up after probing", err})
		}
	}
	return out
}

// sandbox is where the trials attach.
type sandbox struct {
	veth     int    // interface index of one end; 0 if there is none
	vethErr  error  // why
	cgroup   string // empty if there is none
	groupErr error
}

// newSandbox moves the calling thread into a new network namespace.
func newSandbox() (*sandbox, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	box := &sandbox{}
	box.veth, box.vethErr = makeVeth()
	box.cgroup, box.groupErr = makeCgroup()
	return box, nil
}

func makeVeth() (int, error) {
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "nexus0"}, PeerName: "nexus1"}
	if err := netlink.LinkAdd(pair); err != nil {
		return 0, fmt.Errorf("make a veth pair: %w", err)
	}
	made, err := netlink.LinkByName("nexus0")
	if err != nil {
		return 0, fmt.Errorf("find the veth: %w", err)
	}
	if err := netlink.LinkSetUp(made); err != nil {
		return 0, fmt.Errorf("set the veth up: %w", err)
	}
	return made.Attrs().Index, nil
}

func (b *sandbox) close() error {
	var errs []error
	if b.veth != 0 {
		if made, err := netlink.LinkByIndex(b.veth); err == nil {
			errs = append(errs, netlink.LinkDel(made))
		}
	}
	if b.cgroup != "" {
		errs = append(errs, os.Remove(b.cgroup))
	}
	return errors.Join(errs...)
}

// minimal is the shortest program: it returns the given value.
func minimal(value int32) asm.Instructions {
	return asm.Instructions{asm.Mov.Imm(asm.R0, value), asm.Return()}
}

func load(spec *ebpf.ProgramSpec) (*ebpf.Program, error) {
	spec.Name = "nexus_probe"
	spec.License = "Dual BSD/GPL"
	if spec.Instructions == nil {
		spec.Instructions = minimal(0)
	}
	program, err := ebpf.NewProgram(spec)
	if errors.Is(err, unix.EPERM) {
		err = unix.EPERM // the library's advice on memory limits is for kernels before 5.11
	}
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	return program, nil
}

// withProgram loads the program, lets attach try its own, and undoes both.
func withProgram(spec *ebpf.ProgramSpec, attach func(*ebpf.Program) (link.Link, error)) error {
	program, err := load(spec)
	if err != nil {
		return err
	}
	defer program.Close()
	attached, err := attach(program)
	if err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	if err := attached.Close(); err != nil {
		return fmt.Errorf("detach: %w", err)
	}
	return nil
}
