package tenantroute

import (
	"encoding/binary"
	"fmt"

	"github.com/nexuscore-labs/nexus/bpf/datagram"
)

// Outcome is what became of a packet. All but HandedOver go to the stack.
type Outcome int

// In the order of tenantroute.h.
const (
	HandedOver Outcome = iota
	NotIP
	Truncated
	IPOptions
	Fragment
	NotUDP
	OtherPort
	BadAddress
	BadLength
	BadChecksum
	OtherFrame // not a query that carries its own checksum
	TooLong    // longer than PacketLenMax, or in several buffers
	Unrouted   // a tenant without an instance
	NoRoom     // the ring is full, or there is no socket or metadata
	Outcomes   // how many there are
)

func (o Outcome) String() string {
	names := [Outcomes]string{
		"handed over", "not IP", "truncated", "IP options", "fragment", "not UDP", "other port", "bad address",
		"bad length", "bad checksum", "other frame", "too long", "unrouted", "no room",
	}
	if o < 0 || o >= Outcomes {
		return fmt.Sprintf("outcome %d", int(o))
	}
	return names[o]
}

// outcomeOf a packet that holds no datagram for the service.
var outcomeOf = [datagram.Refusals]Outcome{
	datagram.NotIP: NotIP, datagram.Truncated: Truncated, datagram.IPOptions: IPOptions, datagram.Fragment: Fragment,
	datagram.NotUDP: NotUDP, datagram.OtherPort: OtherPort, datagram.BadAddress: BadAddress,
	datagram.BadLength: BadLength, datagram.BadChecksum: BadChecksum,
}

// Of package frame.
const (
	frameLen     = 24
	frameVersion = 1
	kindQuery    = 6
)

// Decide is what a program must do with a packet, said in plain Go: the oracle of
// its tests.
func Decide(packet []byte, service datagram.Service, slotOf func(tenant uint32) (uint32, bool)) (slot uint32, outcome Outcome) {
	d, refusal := datagram.Parse(packet, service)
	if refusal != datagram.Taken {
		return 0, outcomeOf[refusal]
	}
	f := d.Payload
	if len(f) < frameLen || int64(binary.LittleEndian.Uint32(f)) != int64(len(f)-4) ||
		[4]byte(f[4:8]) != [4]byte{frameVersion, kindQuery} {
		return 0, OtherFrame
	}
	if len(packet) > PacketLenMax {
		return 0, TooLong
	}
	slot, routed := slotOf(binary.LittleEndian.Uint32(f[16:]))
	if !routed {
		return 0, Unrouted
	}
	return slot, HandedOver
}
