package support

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// xdpPass is XDP_PASS of linux/bpf.h.
const xdpPass = 2

func xdp(mode link.XDPAttachFlags) func(*sandbox) error {
	return func(box *sandbox) error {
		if box.vethErr != nil {
			return box.vethErr
		}
		spec := &ebpf.ProgramSpec{Type: ebpf.XDP, Instructions: minimal(xdpPass)}
		return withProgram(spec, func(p *ebpf.Program) (link.Link, error) {
			return link.AttachXDP(link.XDPOptions{Program: p, Interface: box.veth, Flags: mode})
		})
	}
}

func afXDP(*sandbox) error {
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open an AF_XDP socket: %w", err)
	}
	return unix.Close(fd)
}

// clsact attaches by netlink, as tc(8) does; deleting the veth detaches.
func clsact(box *sandbox) error {
	if box.vethErr != nil {
		return box.vethErr
	}
	program, err := load(&ebpf.ProgramSpec{Type: ebpf.SchedCLS})
	if err != nil {
		return err
	}
	defer program.Close()
	qdisc := &netlink.GenericQdisc{QdiscType: "clsact", QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: box.veth, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
	if err := netlink.QdiscAdd(qdisc); err != nil {
		return fmt.Errorf("add a clsact qdisc: %w", err)
	}
	filter := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: box.veth, Parent: netlink.HANDLE_MIN_INGRESS,
			Handle: 1, Protocol: unix.ETH_P_ALL, Priority: 1},
		Fd: program.FD(), Name: "nexus_probe", DirectAction: true}
	if err := netlink.FilterAdd(filter); err != nil {
		return errors.Join(fmt.Errorf("add a BPF filter: %w", err), netlink.QdiscDel(qdisc))
	}
	if err := netlink.QdiscDel(qdisc); err != nil {
		return fmt.Errorf("delete the clsact qdisc: %w", err)
	}
	return nil
}

func tcx(box *sandbox) error {
	if box.vethErr != nil {
		return box.vethErr
	}
	spec := &ebpf.ProgramSpec{Type: ebpf.SchedCLS, AttachType: ebpf.AttachTCXIngress}
	return withProgram(spec, func(p *ebpf.Program) (link.Link, error) {
		return link.AttachTCX(link.TCXOptions{Program: p, Attach: ebpf.AttachTCXIngress, Interface: box.veth})
	})
}

func skLookup(*sandbox) error {
	netns, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the network namespace: %w", err)
	}
	defer unix.Close(netns)
	const skPass = 1 // SK_PASS of linux/bpf.h
	spec := &ebpf.ProgramSpec{Type: ebpf.SkLookup, AttachType: ebpf.AttachSkLookup, Instructions: minimal(skPass)}
	return withProgram(spec, func(p *ebpf.Program) (link.Link, error) { return link.AttachNetNs(netns, p) })
}

func skMsg(*sandbox) error {
	sockets, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.SockMap, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		return fmt.Errorf("make a sockmap: %w", err)
	}
	defer sockets.Close()
	program, err := load(&ebpf.ProgramSpec{Type: ebpf.SkMsg, AttachType: ebpf.AttachSkMsgVerdict})
	if err != nil {
		return err
	}
	defer program.Close()
	opts := link.RawAttachProgramOptions{Target: sockets.FD(), Program: program, Attach: ebpf.AttachSkMsgVerdict}
	if err := link.RawAttachProgram(opts); err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	err = link.RawDetachProgram(link.RawDetachProgramOptions{
		Target: sockets.FD(), Program: program, Attach: ebpf.AttachSkMsgVerdict})
	if err != nil {
		return fmt.Errorf("detach: %w", err)
	}
	return nil
}

func cgroupHook(kind ebpf.ProgramType, attach ebpf.AttachType) func(*sandbox) error {
	return func(box *sandbox) error {
		if box.groupErr != nil {
			return box.groupErr
		}
		spec := &ebpf.ProgramSpec{Type: kind, AttachType: attach, Instructions: minimal(1)}
		return withProgram(spec, func(p *ebpf.Program) (link.Link, error) {
			return link.AttachCgroup(link.CgroupOptions{Path: box.cgroup, Attach: attach, Program: p})
		})
	}
}

func skReuseport(*sandbox) error {
	// A program of this type has to return a verdict of the sk_action kind.
	return onSocket(&ebpf.ProgramSpec{Type: ebpf.SkReuseport, AttachType: ebpf.AttachSkReuseportSelect, Instructions: minimal(1)},
		func(fd, program int) error {
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
				return fmt.Errorf("set SO_REUSEPORT: %w", err)
			}
			return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_EBPF, program)
		})
}

func socketFilter(*sandbox) error {
	spec := &ebpf.ProgramSpec{Type: ebpf.SocketFilter,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()}}
	return onSocket(spec, func(fd, program int) error {
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, program)
	})
}

// onSocket attaches to a UDP socket that was never bound; closing it detaches.
func onSocket(spec *ebpf.ProgramSpec, attach func(fd, program int) error) error {
	program, err := load(spec)
	if err != nil {
		return err
	}
	defer program.Close()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	defer unix.Close(fd)
	if err := attach(fd, program.FD()); err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	return nil
}
