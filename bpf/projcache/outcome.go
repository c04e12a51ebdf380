package projcache

import "fmt"

// Outcome is what became of a packet.
type Outcome int

// In the order of projcache.h. Every outcome but Answered leaves the packet to
// the stack as it came.
const (
	Answered      Outcome = iota
	Missed                // not in the cache: user space answers
	TenantUnknown         // beyond the table of tenants, or without a snapshot
	Changing              // changed under every read
	TooLarge              // the answer is longer than the request's packet
	NotIP                 // other EtherType, or more than two VLAN tags
	Truncated             // shorter than its headers say, or in several buffers
	IPOptions             // IPv4 options
	Fragment              // IPv4 fragment
	NotUDP                // other protocol, or IPv6 extension headers
	OtherPort             // not for this service
	BadAddress            // not addressed to this host alone, or from nobody
	BadLength             // lengths of IP, UDP and frame disagree
	BadChecksum           // IPv4 header
	OtherFrame            // not a well-formed unchecked Get
	readAgain             // no outcome: reads that were repeated
	torn                  // no outcome: torn answers that a rehearsal saw
	outcomes
)

func (o Outcome) String() string {
	names := [outcomes]string{
		"answered", "missed", "tenant unknown", "changing", "too large", "not IP", "truncated", "IP options", "fragment",
		"not UDP", "other port", "bad address", "bad length", "bad checksum", "other frame", "read again", "torn",
	}
	if o < 0 || o >= outcomes {
		return fmt.Sprintf("outcome %d", int(o))
	}
	return names[o]
}

// Counts are packets by outcome, since the maps were made, over all CPUs.
type Counts struct {
	Packets   map[Outcome]uint64 // those that are not 0
	ReadAgain uint64             // reads of values that changed meanwhile
	Torn      uint64             // torn answers that rehearsals saw
}

// Counts reads the program's counters.
func (c *Cache) Counts() (Counts, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return Counts{}, ErrClosed
	}
	var perCPU [][outcomes]uint64
	if err := c.maps[mapOutcomes].Lookup(uint32(0), &perCPU); err != nil {
		return Counts{}, fmt.Errorf("projcache: read the counters: %w", err)
	}
	sum := Counts{Packets: map[Outcome]uint64{}}
	for _, one := range perCPU {
		for o, n := range one[:readAgain] {
			if n > 0 {
				sum.Packets[Outcome(o)] += n
			}
		}
		sum.ReadAgain += one[readAgain]
		sum.Torn += one[torn]
	}
	return sum, nil
}
