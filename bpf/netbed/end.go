package netbed

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"time"

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

// bringUp brings the end's interfaces up.
func (e *End) bringUp() error {
	return e.Run(func() error {
		link, err := netlink.LinkByName(e.Interface)
		if err != nil {
			return fmt.Errorf("find the interface: %w", err)
		}
		e.Index = link.Attrs().Index
		if err := plainPackets(e.Interface); err != nil {
			return err
		}
		// What a sender hands over in runs (UDP_SEGMENT) crosses packet by packet, as
		// it would arrive from a wire.
		if err := netlink.LinkSetGSOMaxSegs(link, 1); err != nil {
			return fmt.Errorf("keep runs of packets apart: %w", err)
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

// address gives the end its addresses. Its interface has a carrier by now, so that
// they are in use at once.
func (e *End) address(addresses [2]netip.Addr) error {
	return e.Run(func() error {
		link, err := netlink.LinkByIndex(e.Index)
		if err != nil {
			return fmt.Errorf("find the interface: %w", err)
		}
		for i, a := range addresses {
			bits := []int{Subnet.Bits(), Subnet6.Bits()}[i]
			address := &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(bits, a.BitLen())}}
			if a.Is6() {
				address.Flags = unix.IFA_F_NODAD
			}
			if err := netlink.AddrAdd(link, address); err != nil {
				return fmt.Errorf("add address %s: %w", a, err)
			}
			if err := awaitLocal(a); err != nil {
				return err
			}
		}
		return nil
	})
}

// awaitLocal waits until packets for an address of the calling thread's namespace
// are taken in, which for IPv6 is some time after it was added.
func awaitLocal(a netip.Addr) error {
	for deadline := time.Now().Add(carrierWait); ; time.Sleep(time.Millisecond) {
		routes, err := netlink.RouteGet(a.AsSlice())
		if err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("address %s is not in use after %s: %w", a, carrierWait, err)
		}
	}
}

// carrierWait bounds the wait for an interface to find that its peer is up, which
// the kernel does by and by; until then it drops what is sent.
const carrierWait = 5 * time.Second

func (e *End) awaitCarrier() error {
	return e.Run(func() error {
		for deadline := time.Now().Add(carrierWait); ; time.Sleep(time.Millisecond) {
			link, err := netlink.LinkByIndex(e.Index)
			if err != nil {
				return fmt.Errorf("look at the %s's interface: %w", e.side, err)
			}
			if link.Attrs().OperState == netlink.OperUp {
				return nil
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("the %s's interface is %s after %s", e.side, link.Attrs().OperState, carrierWait)
			}
		}
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
