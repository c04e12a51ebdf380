package projcache

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"

	"github.com/nexuscore-labs/nexus/frame"
)

// The packets of the tests are put together here, byte by byte and without the
// package's own code.

var (
	serverMAC = [6]byte{2, 0, 0, 0, 0, 1}
	clientMAC = [6]byte{2, 0, 0, 0, 0, 2}
	server4   = netip.MustParseAddr("10.77.0.1")
	client4   = netip.MustParseAddr("10.77.0.2")
	server6   = netip.MustParseAddr("fd77::1")
	client6   = netip.MustParseAddr("fd77::2")
	service   = Service{Port: 7010, IPv4: server4, IPv6: server6}
)

// recipe is a packet in words.
type recipe struct {
	tags     []uint16 // VLAN ids
	v6       bool
	tenant   uint32
	proj     uint32
	body     int // length of the frame's body
	flags    uint8
	port     uint16 // of the client
	padding  int    // behind the IP packet
	ttl      uint8
	id       uint16
	fragment uint16
}

func (r recipe) packet() []byte {
	get := frame.Append(nil, frame.Frame{
		Kind: frame.KindGet, Flags: r.flags, Tenant: r.tenant, ID: 0x1122334455667788,
		Body: append(binary.LittleEndian.AppendUint32(nil, r.proj), make([]byte, max(0, r.body-4))...),
	})
	b := append(append([]byte(nil), serverMAC[:]...), clientMAC[:]...)
	for i, tag := range r.tags {
		kind := uint16(0x8100)
		if i+1 < len(r.tags) {
			kind = 0x88a8
		}
		b = binary.BigEndian.AppendUint16(b, kind)
		b = binary.BigEndian.AppendUint16(b, tag)
	}
	udpLen := uint16(8 + len(get))
	if r.v6 {
		b = binary.BigEndian.AppendUint16(b, 0x86dd)
		b = append(b, 0x60, 1, 2, 3)
		b = binary.BigEndian.AppendUint16(b, udpLen)
		b = append(b, 17, r.ttl)
		b = append(append(b, client6.AsSlice()...), server6.AsSlice()...)
	} else {
		b = binary.BigEndian.AppendUint16(b, 0x0800)
		at := len(b)
		b = append(b, 0x45, 0x10)
		b = binary.BigEndian.AppendUint16(b, 20+udpLen)
		b = binary.BigEndian.AppendUint16(b, r.id)
		b = binary.BigEndian.AppendUint16(b, r.fragment)
		b = append(b, r.ttl, 17, 0, 0)
		b = append(append(b, client4.AsSlice()...), server4.AsSlice()...)
		binary.BigEndian.PutUint16(b[at+10:], ^slowSum(b[at:at+20]))
	}
	b = binary.BigEndian.AppendUint16(b, r.port)
	b = binary.BigEndian.AppendUint16(b, service.Port)
	b = binary.BigEndian.AppendUint16(b, udpLen)
	b = binary.BigEndian.AppendUint16(b, 0xbeef) // whatever a card was to fill in
	b = append(b, get...)
	return append(b, make([]byte, r.padding)...)
}

func plain(tenant, proj uint32) recipe {
	return recipe{tenant: tenant, proj: proj, body: 300, flags: frame.FlagUnchecked, port: 40000, ttl: 9, id: 77, fragment: 0x4000}
}

// slowSum is RFC 1071's sum in network order, word by word.
func slowSum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		word := uint32(b[i]) << 8
		if i+1 < len(b) {
			word |= uint32(b[i+1])
		}
		if sum += word; sum > 0xffff {
			sum = sum&0xffff + 1
		}
	}
	return uint16(sum)
}

// draw makes a packet that is answered as a rule, and often damaged in one place.
func draw(random *rand.Rand) []byte {
	r := plain(random.Uint32N(6), random.Uint32N(8))
	for range random.IntN(5) - 1 {
		r.tags = append(r.tags, uint16(random.Uint32()))
	}
	r.v6 = random.IntN(3) == 0
	r.port = uint16(1 + random.IntN(65535))
	r.ttl, r.id = uint8(random.Uint32()), uint16(random.Uint32())
	r.padding = max(0, random.IntN(80)-40)
	r.body = []int{4, 60, 300, 1450, 3350}[random.IntN(5)]
	b := r.packet()
	switch random.IntN(4) {
	case 0:
		b[random.IntN(len(b))] ^= 1 << random.IntN(8)
	case 1:
		b[random.IntN(len(b))] = byte(random.Uint32())
		b = b[:14+random.IntN(len(b)-13)]
	}
	return b
}
