package day10

import (
	"encoding/binary"
	"math/rand/v2"

	"github.com/nexuscore-labs/nexus/frame"
)

// getPacket is a request for a projection as a card receives it: Ethernet, IPv4, UDP
// and a frame whose body is bodyLen bytes.
func getPacket(tenant, number uint32, bodyLen int) []byte {
	body := make([]byte, max(4, bodyLen))
	binary.LittleEndian.PutUint32(body, number)
	get := frame.Append(nil, frame.Frame{Kind: frame.KindGet, Flags: frame.FlagUnchecked, Tenant: tenant, ID: 1, Body: body})
	b := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0}
	at := len(b)
	b = append(b, 0x45, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(20+8+len(get)))
	b = append(b, 0, 1, 0x40, 0, 64, 17, 0, 0)
	for _, a := range testAddresses {
		b = append(b, a.AsSlice()...)
	}
	binary.BigEndian.PutUint16(b[at+10:], headerCheck(b[at:at+20]))
	b = binary.BigEndian.AppendUint16(b, 40_000)
	b = binary.BigEndian.AppendUint16(b, portOfTests)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(get)))
	b = append(b, 0, 0)
	return append(b, get...)
}

// headerCheck is the checksum of an IPv4 header whose own is 0, RFC 1071.
func headerCheck(header []byte) uint16 {
	var sum uint32
	for i := 0; i < len(header); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(header[i:]))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// hostilePacket damages a request in one way or another, or leaves it as it is.
func hostilePacket(random *rand.Rand) []byte {
	b := getPacket(random.Uint32N(6), random.Uint32N(8), []int{4, 60, 300, 1400}[random.IntN(4)])
	for range random.IntN(4) { // VLAN tags, up to one more than the program takes
		b = append(b[:12:12], append([]byte{0x81, 0, byte(random.Uint32()), byte(random.Uint32())}, b[12:]...)...)
	}
	switch random.IntN(5) {
	case 0:
		b[random.IntN(len(b))] ^= 1 << random.IntN(8)
	case 1:
		b[random.IntN(len(b))] = byte(random.Uint32())
	case 2:
		b = b[:14+random.IntN(len(b)-13)]
	case 3: // a length that lies
		at := []int{14 + 2, 14 + 20 + 4, 14 + 28}[random.IntN(3)]
		if at+1 < len(b) {
			binary.BigEndian.PutUint16(b[at:], uint16(random.Uint32()))
		}
	}
	return b
}
