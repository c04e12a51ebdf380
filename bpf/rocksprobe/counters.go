package rocksprobe

import "fmt"

// Counters are what the kernel counted since Open.
type Counters struct {
	Calls      uint64 `json:"calls"`      // writes that returned
	Committed  uint64 `json:"committed"`  // of these, with an OK status
	Refused    uint64 `json:"refused"`    // of these, with another: conflicts, I/O errors
	Records    uint64 `json:"records"`    // changes in committed batches
	Unrouted   uint64 `json:"unrouted"`   // of these, without a route
	LostFull   uint64 `json:"lost_full"`  // of these, that found the ring full
	LostCalls  uint64 `json:"lost_calls"` // writes that were seen at one end only
	Unreadable uint64 `json:"unreadable"` // batches or values that could not be read
	Cut        uint64 `json:"cut"`        // changes whose value is longer than a ring record
	// Census, 0 unless Options.Census.
	Puts      uint64 `json:"puts"`
	Commits   uint64 `json:"commits"`
	Rollbacks uint64 `json:"rollbacks"`
}

// Lost is how much is missing from what was published: more than 0 asks for a
// resync.
func (c Counters) Lost() uint64 { return c.LostFull + c.LostCalls + c.Unreadable }

// Counters reads them from the kernel.
func (p *Probe) Counters() (Counters, error) {
	var c Counters
	for i, field := range []*uint64{&c.Calls, &c.Committed, &c.Refused, &c.Records, &c.Unrouted, &c.LostFull, &c.LostCalls,
		&c.Unreadable, &c.Cut, &c.Puts, &c.Commits, &c.Rollbacks} {
		var perCPU []uint64
		if err := p.collection.Maps["counters"].Lookup(uint32(i), &perCPU); err != nil {
			return c, fmt.Errorf("read counter %d of the RocksDB probe: %w", i, err)
		}
		for _, n := range perCPU {
			*field += n
		}
	}
	return c, nil
}

// stream is what was read of one CPU's changes.
type stream struct {
	read uint64
	next uint64 // one more than the largest number seen
}

// note takes a change into the account of its stream. Numbers may come out of
// order, when one thread was preempted by another between number and ring.
func (p *Probe) note(c *Change) {
	p.read++
	if int(c.CPU) >= len(p.streams) {
		return
	}
	s := &p.streams[c.CPU]
	s.read++
	s.next = max(s.next, c.Stream+1)
}

// Missing returns how many changes the streams' numbers show as lost before the
// last one read. It agrees with Counters.LostFull when all that was published
// has been read and something was read after the last loss.
func (p *Probe) Missing() uint64 {
	var missing uint64
	for _, s := range p.streams {
		missing += s.next - s.read
	}
	return missing
}
