package projcache

import (
	"encoding/binary"

	"github.com/nexuscore-labs/nexus/bpf/datagram"
)

// View is what Answer needs to know of the cache: the snapshot version of a
// tenant (0: none) and the body of a key.
type View interface {
	Snapshot(tenant uint32) uint32
	Get(dst []byte, key Key) ([]byte, bool)
}

// Of package frame.
const (
	frameLen        = 24
	getLen          = frameLen + 4
	frameVersion    = 1
	kindGet         = 5
	kindReply       = 0x80
	flagUnchecked   = 1
	frameLengthRest = frameLen - 4
)

// outcomeOf a packet that holds no datagram for the service.
var outcomeOf = [datagram.Refusals]Outcome{
	datagram.NotIP: NotIP, datagram.Truncated: Truncated, datagram.IPOptions: IPOptions, datagram.Fragment: Fragment,
	datagram.NotUDP: NotUDP, datagram.OtherPort: OtherPort, datagram.BadAddress: BadAddress,
	datagram.BadLength: BadLength, datagram.BadChecksum: BadChecksum,
}

// Answer is what the program must do with a packet, said in plain Go: the oracle
// of its tests. For any outcome but Answered the packet goes to the stack as it is.
func Answer(packet []byte, service Service, view View) ([]byte, Outcome) {
	d, refusal := datagram.Parse(packet, service)
	if refusal != datagram.Taken {
		return nil, outcomeOf[refusal]
	}
	request := d.Payload
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
	if datagram.ReplyLen(d, frameLen+len(body)) > len(packet) {
		return nil, TooLarge
	}
	return compose(d, body), Answered
}

func isGet(b []byte) bool {
	return len(b) >= getLen && int64(binary.LittleEndian.Uint32(b)) == int64(len(b)-4) &&
		[4]byte(b[4:8]) == [4]byte{frameVersion, kindGet, 0, flagUnchecked} && binary.LittleEndian.Uint32(b[20:]) == 0
}

// compose builds the answer to a request: its frame header with a body behind it.
func compose(d datagram.Datagram, body []byte) []byte {
	out := make([]byte, datagram.ReplyLen(d, frameLen+len(body)))
	answer := out[len(out)-frameLen-len(body):]
	copy(answer, d.Payload[:frameLen])
	copy(answer[frameLen:], body)
	binary.LittleEndian.PutUint32(answer, uint32(frameLengthRest+len(body)))
	answer[5] = kindGet | kindReply
	datagram.Reply(out, d)
	return out
}
