package netbed

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// onOwnThread runs work on a thread that is thrown away afterwards, so that
// namespaces which work enters stay behind.
func onOwnThread(work func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() { // the first thread can't be thrown away
			defer runtime.UnlockOSThread()
			done <- onOwnThread(work)
			return
		}
		done <- work()
	}()
	return <-done
}

// configure brings the end's interfaces up with their addresses.
func (e *End) configure(addresses [2]netip.Addr) error {
	return e.Run(func() error {
		link, err := netlink.LinkByName(e.Interface)
		if err != nil {
			return fmt.Errorf("find the interface: %w", err)
		}
		e.Index = link.Attrs().Index
		for i, a := range addresses {
			bits := []int{Subnet.Bits(), Subnet6.Bits()}[i]
			address := &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(bits, a.BitLen())}}
			if a.Is6() {
				address.Flags = unix.IFA_F_NODAD
			}
			if err := netlink.AddrAdd(link, address); err != nil {
				return fmt.Errorf("add address %s: %w", a, err)
			}
		}
		if err := plainPackets(e.Interface); err != nil {
			return err
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return fmt.Errorf("bring the interface up: %w", err)
		}
		loopback, err := netlink.LinkByName("lo")
		if err != nil {
			return fmt.Errorf("find the loopback interface: %w", err)
		}
		return netlink.LinkSetUp(loopback)
	})
}

// knowNeighbour saves the end from asking for its neighbour's address, so that no
// request waits for the answer, and an end that a program serves need not give one.
func (e *End) knowNeighbour(addresses [2]netip.Addr, mac net.HardwareAddr) error {
	return e.Run(func() error {
		for _, a := range addresses {
			n := &netlink.Neigh{LinkIndex: e.Index, State: netlink.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: mac}
			if err := netlink.NeighSet(n); err != nil {
				return fmt.Errorf("neighbour %s: %w", a, err)
			}
		}
		return nil
	})
}
