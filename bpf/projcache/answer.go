package projcache

import (
	"encoding/binary"
)

// View is what Answer needs to know of the cache: the snapshot version of a
// tenant (0: none) and the body of a key.
type View interface {
	Snapshot(tenant uint32) uint32
	Get(dst []byte, key Key) ([]byte, bool)
}

// Sizes and numbers of the protocols: IEEE 802.1Q, RFC 768, 791, 8200 and package
// frame.
const (
	macLen          = 6
	ethernetLen     = 14
	vlanLen         = 4
	vlanTagsMax     = 2
	ipv4Len         = 20
	ipv6Len         = 40
	udpLen          = 8
	frameLen        = 24
	getLen          = frameLen + 4
	typeIPv4        = 0x0800
	typeIPv6        = 0x86dd
	typeVLAN        = 0x8100
	typeQinQ        = 0x88a8
	protocolUDP     = 17
	answerTTL       = 64
	frameVersion    = 1
	kindGet         = 5
	kindReply       = 0x80
	flagUnchecked   = 1
	dontFragment    = 0x4000
	anyFragment     = 0x3fff
	frameLengthRest = frameLen - 4
)

// Answer is what the program must do with a packet, said in plain Go: the oracle
// of its tests. For any outcome but Answered the packet goes to the stack as it is.
func Answer(packet []byte, service Service, view View) ([]byte, Outcome) {
	network, kind, outcome := linkLayer(packet)
	if outcome != Answered {
		return nil, outcome
	}
	ip := packet[network:]
	var headerLen int
	switch kind {
	case typeIPv4:
		ip, outcome = ipv4Packet(ip)
		headerLen = ipv4Len
	case typeIPv6:
		ip, outcome = ipv6Packet(ip)
		headerLen = ipv6Len
	default:
		return nil, NotIP
	}
	if outcome != Answered {
		return nil, outcome
	}
	if outcome = checkUDP(ip, headerLen, service); outcome != Answered {
		return nil, outcome
	}
	request := ip[headerLen+udpLen:]
	if !isGet(request) {
		return nil, OtherFrame
	}
	key := Key{Tenant: binary.LittleEndian.Uint32(request[16:]), Projection: binary.LittleEndian.Uint32(request[frameLen:])}
	if key.Snapshot = view.Snapshot(key.Tenant); key.Snapshot == 0 {
		return nil, TenantUnknown
	}
	body, found := view.Get(nil, key)
	if !found {
		return nil, Missed
	}
	if network+headerLen+udpLen+frameLen+len(body) > len(packet) {
		return nil, TooLarge
	}
	return compose(packet[:network], ip[:headerLen], ip[headerLen:], body), Answered
}

func linkLayer(packet []byte) (network int, kind uint16, outcome Outcome) {
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
	return network, kind, Answered
}

// ipv4Packet cuts what is behind the packet off: short ones are padded.
func ipv4Packet(b []byte) ([]byte, Outcome) {
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
	return b[:length], Answered
}

func ipv6Packet(b []byte) ([]byte, Outcome) {
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
	return b[:ipv6Len+length], Answered
}

func checkUDP(ip []byte, headerLen int, service Service) Outcome {
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
	if sumOf(ip[:ipv4Len]) != 0xffff {
		return BadChecksum
	}
	src, dst := [4]byte(ip[12:16]), [4]byte(ip[16:20])
	if nobody(src) || nobody(dst) || service.IPv4.Is4() && service.IPv4.As4() != dst {
		return BadAddress
	}
	return Answered
}

func nobody(ipv4 [4]byte) bool { return ipv4[0] == 0 || ipv4[0] == 127 || ipv4[0] >= 224 }

func checkIPv6Addresses(src, dst [16]byte, service Service) Outcome {
	if src[0] == 0xff || dst[0] == 0xff || [12]byte(src[:]) == ([12]byte{}) {
		return BadAddress
	}
	if service.IPv6.Is6() && service.IPv6.As16() != dst {
		return BadAddress
	}
	return Answered
}

func isGet(b []byte) bool {
	return len(b) >= getLen && int64(binary.LittleEndian.Uint32(b)) == int64(len(b)-4) &&
		[4]byte(b[4:8]) == [4]byte{frameVersion, kindGet, 0, flagUnchecked} && binary.LittleEndian.Uint32(b[20:]) == 0
}

// compose builds the answer from the request's link and IP headers and from the
// datagram behind them.
func compose(link, ip, datagram, body []byte) []byte {
	length := udpLen + frameLen + len(body)
	out := append([]byte(nil), link...)
	copy(out, link[macLen:2*macLen])
	copy(out[macLen:], link[:macLen])
	header := append([]byte(nil), ip...)
	var pseudo []byte
	if len(ip) == ipv6Len {
		copy(header[8:], ip[24:40])
		copy(header[24:], ip[8:24])
		binary.BigEndian.PutUint16(header[4:], uint16(length))
		header[7] = answerTTL
		pseudo = append(pseudo, header[8:40]...)
	} else {
		copy(header[12:], ip[16:20])
		copy(header[16:], ip[12:16])
		binary.BigEndian.PutUint16(header[2:], uint16(ipv4Len+length))
		binary.BigEndian.PutUint16(header[4:], 0)
		binary.BigEndian.PutUint16(header[6:], dontFragment)
		header[8] = answerTTL
		binary.BigEndian.PutUint16(header[10:], 0)
		binary.NativeEndian.PutUint16(header[10:], ^sumOf(header))
		pseudo = append(pseudo, header[12:20]...)
	}
	udp := make([]byte, 0, length)
	udp = append(udp, datagram[2], datagram[3], datagram[0], datagram[1])
	udp = binary.BigEndian.AppendUint16(udp, uint16(length))
	udp = append(udp, 0, 0)
	udp = append(udp, datagram[udpLen:udpLen+frameLen]...)
	udp = append(udp, body...)
	binary.LittleEndian.PutUint32(udp[udpLen:], uint32(frameLengthRest+len(body)))
	udp[udpLen+5] = kindGet | kindReply
	pseudo = append(pseudo, 0, protocolUDP)
	pseudo = binary.BigEndian.AppendUint16(pseudo, uint16(length))
	check := ^sumOf(append(pseudo, udp...))
	if check == 0 {
		check = 0xffff
	}
	binary.NativeEndian.PutUint16(udp[6:], check)
	return append(append(out, header...), udp...)
}
