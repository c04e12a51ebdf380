// Package datagram finds the UDP datagram for a service in a packet, or says why
// there is none. It is in plain Go what headers/datagram.bpf.h is for programs in
// the driver: the oracle of their tests, and the parser of packets that a program
// hands over.
package datagram

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
)

// Sizes and numbers of the protocols: IEEE 802.1Q, RFC 768, 791 and 8200.
const (
	macLen      = 6
	ethernetLen = 14
	vlanLen     = 4
	vlanTagsMax = 2
	ipv4Len     = 20
	ipv6Len     = 40
	udpLen      = 8
	typeIPv4    = 0x0800
	typeIPv6    = 0x86dd
	typeVLAN    = 0x8100
	typeQinQ    = 0x88a8
	protocolUDP = 17
	anyFragment = 0x3fff
)

// Service is what requests must be addressed to.
type Service struct {
	Port uint16
	// IPv4 and IPv6 are the host's addresses; an invalid one lets any through.
	IPv4, IPv6 netip.Addr
}

// Set puts the service into a program's variables.
func (s Service) Set(spec *ebpf.CollectionSpec) error {
	var ipv4 [4]byte
	var ipv6 [16]byte
	if s.IPv4.Is4() {
		ipv4 = s.IPv4.As4()
	}
	if s.IPv6.Is6() {
		ipv6 = s.IPv6.As16()
	}
	words := [4]uint32{}
	for i := range words {
		words[i] = binary.NativeEndian.Uint32(ipv6[4*i:])
	}
	for name, value := range map[string]any{
		"service_port": s.Port, "service_ipv4": binary.NativeEndian.Uint32(ipv4[:]), "service_ipv6": words,
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

// Refusal is why a packet holds no datagram for a service.
type Refusal int

const (
	Taken       Refusal = iota // it holds one
	NotIP                      // other EtherType, or more than two VLAN tags
	Truncated                  // shorter than its headers say
	IPOptions                  // IPv4 options
	Fragment                   // IPv4 fragment
	NotUDP                     // other protocol, or IPv6 extension headers
	OtherPort                  // not for this service
	BadAddress                 // not addressed to this host alone, or from nobody
	BadLength                  // lengths of IP and UDP disagree
	BadChecksum                // IPv4 header
	Refusals                   // how many there are
)

// Datagram is a packet taken apart. All parts alias it.
type Datagram struct {
	Link    []byte // Ethernet header with its tags
	IP      []byte // header
	UDP     []byte // header
	Payload []byte
}

// Parse takes the packet apart.
func Parse(packet []byte, service Service) (Datagram, Refusal) {
	network, kind, refusal := linkLayer(packet)
	if refusal != Taken {
		return Datagram{}, refusal
	}
	ip := packet[network:]
	var headerLen int
	switch kind {
	case typeIPv4:
		ip, refusal = ipv4Packet(ip)
		headerLen = ipv4Len
	case typeIPv6:
		ip, refusal = ipv6Packet(ip)
		headerLen = ipv6Len
	default:
		return Datagram{}, NotIP
	}
	if refusal != Taken {
		return Datagram{}, refusal
	}
	if refusal = checkUDP(ip, headerLen, service); refusal != Taken {
		return Datagram{}, refusal
	}
	return Datagram{
		Link: packet[:network], IP: ip[:headerLen],
		UDP: ip[headerLen : headerLen+udpLen], Payload: ip[headerLen+udpLen:],
	}, Taken
}

func linkLayer(packet []byte) (network int, kind uint16, refusal Refusal) {
	if len(packet) < ethernetLen {
		return 0, 0, Truncated
	}
	if (packet[0]|packet[macLen])&1 == 1 {
		return 0, 0, BadAddress
	}
	network, kind = ethernetLen, binary.BigEndian.Uint16(packet[12:])
	for range vlanTagsMax {
		if kind != typeVLAN && kind != typeQinQ {
			break
		}
		if len(packet) < network+vlanLen {
			return 0, 0, Truncated
		}
		kind = binary.BigEndian.Uint16(packet[network+2:])
		network += vlanLen
	}
	return network, kind, Taken
}

// ipv4Packet cuts what is behind the packet off: short ones are padded.
func ipv4Packet(b []byte) ([]byte, Refusal) {
	switch {
	case len(b) < ipv4Len:
		return nil, Truncated
	case b[0]>>4 != 4:
		return nil, NotIP
	case b[0] != 0x45:
		return nil, IPOptions
	case binary.BigEndian.Uint16(b[6:])&anyFragment != 0:
		return nil, Fragment
	case b[9] != protocolUDP:
		return nil, NotUDP
	}
	length := int(binary.BigEndian.Uint16(b[2:]))
	if length < ipv4Len+udpLen {
		return nil, BadLength
	}
	if length > len(b) {
		return nil, Truncated
	}
	return b[:length], Taken
}

func ipv6Packet(b []byte) ([]byte, Refusal) {
	switch {
	case len(b) < ipv6Len:
		return nil, Truncated
	case b[0]>>4 != 6:
		return nil, NotIP
	case b[6] != protocolUDP:
		return nil, NotUDP
	}
	length := int(binary.BigEndian.Uint16(b[4:]))
	if length < udpLen {
		return nil, BadLength
	}
	if ipv6Len+length > len(b) {
		return nil, Truncated
	}
	return b[:ipv6Len+length], Taken
}

func checkUDP(ip []byte, headerLen int, service Service) Refusal {
	udp := ip[headerLen:]
	switch {
	case binary.BigEndian.Uint16(udp[2:]) != service.Port:
		return OtherPort
	case binary.BigEndian.Uint16(udp) == 0:
		return BadAddress
	case int(binary.BigEndian.Uint16(udp[4:])) != len(udp):
		return BadLength
	}
	if headerLen == ipv6Len {
		return checkIPv6Addresses([16]byte(ip[8:24]), [16]byte(ip[24:40]), service)
	}
	if Sum(ip[:ipv4Len]) != 0xffff {
		return BadChecksum
	}
	src, dst := [4]byte(ip[12:16]), [4]byte(ip[16:20])
	if nobody(src) || nobody(dst) || service.IPv4.Is4() && service.IPv4.As4() != dst {
		return BadAddress
	}
	return Taken
}

func nobody(ipv4 [4]byte) bool { return ipv4[0] == 0 || ipv4[0] == 127 || ipv4[0] >= 224 }

func checkIPv6Addresses(src, dst [16]byte, service Service) Refusal {
	if src[0] == 0xff || dst[0] == 0xff || [12]byte(src[:]) == ([12]byte{}) {
		return BadAddress
	}
	if service.IPv6.Is6() && service.IPv6.As16() != dst {
		return BadAddress
	}
	return Taken
}
