package day07

import (
	"bytes"
	"fmt"

	"github.com/nexuscore-labs/nexus/reports"
)

// scanner visits every record of a store that has stopped, each tenant's in
// the order of its sequence numbers.
type scanner func(dir string, visit func(tenant uint32, seq uint64, record []byte) error) error

// place is where a record was acknowledged to be.
type place struct {
	tenant uint32
	seq    uint64
}

// origin is who wrote a record.
type origin struct {
	writer uint32
	n      uint64
}

// oracle compares what a store holds with what a source asked for and was
// told. It is deliberately dumb: one map, every record looked at once.
type oracle struct {
	source   *source
	promised map[place]origin  // acknowledged and not yet seen
	last     map[uint64]uint64 // writer and tenant → n of its latest record, plus one
	expected []byte
	result   reports.OracleResult
}

// verify scans dir and counts every acknowledged record that is not there
// (lost), every record that was never asked for or is there twice (phantom),
// and every record with other bytes, at another place or out of its writer's
// order (wrong).
func verify(dir string, scan scanner, asked *source) (reports.OracleResult, error) {
	o := newOracle(asked)
	if err := scan(dir, o.visit); err != nil {
		return o.result, fmt.Errorf("read back the records in %s: %w", dir, err)
	}
	o.result.Lost += uint64(len(o.promised))
	for where, who := range o.promised {
		o.note("tenant %d record %d (writer %d, n %d) was acknowledged and is not there", where.tenant, where.seq, who.writer, who.n)
		break
	}
	return o.result, nil
}

func newOracle(asked *source) *oracle {
	o := &oracle{source: asked, promised: map[place]origin{}, last: map[uint64]uint64{}}
	for writer := range asked.writers {
		w := &asked.writers[writer]
		if w.problem != "" {
			o.wrong("%s", w.problem)
		}
		for _, a := range w.acks {
			where := place{w.tenants[a.n], a.seq}
			if _, twice := o.promised[where]; twice {
				o.wrong("tenant %d record %d was acknowledged to two writers", where.tenant, where.seq)
			}
			o.promised[where] = origin{uint32(writer), a.n}
		}
	}
	return o
}

// visit looks at one stored record.
func (o *oracle) visit(tenant uint32, seq uint64, record []byte) error {
	o.result.Checked++
	where := place{tenant, seq}
	who, acknowledged := o.promised[where]
	delete(o.promised, where)
	writer, n, signed := author(record)
	owner, asked := o.source.asked(writer, n)
	if !signed || !asked {
		o.phantom("tenant %d record %d was never asked for", tenant, seq)
		return nil
	}
	if acknowledged && (who != origin{writer, n}) {
		o.wrong("tenant %d record %d was acknowledged to writer %d as n %d and holds writer %d n %d", tenant, seq, who.writer, who.n, writer, n)
		return nil
	}
	if owner != tenant {
		o.wrong("tenant %d record %d belongs to tenant %d", tenant, seq, owner)
		return nil
	}
	o.expected = o.source.shape.append(o.expected[:0], writer, n)
	if !bytes.Equal(o.expected, record) {
		o.wrong("tenant %d record %d: its bytes changed", tenant, seq)
		return nil
	}
	o.order(tenant, seq, writer, n)
	return nil
}

// order holds that a writer's records stand in the order it wrote them.
func (o *oracle) order(tenant uint32, seq uint64, writer uint32, n uint64) {
	key := uint64(writer)<<32 | uint64(tenant)
	switch last := o.last[key]; {
	case n+1 == last:
		o.phantom("tenant %d record %d is there twice", tenant, seq)
	case n+1 < last:
		o.wrong("tenant %d record %d: writer %d wrote it before the one that precedes it", tenant, seq, writer)
	}
	o.last[key] = n + 1
}

func (o *oracle) wrong(format string, args ...any) {
	o.result.Wrong++
	o.note(format, args...)
}

func (o *oracle) phantom(format string, args ...any) {
	o.result.Phantom++
	o.note(format, args...)
}

// note keeps the first complaint, for the person who reads the report.
func (o *oracle) note(format string, args ...any) {
	if o.result.Note == "" {
		o.result.Note = fmt.Sprintf(format, args...)
	}
}
