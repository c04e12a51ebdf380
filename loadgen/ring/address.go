package ring

import (
	"fmt"
	"net/netip"

	"github.com/nexuscore-labs/nexus/uring"
	"golang.org/x/sys/unix"
)

// Address is where sockets connect to, checked and in the kernel's form.
type Address struct {
	network  string
	text     string
	kind     int
	sockaddr *uring.Sockaddr
}

// Resolve parses an address literal: no name is ever looked up. It accepts
// loopback addresses, unix paths, and private addresses inside allowed, the
// subnet of a network namespace that the caller made.
func Resolve(network, address string, allowed netip.Prefix) (Address, error) {
	a := Address{network: network, text: address, kind: unix.SOCK_STREAM}
	switch network {
	case "unix":
		sockaddr, err := uring.UnixSockaddr(address)
		a.sockaddr = sockaddr
		return a, err
	case "udp":
		a.kind = unix.SOCK_DGRAM
	case "tcp":
	default:
		return a, fmt.Errorf("unknown network %q: want tcp, udp or unix", network)
	}
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return a, fmt.Errorf("target address %q: want an IP literal with a port such as 127.0.0.1:7007: %w", address, err)
	}
	if ap.Port() == 0 {
		return a, fmt.Errorf("target address %q: port 0", address)
	}
	ip := ap.Addr().Unmap()
	private := ip.IsPrivate() || ip.IsLinkLocalUnicast()
	if !ip.IsLoopback() && (!private || !allowed.IsValid() || !allowed.Contains(ip)) {
		return a, fmt.Errorf("target address %q is neither loopback nor in a private subnet of the project's own (allowed: %q): load goes nowhere else", address, allowed)
	}
	a.sockaddr = uring.InetSockaddr(ap)
	return a, nil
}

// Datagram says whether each write is a message of its own.
func (a Address) Datagram() bool { return a.kind == unix.SOCK_DGRAM }

func (a Address) String() string { return a.network + " " + a.text }

func (a Address) socket() (int, error) {
	fd, err := unix.Socket(a.sockaddr.Family(), a.kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open a socket for %s: %w", a, err)
	}
	if a.Datagram() {
		growReceiveBuffer(fd)
	}
	if a.network == "tcp" {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
			_ = unix.Close(fd)
			return -1, fmt.Errorf("set TCP_NODELAY: %w", err)
		}
	}
	return fd, nil
}
