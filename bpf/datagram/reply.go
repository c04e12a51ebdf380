package datagram

import (
	"encoding/binary"
	"math/bits"
)

const (
	replyTTL     = 64
	dontFragment = 0x4000
)

// ReplyLen is the length of a reply to d with a payload of n bytes.
func ReplyLen(d Datagram, n int) int { return len(d.Link) + len(d.IP) + udpLen + n }

// Reply makes the packet that goes back to d's sender: dst has ReplyLen bytes, the
// last of which are the payload already. dst must not overlap d.
func Reply(dst []byte, d Datagram) {
	copy(dst, d.Link)
	copy(dst, d.Link[macLen:2*macLen])
	copy(dst[macLen:], d.Link[:macLen])
	ip := dst[len(d.Link):]
	udp := ip[len(d.IP):]
	length := uint16(len(udp))
	copy(ip, d.IP)
	copy(udp, d.UDP[2:4])
	copy(udp[2:], d.UDP[:2])
	binary.BigEndian.PutUint16(udp[4:], length)
	udp[6], udp[7] = 0, 0
	// The pseudo-header's sum; that of its addresses is the same both ways.
	var pseudo [4]byte
	pseudo[1] = protocolUDP
	binary.BigEndian.PutUint16(pseudo[2:], length)
	sum := uint64(Sum(pseudo[:])) + uint64(Sum(udp))
	if len(d.IP) == ipv6Len {
		copy(ip[8:], d.IP[24:40])
		copy(ip[24:], d.IP[8:24])
		binary.BigEndian.PutUint16(ip[4:], length)
		ip[7] = replyTTL
		sum += uint64(Sum(ip[8:40]))
	} else {
		copy(ip[12:], d.IP[16:20])
		copy(ip[16:], d.IP[12:16])
		binary.BigEndian.PutUint16(ip[2:], ipv4Len+length)
		binary.BigEndian.PutUint16(ip[4:], 0)
		binary.BigEndian.PutUint16(ip[6:], dontFragment)
		ip[8] = replyTTL
		ip[10], ip[11] = 0, 0
		binary.NativeEndian.PutUint16(ip[10:], ^Sum(ip[:ipv4Len]))
		sum += uint64(Sum(ip[12:20]))
	}
	check := ^fold(sum)
	if check == 0 {
		check = 0xffff
	}
	binary.NativeEndian.PutUint16(udp[6:], check)
}

// Sum is the 16-bit one's complement sum of RFC 1071 in the order of memory,
// not inverted.
func Sum(b []byte) uint16 {
	var sum, carry uint64
	for ; len(b) >= 8; b = b[8:] {
		sum, carry = bits.Add64(sum, binary.NativeEndian.Uint64(b), carry)
	}
	var rest [8]byte
	copy(rest[:], b)
	sum, carry = bits.Add64(sum, binary.NativeEndian.Uint64(rest[:]), carry)
	return fold(sum&0xffffffff + sum>>32 + carry)
}

func fold(sum uint64) uint16 {
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}
