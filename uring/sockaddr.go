package uring

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sockaddr is a socket address in the kernel's form.
type Sockaddr struct {
	raw unix.RawSockaddrAny
	len uint32
}

// InetSockaddr returns the kernel's form of an IP address and port.
func InetSockaddr(ap netip.AddrPort) *Sockaddr {
	s := &Sockaddr{}
	addr := ap.Addr().Unmap()
	if addr.Is4() {
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(&s.raw))
		in.Family, in.Addr = unix.AF_INET, addr.As4()
		binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&in.Port))[:], ap.Port())
		s.len = unix.SizeofSockaddrInet4
		return s
	}
	in := (*unix.RawSockaddrInet6)(unsafe.Pointer(&s.raw))
	in.Family, in.Addr = unix.AF_INET6, addr.As16()
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&in.Port))[:], ap.Port())
	s.len = unix.SizeofSockaddrInet6
	return s
}

// UnixSockaddr returns the kernel's form of a socket path.
func UnixSockaddr(path string) (*Sockaddr, error) {
	s := &Sockaddr{}
	un := (*unix.RawSockaddrUnix)(unsafe.Pointer(&s.raw))
	if len(path) == 0 || len(path) >= len(un.Path) {
		return nil, fmt.Errorf("uring: socket path of %d bytes: want 1 to %d: %q", len(path), len(un.Path)-1, path)
	}
	un.Family = unix.AF_UNIX
	for i := range len(path) {
		un.Path[i] = int8(path[i])
	}
	s.len = uint32(2 + len(path) + 1)
	return s, nil
}

// Family is the address family, such as unix.AF_INET.
func (s *Sockaddr) Family() int { return int(s.raw.Addr.Family) }

// Pointer gives the address and its length for a unix.Msghdr.
func (s *Sockaddr) Pointer() (*byte, uint32) { return (*byte)(unsafe.Pointer(&s.raw)), s.len }
