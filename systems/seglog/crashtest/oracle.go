package crashtest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/nexuscore-labs/nexus/systems/seglog"
)

// oracle is the dumb one: lists of payloads.
type oracle struct {
	tenants map[uint32]*history
}

type history struct {
	acked [][]byte            // acked[i] is sequence i+1; nil if acknowledged before this oracle's life
	maybe map[uint64][][]byte // submitted under a sequence and not acknowledged
	low   uint64              // highest low watermark that retention was allowed to reach
}

func newOracle() *oracle { return &oracle{tenants: map[uint32]*history{}} }

func (o *oracle) of(tenant uint32) *history {
	h := o.tenants[tenant]
	if h == nil {
		h = &history{maybe: map[uint64][][]byte{}, low: 1}
		o.tenants[tenant] = h
	}
	return h
}

// submitted notes a record that was handed to the log.
func (o *oracle) submitted(tenant uint32, seq uint64, payload []byte) {
	h := o.of(tenant)
	h.maybe[seq] = append(h.maybe[seq], payload)
}

// acknowledged notes that the log said it is durable. It reports an
// acknowledgement out of order.
func (o *oracle) acknowledged(tenant uint32, seq uint64, payload []byte) error {
	h := o.of(tenant)
	if seq != uint64(len(h.acked))+1 {
		return fmt.Errorf("tenant %d: acknowledged sequence %d after %d", tenant, seq, len(h.acked))
	}
	h.acked = append(h.acked, payload)
	delete(h.maybe, seq)
	return nil
}

// reader is a recovered log.
type reader interface {
	Range(tenant uint32) (first, last uint64)
	read(tenant uint32, seq uint64) ([]byte, error)
}

// engineReader reads through an Engine.
type engineReader struct{ *seglog.Engine }

func (e engineReader) read(tenant uint32, seq uint64) ([]byte, error) {
	at, err := e.Find(tenant, seq)
	if err != nil {
		return nil, err
	}
	defer at.Release()
	return at.Read(nil)
}

// check compares the recovered log with what must and may be there. What it
// finds unacknowledged becomes part of the history: it is durable now.
func (o *oracle) check(l reader, c *Counts, where string) {
	for tenant, h := range o.tenants {
		first, last := l.Range(tenant)
		if first > h.low {
			c.Lost += first - h.low
			c.note("%s: tenant %d: sequences %d to %d are gone, retention allowed %d", where, tenant, h.low, first-1, h.low)
		}
		for seq := first; seq <= max(last, uint64(len(h.acked))); seq++ {
			got, err := l.read(tenant, seq)
			if seq <= uint64(len(h.acked)) {
				o.mustHave(c, where, tenant, seq, h.acked[seq-1], got, err)
				continue
			}
			o.mayHave(c, where, tenant, seq, h, got, err)
		}
	}
}

func (o *oracle) mustHave(c *Counts, where string, tenant uint32, seq uint64, want, got []byte, err error) {
	c.Checked++
	switch {
	case err != nil:
		c.Lost++
		c.note("%s: tenant %d sequence %d was acknowledged: %v", where, tenant, seq, err)
	case !bytes.Equal(got, want):
		c.Wrong++
		c.note("%s: tenant %d sequence %d: %d bytes, not the %d that were acknowledged", where, tenant, seq, len(got), len(want))
	}
}

func (o *oracle) mayHave(c *Counts, where string, tenant uint32, seq uint64, h *history, got []byte, err error) {
	if err != nil {
		c.Wrong++
		c.note("%s: tenant %d sequence %d is in range: %v", where, tenant, seq, err)
		return
	}
	for _, candidate := range h.maybe[seq] {
		if bytes.Equal(got, candidate) {
			c.Unacked++
			h.acked = append(h.acked, candidate)
			delete(h.maybe, seq)
			return
		}
	}
	c.Phantom++
	h.acked = append(h.acked, got)
	c.note("%s: tenant %d sequence %d was never submitted", where, tenant, seq)
}

// refused counts a log that doesn't open although nothing but crashes happened
// to it: everything acknowledged is out of reach.
func (o *oracle) refused(c *Counts, where string, err error) {
	n := uint64(0)
	for _, h := range o.tenants {
		n += uint64(len(h.acked)) - min(h.low-1, uint64(len(h.acked)))
	}
	c.Checked += n
	c.Lost += max(n, 1)
	c.note("%s: recovery refuses: %v", where, err)
}

// checkScan compares a read-only scan with the history, which must be exact.
func (o *oracle) checkScan(dev seglog.Device, c *Counts, where string) {
	next := map[uint32]uint64{}
	err := seglog.ScanDevice(dev, func(tenant uint32, seq uint64, payload []byte) error {
		h := o.of(tenant)
		if n := next[tenant]; n != 0 && seq != n || seq > uint64(len(h.acked)) || !bytes.Equal(h.acked[seq-1], payload) {
			return fmt.Errorf("tenant %d sequence %d after %d differs", tenant, seq, n)
		}
		next[tenant] = seq + 1
		return nil
	})
	if err != nil {
		c.Wrong++
		c.note("%s: scan: %v", where, err)
	}
	for tenant, h := range o.tenants {
		if n := next[tenant]; n != 0 && n != uint64(len(h.acked))+1 {
			c.Lost++
			c.note("%s: scan ends at sequence %d of tenant %d, want %d", where, n-1, tenant, len(h.acked))
		}
	}
}

// payload is unique for its number, and big enough to recognise.
func payload(number uint64, size int) []byte {
	p := make([]byte, 8, 8+size)
	binary.LittleEndian.PutUint64(p, number)
	for i := range size {
		p = append(p, byte(number*31+uint64(i)*7))
	}
	return p
}

// documented says that an Append may fail so.
func documented(err error) bool {
	return errors.Is(err, seglog.ErrFailed) || errors.Is(err, seglog.ErrDiskFull) || errors.Is(err, seglog.ErrClosed)
}
